"""How is a drawing put together so that no text in it can become markup?

Elements are built as a tree and written by the XML library, which escapes every attribute and text; drawings
never come from pasted strings.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from suite.report.words import clean

Value = str | float | int


def element(tag: str, attributes: dict[str, Value] | None = None, *children: Element, text: str = "") -> Element:
    """One element; numbers are written with at most one decimal, which is a tenth of a pixel."""
    node = Element(tag, {name: written(value) for name, value in (attributes or {}).items()})
    node.text = clean(text) or None
    node.extend(children)
    return node


def written(value: Value) -> str:
    """
    >>> written(2.0), written(2.25), written("x")
    ('2', '2.2', 'x')
    """
    if isinstance(value, str):
        return clean(value)
    return f"{value:.1f}".removesuffix(".0")


def drawing(width: float, height: float, label: str, *children: Element) -> str:
    """A whole picture of that many units, scaling to the width it gets; `label` is for those who cannot see it."""
    root = element(
        "svg",
        {"viewBox": f"0 0 {written(width)} {written(height)}", "role": "img", "aria-label": label},
        *children,
    )
    return tostring(root, encoding="unicode")


def titled(node: Element, title: str) -> Element:
    """The element with a tooltip."""
    node.insert(0, element("title", text=title))
    return node


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Element:
    return element("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": style})


def box(x: float, y: float, width: float, height: float, style: str, radius: float = 0) -> Element:
    """A rectangle; a width or height that would be negative is drawn as nothing."""
    attributes: dict[str, Value] = {
        "x": x,
        "y": y,
        "width": max(0.0, width),
        "height": max(0.0, height),
        "class": style,
    }
    return element("rect", attributes | ({"rx": radius} if radius else {}))


def words(x: float, y: float, text: str, style: str, **more: Value) -> Element:
    """A line of text; keyword names are attributes with '_' for '-'."""
    attributes: dict[str, Value] = {"x": x, "y": y, "class": style}
    return element("text", attributes | {k.replace("_", "-"): v for k, v in more.items()}, text=text)


def path(points: list[tuple[float, float]], style: str, closed: bool = False) -> Element:
    """A polyline through points."""
    steps = "L".join(f"{written(x)} {written(y)}" for x, y in points)
    return element("path", {"d": f"M{steps}{'Z' if closed else ''}", "class": style})
