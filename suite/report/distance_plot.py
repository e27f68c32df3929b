"""How is latency drawn against distance? One panel per operation, all on the same axes, a line per stage.

Points are medians by distance, small dots those of each block; the full line is the measured slope, the thin one the
predicted slope from the same start. Stages differ by colour and by the shape of their points.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from suite.report import svg
from suite.report.axis import Axis, axis_for
from suite.report.swept import Grown, Sweep, Swept
from suite.report.words import figure, milliseconds

WIDTH, HEIGHT = 360.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 62.0, 10.0, 36.0


@dataclass(frozen=True, slots=True)
class Plots:
    """All panels of a sweep, by name."""

    operations: Mapping[str, str]
    completions: Mapping[str, str]


def plots(sweep: Sweep) -> Plots:
    """Draw every operation on one scale, and every completion on another."""
    order = [stage.name for stage in sweep.stages]
    far = max(sweep.delays_ms, default=0.0) or 1.0
    return Plots(
        operations=_panels(sweep.operations, order, sweep.delays_ms, far),
        completions=_panels(sweep.completions, order, sweep.delays_ms, far),
    )


def _panels(kinds: Iterable[Swept], order: list[str], delays: tuple[float, ...], far: float) -> dict[str, str]:
    shown = list(kinds)
    values = [ms for swept in shown for grown in swept.stages for _, ms, _ in (*grown.points, *grown.blocks)]
    frame = _Frame(axis_for([max(values, default=1.0)]), far)
    return {swept.name: _panel(swept, order, delays, frame) for swept in shown}


@dataclass(frozen=True, slots=True)
class _Frame:
    """From distance and latency to places in a panel."""

    axis: Axis
    far: float

    def x(self, one_way_ms: float) -> float:
        return LEFT + min(1.0, max(0.0, one_way_ms / self.far)) * (WIDTH - LEFT - RIGHT)

    def y(self, ms: float) -> float:
        return TOP + (1 - self.axis.place(ms)) * (HEIGHT - TOP - BOTTOM)


def _panel(swept: Swept, order: list[str], delays: tuple[float, ...], frame: _Frame) -> str:
    parts = [*_grid(frame, delays)]
    for grown in swept.stages:
        parts += _lines(grown, order.index(grown.stage), frame)
    for grown in swept.stages:
        parts += _dots(grown, order.index(grown.stage), frame)
    parts += _labels(swept, order, frame)
    told = "; ".join(f"{g.stage} {_slope(g)}" for g in swept.stages)
    return svg.drawing(WIDTH, HEIGHT, f"{swept.name}: latency against distance; {told}", *parts)


def _grid(frame: _Frame, delays: tuple[float, ...]) -> Iterable[Element]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for ms in frame.axis.ticks_ms:
        yield svg.line(LEFT, frame.y(ms), right, frame.y(ms), "grid")
        said = milliseconds(ms).replace(".0 ", " ")
        yield svg.words(LEFT - 6, frame.y(ms) + 4, said, "tick", text_anchor="end")
    last = -99.0
    for distance in delays:
        yield svg.line(frame.x(distance), TOP, frame.x(distance), bottom, "grid")
        if frame.x(distance) - last >= 20:  # marks that would touch are left out
            yield svg.words(frame.x(distance), bottom + 15, f"{distance:g}", "tick", text_anchor="middle")
            last = frame.x(distance)
    yield svg.words((LEFT + right) / 2, HEIGHT - 5, "one way between systems, ms", "tick", text_anchor="middle")


def _lines(grown: Grown, number: int, frame: _Frame) -> Iterable[Element]:
    for kind, at in (("foreseen-line", grown.foreseen_ms), ("fit", grown.fitted_ms)):
        start, end = at(0.0), at(frame.far)
        if start is not None and end is not None:
            drawn = svg.path([(frame.x(0.0), frame.y(start)), (frame.x(frame.far), frame.y(end))], _style(kind, number))
            yield svg.titled(drawn, f"{grown.stage}: {_slope(grown)}")


def _dots(grown: Grown, number: int, frame: _Frame) -> Iterable[Element]:
    for distance, ms, _ in grown.blocks:
        yield svg.element("circle", {"cx": frame.x(distance), "cy": frame.y(ms), "r": 1.6, "class": "block"})
    for distance, ms, n in grown.points:
        mark = _mark(number, frame.x(distance), frame.y(ms))
        yield svg.titled(mark, f"{grown.stage}, {distance:g} ms one way: {milliseconds(ms)} median of {n} requests")


def _mark(number: int, x: float, y: float) -> Element:
    """A circle, a square, a triangle: no colour is needed to tell the stages apart."""
    style = _style("mark", number)
    if number % 3 == 0:
        return svg.element("circle", {"cx": x, "cy": y, "r": 4, "class": style})
    if number % 3 == 1:
        return svg.box(x - 3.6, y - 3.6, 7.2, 7.2, style)
    return svg.path([(x, y - 4.6), (x + 4.4, y + 3.4), (x - 4.4, y + 3.4)], style, closed=True)


def _labels(swept: Swept, order: list[str], frame: _Frame) -> Iterable[Element]:
    """Each stage and its slope at the end of its line, moved up where lines end at the same place."""
    ends = [(frame.y(end), g) for g in swept.stages if (end := g.fitted_ms(frame.far)) is not None]
    free = HEIGHT - BOTTOM
    for y, grown in sorted(ends, key=lambda e: -e[0]):
        low = min(y + 9, free)
        free = low - 24
        yield svg.words(WIDTH - RIGHT + 7, low - 11, grown.stage, _style("end", order.index(grown.stage)))
        yield svg.words(WIDTH - RIGHT + 7, low, f"{figure(grown.slope, digits=1)} trips", "tick")


def _style(kind: str, number: int) -> str:
    return f"{kind} stage-{number % 3}"


def _slope(grown: Grown) -> str:
    if grown.slope is None:
        return "no line"
    predicted = f", predicted {grown.predicted}" if grown.predicted is not None else ""
    return f"{figure(grown.slope, digits=1)} round trips{predicted}"
