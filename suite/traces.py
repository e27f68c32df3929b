"""What became of one request, from the edge to the last thing that followed from it? Spans and access logs joined.

    users -> [sidecar in] storefront  call  [sidecar out] (gateway) [sidecar in] orders  ... queue ... email

A sidecar writes no span: its access log line carries the trace and the span that sent the request, so it stands between
that span and the one of the service that answered. A gateway only passes TLS on; the line on the way out names it. What
waits for a consumer stands as a row of its own from the end of what sent it to the beginning of its handling: outbox,
broker and queue together. The line at the ingress has no trace yet; it is the one that encloses the first span.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.mesh import sidecar_of
from stages.messaging import Messaging, messaging
from stages.model import Stage
from suite.signals_lines import ACCESS, IN, INGRESS, OUT, OUTLIERS, Line, records

SKEW_NS = 2_000_000
"""A part of an exchange may seem to begin so much before the whole: clocks are read at different moments of it."""

SERVER, CLIENT, CONSUMER = "server", "client", "consumer"
HANDLE = "handle "
"""Spans of consumers are named 'handle OrderConfirmed'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A span that a service wrote."""

    trace_id: str
    span_id: str
    parent_id: str
    """'' where the trace begins."""
    service: str
    name: str
    kind: str
    start_ns: int
    """Since the epoch."""
    end_ns: int
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bar of a waterfall."""

    depth: int
    kind: str
    """'ingress', 'service', 'call', 'sidecar-out', 'gateway', 'sidecar-in', 'queue' or 'handler'."""
    name: str
    where: str
    """The service, sidecar, gateway or queue."""
    start_ns: int
    end_ns: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that was written about one request."""

    steps: tuple[Step, ...]
    """By start."""
    lines: tuple[Line, ...]
    """Those that carry its id, by start."""
    ingress: Line | None


def read_steps(directory: Path) -> list[Step]:
    """All services' spans in a directory, by start; what cannot be read is left out."""
    found: list[Step] = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        name = path.name.removesuffix(".gz")
        if name.endswith(".jsonl") and not name.endswith((ACCESS, OUTLIERS)):
            found += records(path, _step, lambda: None)
    return sorted(found, key=lambda s: s.start_ns)


def _step(raw: Mapping[str, Any]) -> Step:
    attributes = raw.get("attributes")
    status = attributes.get("http.response.status_code") if isinstance(attributes, dict) else None
    return Step(
        trace_id=str(raw["trace_id"]),
        span_id=str(raw["span_id"]),
        parent_id=str(raw.get("parent_id") or ""),
        service=str(raw["service"]),
        name=str(raw["name"]),
        kind=str(raw["kind"]),
        start_ns=int(raw["start_ns"]),
        end_ns=int(raw["end_ns"]),
        status=status if isinstance(status, int) else None,
    )


def traces(steps: Iterable[Step], lines: Iterable[Line]) -> dict[str, Trace]:
    """By id, of those that begin at a service's door."""
    spans: defaultdict[str, list[Step]] = defaultdict(list)
    logged: defaultdict[str, list[Line]] = defaultdict(list)
    doors: defaultdict[str, list[Line]] = defaultdict(list)
    for step in steps:
        spans[step.trace_id].append(step)
    for line in lines:
        if line.trace_id in spans:
            logged[line.trace_id].append(line)
        if line.side == INGRESS:
            doors[line.part].append(line)
    return {
        name: Trace(tuple(found), tuple(logged[name]), _ingress(root, doors[sidecar_of(root.service)]))
        for name, found in spans.items()
        if (root := _root(found)) is not None
    }


def _root(steps: Sequence[Step]) -> Step | None:
    return next((s for s in steps if s.kind == SERVER and not s.parent_id), None)


def _ingress(root: Step, lines: Sequence[Line]) -> Line | None:
    """The line that encloses the first span most closely, if its method fits; `lines` are by start."""
    last = bisect_right(lines, root.start_ns + SKEW_NS, key=lambda r: r.start_ns)
    method = root.name.partition(" ")[0]
    around = [
        r for r in lines[max(0, last - 50) : last] if r.end_ns + SKEW_NS >= root.end_ns and r.method in ("", method)
    ]
    return min(around, key=lambda r: abs(root.start_ns - r.start_ns) + abs(r.end_ns - root.end_ns), default=None)


def rows(trace: Trace, stage: Stage) -> list[Row]:
    """The waterfall: what caused what by depth, in order of start among equals."""
    return list(_Waterfall(trace, stage).rows())


class _Waterfall:
    def __init__(self, trace: Trace, stage: Stage) -> None:
        self._trace = trace
        self._needed: Messaging = messaging(stage)
        self._names = {s.name for s in stage.services}
        self._children: defaultdict[str, list[Step]] = defaultdict(list)
        known = {s.span_id for s in trace.steps}
        for step in trace.steps:
            self._children[step.parent_id if step.parent_id in known else ""].append(step)
        self._lines: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
        for line in trace.lines:
            self._lines[line.side, line.parent_id].append(line)

    def rows(self) -> Iterator[Row]:
        depth = 0
        if (door := self._trace.ingress) is not None:
            yield _row(0, "ingress", door, f"{door.method} {door.path}", _answer(door))
            depth = 1
        for step in self._children[""]:
            yield from self._of(step, depth, None)

    def _of(self, step: Step, depth: int, parent: Step | None) -> Iterator[Row]:
        if step.kind == CONSUMER:
            if parent is not None:
                yield self._queue(step, parent, depth)
                depth += 1
            yield Row(
                depth=depth,
                kind="handler",
                name=step.name.removeprefix(HANDLE),
                where=step.service,
                start_ns=step.start_ns,
                end_ns=step.end_ns,
            )
        else:
            yield Row(
                depth=depth,
                kind="call" if step.kind == CLIENT else "service",
                name=step.name,
                where=step.service,
                start_ns=step.start_ns,
                end_ns=step.end_ns,
                detail=str(step.status or ""),
            )
        inner = self._children[step.span_id]
        if step.kind == CLIENT:
            yield from self._exchange(step, inner, depth + 1)
            return
        for child in inner:
            yield from self._of(child, depth + 1, step)

    def _exchange(self, call: Step, inner: Sequence[Step], depth: int) -> Iterator[Row]:
        """A call: its lines on the way out, within each those on the way in, within these what the callee did."""
        sent, arrived = self._lines[OUT, call.span_id], self._lines[IN, call.span_id]
        for out in sent:
            yield _row(depth, "sidecar-out", out, f"{out.method} {out.path}", _answer(out))
            for into in arrived:
                if _latest(into.start_ns, sent) is out:
                    yield from self._arrival(into, out.gateway, arrived, inner, depth + 1, call)
        for into in arrived:
            if _latest(into.start_ns, sent) is None:
                yield from self._arrival(into, "", arrived, inner, depth, call)
        for step in inner:
            if _latest(step.start_ns, arrived) is None:
                yield from self._of(step, depth, call)

    def _arrival(
        self, into: Line, gateway: str, arrived: Sequence[Line], inner: Sequence[Step], depth: int, call: Step
    ) -> Iterator[Row]:
        if gateway:
            yield Row(
                depth=depth,
                kind="gateway",
                name="passes TLS on, by server name",
                where=gateway,
                start_ns=into.start_ns,
                end_ns=into.end_ns,
            )
            depth += 1
        yield _row(depth, "sidecar-in", into, f"{into.method} {into.path}", _answer(into))
        for step in inner:
            if _latest(step.start_ns, arrived) is into:
                yield from self._of(step, depth + 1, call)

    def _queue(self, step: Step, parent: Step, depth: int) -> Row:
        queue = self._needed.queue_of(step.service)
        message = step.name.removeprefix(HANDLE)
        topics = [
            s.topic for s in self._needed.subscriptions if queue and s.queue == queue.name and message in s.messages
        ]
        name = " → ".join([*topics[:1], queue.name if queue else "broker"])
        start_ns = parent.end_ns if parent.end_ns <= step.start_ns else parent.start_ns
        return Row(
            depth=depth,
            kind="queue",
            name=message,
            where=name,
            start_ns=start_ns,
            end_ns=max(start_ns, step.start_ns),
            detail=f"sent through {sidecar_of(parent.service)}, received through {sidecar_of(step.service)}"
            if self._trace.ingress is not None
            else "",
        )


def _row(depth: int, kind: str, line: Line, name: str, detail: str) -> Row:
    return Row(
        depth=depth,
        kind=kind,
        name=name,
        where=line.part,
        start_ns=line.start_ns,
        end_ns=line.end_ns,
        detail=detail,
    )


def _answer(line: Line) -> str:
    said = [str(line.status or "no answer"), *line.flags]
    if line.attempts > 1:
        said.append(f"{line.attempts} attempts")
    if line.side == IN and line.peer:
        said.append(f"from {line.peer}")
    return ", ".join(said)


def _latest(start_ns: int, lines: Sequence[Line]) -> Line | None:
    """The exchange in which something began: of several attempts, the last that had begun by then."""
    begun = [r for r in lines if r.start_ns - SKEW_NS <= start_ns <= r.end_ns + SKEW_NS]
    return max(begun, key=lambda r: r.start_ns, default=None)
