"""How does one request look from its beginning to its end? Bars under each other, one per part that it passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from suite.report import svg
from suite.report.edges_reading import Bar
from suite.report.words import milliseconds

KINDS = {
    "ingress": "sidecar",
    "service": "service",
    "call": "call",
    "sidecar-out": "sidecar",
    "gateway": "gateway",
    "sidecar-in": "sidecar",
    "queue": "queue",
    "handler": "service",
}
"""Kind of a row -> the colour of its bar."""

WORDS = {
    "ingress": "in from users",
    "service": "answers",
    "call": "calls",
    "sidecar-out": "out",
    "gateway": "gateway",
    "sidecar-in": "in",
    "queue": "waits",
    "handler": "handles",
}

WIDTH, LABELS, FIGURES = 1180.0, 430.0, 64.0
ROW, TOP = 21.0, 24.0
INDENT = 11.0
TICKS = (1.0, 2.0, 5.0)


def waterfall(title: str, bars: Sequence[Bar]) -> str:
    """The drawing; bars are as wide as they lasted, at least a line."""
    end_ms = max((b.start_ms + b.ms for b in bars), default=0.0) or 1.0
    scale = (WIDTH - LABELS - FIGURES) / end_ms
    height = TOP + ROW * len(bars) + 6
    parts = [*_grid(end_ms, scale, height)]
    for n, bar in enumerate(bars):
        parts += _row(bar, TOP + n * ROW, scale)
    return svg.drawing(WIDTH, height, f"{title}: {len(bars)} parts within {milliseconds(end_ms)}", *parts)


def _grid(end_ms: float, scale: float, height: float) -> Iterator[Element]:
    step = _step(end_ms)
    n = 0
    while n * step <= end_ms:
        x = LABELS + n * step * scale
        yield svg.line(x, TOP - 6, x, height, "grid")
        yield svg.words(x, TOP - 11, f"{n * step:g} ms", "tick", text_anchor="middle")
        n += 1


def _step(end_ms: float) -> float:
    """A round number of milliseconds, between four and ten of which fit."""
    unit = 10.0**-3
    while unit < end_ms:
        for n in TICKS:
            if end_ms / (unit * n) <= 10:
                return unit * n
        unit *= 10
    return unit


def _row(bar: Bar, y: float, scale: float) -> Iterator[Element]:
    x, width = LABELS + bar.start_ms * scale, max(2.0, bar.ms * scale)
    said = f"{bar.where} {WORDS.get(bar.kind, bar.kind)} {bar.name}"
    label = svg.element(
        "text",
        {"x": min(bar.depth, 14) * INDENT, "y": y + 13, "class": "fall-name"},
        svg.element("tspan", {"class": "fall-where"}, text=_short(bar.where, 34)),
        svg.element("tspan", {"class": "fall-what"}, text=f" {WORDS.get(bar.kind, bar.kind)} {_short(bar.name, 30)}"),
    )
    yield svg.titled(label, said)
    frame = svg.box(x, y + 2, width, ROW - 6, f"fall {KINDS.get(bar.kind, 'call')}", radius=2)
    told = f"{said}: {milliseconds(bar.ms)}, {milliseconds(bar.start_ms)} after the beginning"
    yield svg.titled(frame, f"{told}; {bar.detail}" if bar.detail else told)
    yield svg.words(x + width + 4, y + 13, milliseconds(bar.ms), "tick")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
