"""What could a simulated run have left of its sidecars and services? Access logs, outlier events and spans, as files.

Made from the history of `suite.report.testing.sample` and a seed, as Envoy and the services write them: some lines cut,
as by a kill. The time of day is the run's clock plus OFFSET_NS.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from stages.blast_radius import Impact
from stages.history import Invocation, Record
from stages.mesh import calls, crosses, gateway_of, identity, sidecar_of
from stages.model import Channel, Kind, Stage
from suite.signals import Window, windows
from suite.signals_breakers import cuts

OFFSET_NS = 1_790_000_000_000_000_000 - 71_000_000_000_000
SAMPLED = 0.1
ROUTES = {
    "browse": ("GET", "/products"),
    "register": ("POST", "/accounts"),
    "place-order": ("POST", "/orders"),
    "track-order": ("GET", "/orders/{order_id}"),
    "cancel-order": ("DELETE", "/orders/{order_id}"),
    "insights": ("GET", "/insights"),
}

Json = dict[str, Any]


def write(
    directory: Path, stage: Stage, history: Sequence[Record], impacts: Mapping[str, Impact], *, seed: int = 7
) -> None:
    """Every file that such a run would leave in its traces directory."""
    directory.mkdir(parents=True, exist_ok=True)
    files = _Files(stage, history, impacts, Random(seed)).made()
    for name, lines in files.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        cut = '{"start": "17900' if name.endswith(".access.jsonl") else ""
        (directory / name).write_text(text + cut)


class _Files:
    def __init__(self, stage: Stage, history: Sequence[Record], impacts: Mapping[str, Impact], rng: Random) -> None:
        self._stage = stage
        self._rng = rng
        self._impacts = impacts
        self._windows = [w for w in windows(history) if w.injected_ns is not None]
        self._asked = [r for r in history if isinstance(r, Invocation)]
        self._files: defaultdict[str, list[Json]] = defaultdict(list)

    def made(self) -> Mapping[str, list[Json]]:
        for i in self._asked:
            self._one(i)
        for window in self._windows:
            for channel in calls(self._stage):
                if cuts(self._stage, self._impacts[window.name], channel):
                    self._eject(channel, window)
        return self._files

    def _one(self, i: Invocation) -> None:
        entry = self._stage.operation(i.operation).entry
        start_ns = i.started_ns + OFFSET_NS
        length_ns = max(4_000_000, i.ended_ns - i.started_ns)
        sampled = self._rng.random() < SAMPLED
        trace, root = self._id(32), self._id(16)
        method, path = ROUTES[i.operation]
        door = {"method": method, "path": path, "status": i.status or 0, "flags": "-" if i.status else "DC"}
        self._line(sidecar_of(entry), "ingress", start_ns, length_ns, door | {"edge": f"users-{entry}"})
        inner = start_ns + 300_000, length_ns - 600_000
        if sampled:
            self._span(entry, trace, root, None, f"{method} {path}", "server", *inner, i.status)
        at, left = inner[0] + 400_000, inner[1] - 800_000
        for channel in self._stage.channels_from(entry, i.operation):
            if channel.kind is Kind.CALL and (i.degraded or channel.callee != "cache"):
                self._call(channel, i, at, int(left * 0.8), trace if sampled else "", root)

    def _call(self, channel: Channel, i: Invocation, at: int, length: int, trace: str, root: str) -> None:
        hit = self._hit(channel, i.intended_ns)
        method, path = ROUTES[i.operation]
        client = self._id(16)
        context = f"00-{trace or self._id(32)}-{client}-{'01' if trace else '00'}"
        gateway = gateway_of(self._stage.cluster_of(channel.callee)) if crosses(self._stage, channel) else None
        line: Json = {"method": method, "path": path, "traceparent": context, "edge": channel.name, "gateway": gateway}
        line |= {"status": 200, "flags": "-", "version": "v1", "attempts": 1}
        if hit is not None:
            refused = i.intended_ns > hit.span.start_ns + 300_000_000
            line |= {
                "status": 503,
                "flags": "UH" if refused else "UF,URX",
                "attempts": 1 if refused else channel.attempts,
            }
            length = 200_000 if refused else 5_000_000
        if trace:
            name = f"{method} {path}"
            self._span(channel.caller, trace, client, root, name, "client", at, length + 400_000, None)
        self._line(sidecar_of(channel.caller), "out", at + 200_000, length, line)
        if hit is None:
            peer = identity(self._stage, channel.caller)
            into = {k: v for k, v in line.items() if k not in ("edge", "gateway")} | {"peer": peer}
            self._line(sidecar_of(channel.callee), "in", at + 500_000, length - 600_000, into)
            self._serve(channel, i, at + 700_000, length - 1_000_000, trace, client)

    def _serve(self, channel: Channel, i: Invocation, at: int, length: int, trace: str, client: str) -> None:
        if not trace:
            return
        span = self._id(16)
        method, path = ROUTES[i.operation]
        self._span(channel.callee, trace, span, client, f"{method} {path}", "server", at, max(0, length), 200)
        self._tell(channel.callee, i, at + length, trace, span)

    def _tell(self, producer: str, i: Invocation, at: int, trace: str, parent: str) -> None:
        for channel in self._stage.channels_from(producer, i.operation):
            if channel.kind is Kind.CALL:
                continue
            span, wait = self._id(16), int(self._rng.lognormvariate(1.8, 0.5) * 1e6)
            self._span(
                channel.callee,
                trace,
                span,
                parent,
                f"handle {channel.messages[0]}",
                "consumer",
                at + wait,
                3_000_000,
                None,
            )

    def _eject(self, channel: Channel, window: Window) -> None:
        assert window.injected_ns is not None
        event = {
            "type": "CONSECUTIVE_GATEWAY_FAILURE",
            "cluster_name": f"{channel.callee}_v1",
            "upstream_url": "127.0.0.1:22001",
            "enforced": True,
            "secs_since_last_action": "0",
            "eject_consecutive_event": {},
        }
        part = f"{sidecar_of(channel.caller)}.outliers.jsonl"
        for at, action in (
            (window.injected_ns + 250_000_000, "EJECT"),
            ((window.undone_ns or 0) + 1_200_000_000, "UNEJECT"),
        ):
            when = datetime.fromtimestamp((at + OFFSET_NS) / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self._files[part].append(event | {"timestamp": when, "action": action, "num_ejections": 1})

    def _hit(self, channel: Channel, at: int) -> Window | None:
        for w in self._windows:
            if w.injected_ns is not None and w.injected_ns <= at < (w.undone_ns or w.span.end_ns):
                return w if cuts(self._stage, self._impacts[w.name], channel) else None
        return None

    def _line(self, part: str, side: str, start_ns: int, length_ns: int, more: Json) -> None:
        line = {
            "start": f"{start_ns // 1_000_000_000}.{start_ns % 1_000_000_000 // 1000:06d}",
            "side": side,
            "part": part,
            "duration_ms": max(0, length_ns) // 1_000_000,
            "duration_us": max(0, length_ns) // 1000,
            "upstream_ms": max(0, length_ns) // 1_000_000,
            "bytes": 512,
        }
        self._files[f"{part}.access.jsonl"].append(line | more)

    def _span(
        self,
        service: str,
        trace: str,
        span: str,
        parent: str | None,
        name: str,
        kind: str,
        at: int,
        length: int,
        status: int | None,
    ) -> None:
        self._files[f"{service}.jsonl"].append(
            {
                "trace_id": trace,
                "span_id": span,
                "parent_id": parent,
                "service": service,
                "name": name,
                "kind": kind,
                "start_ns": at,
                "end_ns": at + max(0, length),
                "attributes": {} if status is None else {"http.response.status_code": status},
            }
        )

    def _id(self, digits: int) -> str:
        return f"{self._rng.getrandbits(digits * 4):0{digits}x}"
