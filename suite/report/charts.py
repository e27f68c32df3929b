"""How is latency drawn: over time with the faults behind it, and as a distribution without them?

The drawings use classes, no colours: the page's style sheet colours them, in light, dark and print.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from xml.etree.ElementTree import Element

from suite.report import svg
from suite.report.axis import Axis, axis_for
from suite.report.series import Bin, Distribution, Series, Window
from suite.report.words import duration, line, milliseconds

WIDTH = 1000.0
LEFT = 58.0
RIGHT = 10.0
PLOT = 92.0
"""Height of the latency plot; the lane of bad requests is below it."""
LANE = 16.0
RIBBON = 124.0
"""Height of the slanted fault names."""
BINS_MOST = 300
"""More than this many points on a thousand pixels are not seen: they are merged, the worst stays visible."""


def shared_axis(series: Iterable[Series], slo_ms: Iterable[float]) -> Axis:
    """One axis for every operation and stage of a report, so that heights can be compared."""
    values = [v for s in series for bins in s.bins.values() for b in bins for v in (b.p50_ms, b.p99_ms)]
    return axis_for([*values, *slo_ms])


def timeline(operation: str, series: Series, axis: Axis, slo_ms: float | None) -> str:
    """Latency of one operation: median, band up to p99, objective; below, the share of bad requests."""
    scale = _Time(series.length_s)
    bins = merged(series.bins.get(operation, ()), series.length_s)
    parts = [*_shades(series, scale, PLOT + LANE + 4), *_grid(axis)]
    if slo_ms is not None:
        parts += _objective(axis, slo_ms)
    parts += [e for run in _runs(bins) for e in _curve(run, axis, scale)]
    parts += _lane(bins, scale)
    total = sum(b.count for b in bins)
    bad = sum(b.bad for b in bins)
    label = f"{operation}: latency over {duration(series.length_s)}, {total} requests, {bad} bad"
    return svg.drawing(WIDTH, PLOT + LANE + 8, label, *parts)


def ribbon(series: Series) -> str:
    """The names of the faults above the small multiples, each leaning over the start of its window."""
    scale = _Time(series.length_s)
    parts: list[Element] = []
    for window in series.windows:
        x = scale(window.start_s)
        middle = (x + scale(window.end_s)) / 2
        tilt = f"rotate(38 {svg.written(middle)} {svg.written(RIBBON - 10)})"
        name = svg.words(middle, RIBBON - 10, line(window.fault, 27), "tag", text_anchor="end", transform=tilt)
        parts += [svg.titled(name, _window_words(window)), svg.box(x, RIBBON - 5, scale(window.end_s) - x, 5, "tab")]
    label = "faults: " + ", ".join(w.fault for w in series.windows)
    return svg.drawing(WIDTH, RIBBON, label, *parts)


def seconds_axis(series: Series) -> str:
    """The time axis below the small multiples."""
    scale = _Time(series.length_s)
    step = next((s for s in (5, 10, 20, 30, 60, 120, 300, 600) if series.length_s / s <= 14), 1800)
    marks = range(0, int(series.length_s) + 1, step)
    said = [f"{s} s" if series.length_s < 120 else f"{s // 60}:{s % 60:02d}" for s in marks]
    parts = [svg.words(scale(s), 13, text, "tick", text_anchor="middle") for s, text in zip(marks, said, strict=True)]
    return svg.drawing(WIDTH, 18, f"time, a mark every {step} s", *parts)


def distribution(operation: str, stages: Mapping[str, Distribution], slo_ms: float | None, axis: Axis) -> str:
    """Share of baseline requests at most as slow as x, one line per stage."""
    width, height, left, bottom = 320.0, 132.0, 34.0, 20.0
    plot_w, plot_h = width - left - 8, height - bottom - 6

    def x(ms: float) -> float:
        return left + axis.place(ms) * plot_w

    def y(share: float) -> float:
        return 6 + (1 - share) * plot_h

    parts: list[Element] = []
    for share in (0.0, 0.5, 1.0):
        parts.append(svg.line(left, y(share), width - 8, y(share), "grid"))
        parts.append(svg.words(left - 5, y(share) + 4, f"{share:.0%}", "tick", text_anchor="end"))
    for ms in axis.ticks_ms:
        parts.append(svg.line(x(ms), 6, x(ms), height - bottom, "grid"))
        parts.append(svg.words(x(ms), height - 5, milliseconds(ms).replace(".0", ""), "tick", text_anchor="middle"))
    if slo_ms is not None:
        objective = svg.line(x(slo_ms), 2, x(slo_ms), height - bottom, "slo")
        parts.append(svg.titled(objective, f"objective {milliseconds(slo_ms)}"))
    for index, (stage, found) in enumerate(stages.items()):
        points = [(x(found.points[0][0]), y(0.0)), *((x(ms), y(share)) for ms, share in found.points)]
        curve = svg.path(points, f"ecdf stage-{index % 3}")
        parts.append(svg.titled(curve, f"{stage}: {found.n} requests"))
    return svg.drawing(width, height, f"{operation}: distribution of latency without faults", *parts)


def merged(bins: Sequence[Bin], length_s: float) -> list[Bin]:
    """At most BINS_MOST bins: counts add up, the median of the medians, the worst of the tails."""
    width = max(1, -(-int(length_s + 1) // BINS_MOST))
    if width == 1:
        return list(bins)
    groups: dict[int, list[Bin]] = {}
    for each in bins:
        groups.setdefault(each.second // width * width, []).append(each)
    return [
        Bin(
            second=second,
            count=sum(b.count for b in group),
            bad=sum(b.bad for b in group),
            degraded=sum(b.degraded for b in group),
            p50_ms=median(b.p50_ms for b in group),
            p95_ms=max(b.p95_ms for b in group),
            p99_ms=max(b.p99_ms for b in group),
        )
        for second, group in sorted(groups.items())
    ]


class _Time:
    """Seconds to the horizontal position."""

    def __init__(self, length_s: float) -> None:
        self._per_s = (WIDTH - LEFT - RIGHT) / max(length_s, 1.0)
        self.bin_width = max(1.0, self._per_s * max(1, -(-int(length_s + 1) // BINS_MOST)))

    def __call__(self, seconds: float) -> float:
        return LEFT + max(0.0, seconds) * self._per_s


def _height(axis: Axis, ms: float) -> float:
    return 4 + (1 - axis.place(ms)) * (PLOT - 8)


def _shades(series: Series, scale: _Time, height: float) -> list[Element]:
    """Fault windows, the way back to health after each, and stalls of the machine, behind everything."""
    parts: list[Element] = []
    for window in series.windows:
        start, end = scale(window.start_s), scale(window.end_s)
        parts.append(svg.titled(svg.box(start, 0, end - start, height, "fault"), _window_words(window)))
        if window.recovered_s is not None and window.recovered_s > window.end_s:
            parts.append(svg.box(end, 0, scale(window.recovered_s) - end, height, "recovery-shade"))
    for stall in series.stalls:
        start, end = scale(stall.start_s), scale(stall.end_s)
        shade = svg.box(start, 0, max(1.5, end - start), height, "stall")
        parts.append(svg.titled(shade, f"{stall.name} stalled for {duration(stall.end_s - stall.start_s)}"))
    return parts


def _window_words(window: Window) -> str:
    said = f"{window.fault}: {duration(window.end_s - window.start_s)}"
    if window.trouble:
        return f"{said}; {line(window.trouble, 120)}"
    if window.recovered_s is None:
        return f"{said}; recovery not seen"
    return f"{said}; recovered {duration(max(0.0, window.recovered_s - window.end_s))} after the undo"


def _grid(axis: Axis) -> list[Element]:
    parts: list[Element] = []
    for ms in axis.ticks_ms:
        y = _height(axis, ms)
        parts.append(svg.line(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(svg.words(LEFT - 6, y + 4, milliseconds(ms).replace(".0 ", " "), "tick", text_anchor="end"))
    return parts


def _objective(axis: Axis, slo_ms: float) -> list[Element]:
    y = _height(axis, slo_ms)
    mark = svg.titled(svg.line(LEFT, y, WIDTH - RIGHT, y, "slo"), f"objective {milliseconds(slo_ms)}")
    return [mark, svg.words(WIDTH - RIGHT, y - 3, f"objective {milliseconds(slo_ms)}", "slo-tag", text_anchor="end")]


def _runs(bins: Sequence[Bin]) -> list[list[Bin]]:
    """Stretches without a hole: a line must not be drawn where nothing was measured."""
    runs: list[list[Bin]] = []
    usual = min((b.second - a.second for a, b in pairwise(bins)), default=1)
    for each in bins:
        if runs and each.second - runs[-1][-1].second <= 3 * usual:
            runs[-1].append(each)
        else:
            runs.append([each])
    return runs


def _curve(run: Sequence[Bin], axis: Axis, scale: _Time) -> list[Element]:
    across = [scale(b.second + 0.5) for b in run]
    middle = [(x, _height(axis, b.p50_ms)) for x, b in zip(across, run, strict=True)]
    tail = [(x, _height(axis, b.p99_ms)) for x, b in zip(across, run, strict=True)]
    return [
        svg.path([*tail, *reversed(middle)], "band", closed=True),
        svg.path(tail, "tail"),
        svg.path(middle, "median"),
    ]


def _lane(bins: Sequence[Bin], scale: _Time) -> list[Element]:
    """Bars that grow downwards with the share of bad requests, and of stale answers."""
    base = PLOT + 6
    parts = [
        svg.line(LEFT, base, WIDTH - RIGHT, base, "grid"),
        svg.words(LEFT - 6, base + 11, "bad", "tick", text_anchor="end"),
    ]
    for each in bins:
        x, width = scale(each.second), scale.bin_width
        if each.degraded:
            both = min(each.count, each.degraded + each.bad)  # the bad ones are drawn over it
            parts.append(svg.box(x, base, width, both / each.count * LANE, "stale"))
        if each.bad:
            parts.append(svg.box(x, base, width, each.bad / each.count * LANE, "bad"))
    return parts
