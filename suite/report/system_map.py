"""What does the stage look like: who calls or tells whom, grouped by system and cluster?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from stages.messaging import Queue, messaging
from stages.model import Channel, Kind, Stage
from suite.report import svg
from suite.report.layout import Layout, lay_out
from suite.report.message_map import QUEUE_W, is_topic, queue_glyph, queues_of, topic_node, with_topics
from suite.report.placing import (
    CLUSTER_HEAD,
    CLUSTER_PAD,
    LABELLED,
    MARGIN,
    PLAIN,
    SYSTEM_HEAD,
    SYSTEM_PAD,
    Rect,
    place,
    ports_of,
)

LETTER_W = 4.9
"""Of a letter on a line, about."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was measured on an edge, to be written on its line."""

    label: str
    told: str
    """In full, for the tooltip."""
    style: str
    """A class of the line and its label, '' for none."""
    width: float
    """Of the line."""


def system_map(stage: Stage, prefix: str = "map", marks: Mapping[str, Mark] | None = None) -> str:
    """The stage as SVG. `prefix` makes the ids of its arrow heads unique on a page with several maps.

    `marks` is by channel name, and 'users-<entry>' for the way in; other edges are drawn as in the model.
    """
    drawn, queues = with_topics(stage), queues_of(messaging(stage))
    layout = lay_out(drawn)
    room = LABELLED if marks else PLAIN
    nodes = place(drawn, layout, queues, room)
    found = _by_drawn_name(stage, drawn, marks or {})
    boxes = {s.name: _around([nodes[x.name] for x in drawn.services if x.system == s.name]) for s in stage.systems}
    systems = {name: r.grown(SYSTEM_PAD, SYSTEM_HEAD) for name, r in boxes.items() if r is not None}
    clusters = _clusters(stage, systems)
    parts = [_arrow_heads(prefix), *_cluster_boxes(stage, clusters), *_system_boxes(stage, systems)]
    entries = sorted({o.entry for o in stage.operations} & nodes.keys())
    parts += [e for name in entries for e in _users(nodes[name], prefix, found.get(f"users-{name}"))]
    parts += _lines(drawn, layout, nodes, queues, prefix, found, room.port)
    parts += _nodes(drawn, layout, nodes, queues, room.port)
    frames = [*nodes.values(), *systems.values(), *clusters.values()]
    right, bottom = max(r.x2 for r in frames) + MARGIN, max(r.y2 for r in frames) + MARGIN
    return svg.drawing(right, bottom, f"system map of stage {stage.name}: {stage.title}", *parts)


def _by_drawn_name(stage: Stage, drawn: Stage, marks: Mapping[str, Mark]) -> dict[str, Mark]:
    """Marks by the names that channels have on the map, where an event's line begins at its topic."""
    renamed = {c.name: d.name for c, d in zip(stage.channels, drawn.channels, strict=False)}
    return {renamed.get(name, name): mark for name, mark in marks.items()}


def _nodes(
    drawn: Stage, layout: Layout, nodes: dict[str, Rect], queues: Mapping[str, tuple[Queue, ...]], apart: float
) -> Iterable[Element]:
    """Services with their queues at the door, and topics."""
    ports = ports_of(layout)
    for service in drawn.services:
        at = nodes[service.name]
        if is_topic(service):
            yield topic_node(service.name, at)
            continue
        mine, into = queues.get(service.name, ()), ports[service.name][0]
        if mine:
            ends = [
                _port(at, n, len(into), apart)
                for n, spot in enumerate(into)
                if _by_message(drawn, layout, spot, service.name)
            ] or [at.y2 - 9]  # replies come back: their lines are not drawn
            yield queue_glyph(mine, at, min(ends), max(ends))
        yield _node(service.name, service.summary, at, service.database, tuple(q.name for q in mine))


def _by_message(stage: Stage, layout: Layout, spot: str, service: str) -> bool:
    """Whether the line that reaches a service from a spot carries messages."""
    routes = (layout.routes.get(c.name, ()) for c in stage.channels if c.kind is not Kind.CALL)
    return any(route[-2:] == (spot, service) for route in routes)


def _lines(
    stage: Stage,
    layout: Layout,
    nodes: dict[str, Rect],
    queues: Collection[str],
    prefix: str,
    marks: Mapping[str, Mark],
    apart: float,
) -> Iterable[Element]:
    ports = ports_of(layout)
    labels: list[Element] = []
    for channel in stage.channels:
        route = layout.routes.get(channel.name)
        if route is None:
            continue
        steps = [_step(a, b, nodes, ports, apart) for a, b in pairwise(route)]
        if channel.kind is not Kind.CALL and channel.callee in queues:
            (start, end) = steps[-1]
            steps[-1] = start, (end[0] - QUEUE_W, end[1])
        style = channel.kind.value if channel.essential else f"{channel.kind.value} optional"
        attributes: dict[str, svg.Value] = {
            "d": f"M{_at(steps[0][0])}" + "".join(_curve(*s) for s in steps),
            "class": f"channel {style}",
            "marker-end": f"url(#{prefix}-{channel.kind.value})",
        }
        mark = marks.get(channel.name)
        if mark is not None:
            attributes |= _marked(mark, str(attributes["class"]))
            labels.append(_label(mark, steps[-1][1]))
        told = channel_words(channel) if mark is None else f"{mark.told}. {channel_words(channel)}"
        yield svg.titled(svg.element("path", attributes), told)
    yield from labels


def _marked(mark: Mark, style: str) -> dict[str, svg.Value]:
    return {"class": f"{style} {mark.style}".rstrip(), "style": f"stroke-width:{svg.written(mark.width)}"}


def _label(mark: Mark, end: tuple[float, float]) -> Element:
    at = end[0] - 11, end[1] - 2.5
    width = len(mark.label) * LETTER_W
    plate = svg.box(at[0] - width - 2, at[1] - 8.5, width + 4, 10.5, "edge-plate", radius=2)
    words = svg.words(*at, mark.label, f"edge-label {mark.style}".rstrip(), text_anchor="end")
    return svg.titled(svg.element("g", None, plate, words), mark.told)


def _step(
    a: str, b: str, nodes: dict[str, Rect], ports: dict[str, tuple[list[str], list[str]]], apart: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    out, into = ports[a][1], ports[b][0]
    start = nodes[a].x2, _port(nodes[a], out.index(b), len(out), apart)
    end = nodes[b].x1, _port(nodes[b], into.index(a), len(into), apart)
    return start, end


def _port(node: Rect, index: int, count: int, apart: float) -> float:
    return (node.y1 + node.y2) / 2 + (index - (count - 1) / 2) * apart * (node.y2 > node.y1)


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A bow that leaves and arrives horizontally; it first crosses the lane it starts in."""
    bend = max(24.0, abs(end[0] - start[0]) * 0.45)
    return f"L{_at(start)}C{_at((start[0] + bend, start[1]))} {_at((end[0] - bend, end[1]))} {_at(end)}"


def _at(point: tuple[float, float]) -> str:
    return f"{svg.written(point[0])} {svg.written(point[1])}"


def channel_words(channel: Channel) -> str:
    """Everything that a channel promises, in one sentence."""
    said = [f"{channel.caller} → {channel.callee}: {channel.kind.value} over {channel.transport.value}"]
    if channel.kind is Kind.CALL:
        said.append(f"timeout {channel.timeout_ms} ms" if channel.timeout_ms else "no timeout")
        said.append(f"{channel.attempts} attempts" if channel.attempts > 1 else "one attempt")
        said.append("breaker" if channel.breaker else "no breaker")
    else:
        said.append(f"delivered {channel.delivery.value}")
    if channel.fallback:
        said.append(f"falls back to {channel.fallback}")
    if not channel.essential:
        said.append("its failure is ignored")
    if channel.via:
        said.append("through " + ", ".join(channel.via))
    return f"{', '.join(said)}; for {', '.join(channel.operations)}"


def _node(name: str, summary: str, at: Rect, database: bool, queues: Sequence[str]) -> Element:
    middle = (at.x1 + at.x2) / 2, (at.y1 + at.y2) / 2
    up = 7.0 if queues else 0.0
    parts = [
        svg.element("title", text=f"{name}: {summary}" + ("" if database else " (no database)")),
        svg.box(at.x1, at.y1, at.x2 - at.x1, at.y2 - at.y1, "service", radius=5),
        svg.words(middle[0], middle[1] + 4.5 - up, name, "service-name", text_anchor="middle"),
    ]
    if queues:
        parts.append(svg.words(middle[0], middle[1] + 11.5, ", ".join(queues), "queue-name", text_anchor="middle"))
    return svg.element("g", None, *parts)


def _users(entry: Rect, prefix: str, mark: Mark | None) -> list[Element]:
    y = (entry.y1 + entry.y2) / 2
    end = entry.x1
    attributes: dict[str, svg.Value] = {
        "d": f"M{_at((MARGIN + 44, y))}L{_at((end, y))}",
        "class": "channel call",
        "marker-end": f"url(#{prefix}-call)",
    }
    if mark is None:
        return [svg.words(MARGIN, y + 4, "users", "service-name"), svg.element("path", attributes)]
    arrow = svg.titled(svg.element("path", attributes | _marked(mark, "channel call")), mark.told)
    return [svg.words(MARGIN, y + 4, "users", "service-name"), arrow, _label(mark, (end, y - 4))]


def _around(rects: Sequence[Rect]) -> Rect | None:
    if not rects:
        return None
    return Rect(min(r.x1 for r in rects), min(r.y1 for r in rects), max(r.x2 for r in rects), max(r.y2 for r in rects))


def _clusters(stage: Stage, systems: dict[str, Rect]) -> dict[str, Rect]:
    """Boxes around the systems of each cluster; none at all where two would overlap."""
    found: dict[str, Rect] = {}
    for cluster in stage.clusters:
        members = [systems[s.name] for s in stage.systems if s.cluster == cluster.name and s.name in systems]
        around = _around(members)
        if around is not None:
            found[cluster.name] = around.grown(CLUSTER_PAD, CLUSTER_HEAD)
    boxes = list(found.values())
    return {} if any(a.meets(b) for n, a in enumerate(boxes) for b in boxes[n + 1 :]) else found


def _cluster_boxes(stage: Stage, clusters: dict[str, Rect]) -> list[Element]:
    network = {c.name: c.network for c in stage.clusters}
    return [e for name, r in clusters.items() for e in _box(r, "cluster", f"cluster {name}  {network[name]}")]


def _system_boxes(stage: Stage, systems: dict[str, Rect]) -> list[Element]:
    owner = {s.name: s.owner for s in stage.systems}
    return [e for n, r in systems.items() for e in _box(r, "system", n, owner[n] or "no owner of its own")]


def _box(at: Rect, style: str, title: str, more: str = "") -> list[Element]:
    frame = svg.box(at.x1, at.y1, at.x2 - at.x1, at.y2 - at.y1, style, radius=8)
    return [
        frame,
        svg.words(at.x1 + 12, at.y1 + 17, title, f"{style}-name"),
        *([svg.words(at.x1 + 12, at.y1 + 32, more, "owner-name")] if more else []),
    ]


def _arrow_heads(prefix: str) -> Element:
    heads = [
        svg.element(
            "marker",
            {
                "id": f"{prefix}-{kind.value}",
                "viewBox": "0 0 8 8",
                "refX": "7.5",
                "refY": "4",
                "markerWidth": "7",
                "markerHeight": "7",
                "orient": "auto-start-reverse",
            },
            svg.element("path", {"d": "M0 .8 8 4 0 7.2z", "class": f"head {kind.value}"}),
        )
        for kind in Kind
    ]
    return svg.element("defs", None, *heads)
