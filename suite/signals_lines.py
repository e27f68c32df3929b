"""What do the sidecars of a run say of each exchange, and of each callee that they left alone? Files in, records out.

    <part>.access.jsonl     one line per exchange, by each of the two sidecars that it passes
    <part>.outliers.jsonl   one line per ejection and per return of a callee's address (Envoy's outlier event log)

Whoever wrote them may have been killed in mid-line: what cannot be read is counted, and never stops the rest. Times
stay as they are written, nanoseconds since the epoch; `suite.signals_clock` lays them beside the history.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

ACCESS, OUTLIERS = ".access.jsonl", ".outliers.jsonl"
"""How the files of a part end; '.gz' may follow."""

OUT, IN, INGRESS = "out", "in", "ingress"
"""Which listener of a sidecar speaks: towards callees, from callers, from users."""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One exchange, as one sidecar saw it."""

    start_ns: int
    """When the request arrived there, since the epoch."""
    side: str
    part: str
    """The sidecar, such as 'storefront-sidecar'."""
    edge: str
    """'storefront-inventory' on the way out, 'users-storefront' at the ingress, '' on the way in."""
    version: str
    """Of the callee, '' if unknown."""
    peer: str
    """Identity in the caller's certificate, '' without one."""
    method: str
    path: str
    status: int
    """0 where no answer was given."""
    flags: tuple[str, ...]
    """Why Envoy itself ended it: 'UF' no connection, 'UH' no healthy callee, 'UO' too many under way, ..."""
    duration_ms: float
    upstream_ms: float | None
    """Until the next party's answer began, None where there was none."""
    trace_id: str
    """'' where the request carried no context; then `parent_id` is '' too."""
    parent_id: str
    """The span that sent the request."""
    gateway: str
    """Through which it left the cluster, '' inside."""
    attempts: int

    @property
    def end_ns(self) -> int:
        return self.start_ns + int(self.duration_ms * 1e6)

    @property
    def good(self) -> bool:
        """An answer that is no breakdown; a refusal such as 404 or 409 is one."""
        return 0 < self.status < 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A sidecar stops sending to an address, or takes it up again."""

    at_ns: int
    """Since the epoch."""
    part: str
    cluster: str
    """Envoy's name for the callee."""
    address: str
    ejected: bool
    """False: it is back."""
    why: str
    """Such as 'CONSECUTIVE_GATEWAY_FAILURE'."""
    times: int
    """How often it was ejected so far."""
    enforced: bool
    """False: only noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """All that the sidecars of a run wrote."""

    lines: tuple[Line, ...] = ()
    """By start."""
    outliers: tuple[Outlier, ...] = ()
    """By time."""
    parts: tuple[str, ...] = ()
    """Whose access logs there were."""
    unreadable: int = 0
    """Lines that were no record: cut at their end, or garbage."""


def read(directory: Path) -> Read:
    """Every sidecar's files in a directory. Never raises for what is in them; without any, all is empty."""
    bad = _Count()
    lines: list[Line] = []
    outliers: list[Outlier] = []
    parts: list[str] = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        name = path.name.removesuffix(".gz")
        if name.endswith(ACCESS):
            parts.append(name.removesuffix(ACCESS))
            lines += records(path, access_line, bad)
        elif name.endswith(OUTLIERS):
            part = name.removesuffix(OUTLIERS)
            outliers += records(path, lambda raw, part=part: outlier(raw, part), bad)  # type: ignore[misc]
    return Read(
        lines=tuple(sorted(lines, key=lambda r: r.start_ns)),
        outliers=tuple(sorted(outliers, key=lambda r: r.at_ns)),
        parts=tuple(sorted(set(parts))),
        unreadable=bad.found,
    )


class _Count:
    """How many lines could not be read."""

    found = 0

    def __call__(self) -> None:
        self.found += 1


def records(path: Path, of: Callable[[Mapping[str, Any]], _Found], bad: Callable[[], None]) -> Iterator[_Found]:
    """What `of` makes of every JSON object of a file, plain or '.gz'; `bad` is told of every other line.

    `of` raises ValueError, TypeError or KeyError for what it cannot take. A file that ends in mid-stream, or cannot be
    opened at all, is one bad line.
    """
    try:
        for text in _texts(path):
            if not text.strip():
                continue
            try:
                raw = json.loads(text)
                if not isinstance(raw, dict):
                    raise TypeError("not an object")
                yield of(raw)
            except (ValueError, TypeError, KeyError, RecursionError):
                bad()
    except (OSError, EOFError):
        bad()


def _texts(path: Path) -> Iterable[str]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
            yield from lines
    else:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from lines


def access_line(raw: Mapping[str, Any]) -> Line:
    """One line of an access log. Raise ValueError, TypeError or KeyError if it lacks what makes it one."""
    trace_id, parent_id = trace_context(_text(raw.get("traceparent")))
    part, side = _text(raw["part"]), _text(raw["side"])
    if side not in (OUT, IN, INGRESS) or not part:
        raise ValueError("neither on the way out nor in")
    return Line(
        start_ns=_instant_ns(raw["start"]),
        side=side,
        part=part,
        edge=_text(raw.get("edge")) or (f"users-{part.removesuffix('-sidecar')}" if side == INGRESS else ""),
        version=_text(raw.get("version")),
        peer=_text(raw.get("peer")),
        method=_text(raw.get("method")),
        path=_text(raw.get("path")).partition("?")[0],
        status=int(_number(raw.get("status")) or 0),
        flags=tuple(f for f in _text(raw.get("flags")).split(",") if f),
        duration_ms=_duration_ms(raw),
        upstream_ms=_number(raw.get("upstream_ms")),
        trace_id=trace_id,
        parent_id=parent_id,
        gateway=_text(raw.get("gateway")),
        attempts=max(1, int(_number(raw.get("attempts")) or 1)),
    )


def outlier(raw: Mapping[str, Any], part: str) -> Outlier:
    """One line of Envoy's outlier event log (envoy.data.cluster.v3.OutlierDetectionEvent, as JSON).

    Raise ValueError, TypeError or KeyError if it lacks what makes it one.
    """
    action = raw.get("action", "EJECT")  # a default is left out by some writers
    if action not in ("EJECT", "UNEJECT"):
        raise ValueError(f"unknown action {action!r}")
    return Outlier(
        at_ns=_instant_ns(raw["timestamp"]),
        part=part,
        cluster=_text(raw["cluster_name"]),
        address=_text(raw.get("upstream_url")),
        ejected=action == "EJECT",
        why=_text(raw.get("type")),
        times=int(_number(raw.get("num_ejections")) or 0),
        enforced=raw.get("enforced") is not False,
    )


def trace_context(traceparent: str) -> tuple[str, str]:
    """Trace and parent of a W3C `traceparent`, two empty texts for anything else.

    >>> trace_context("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7')
    >>> trace_context("-")
    ('', '')
    """
    pieces = traceparent.split("-")
    return (pieces[1], pieces[2]) if len(pieces) == 4 and len(pieces[1]) == 32 and len(pieces[2]) == 16 else ("", "")


def _duration_ms(raw: Mapping[str, Any]) -> float:
    """From the first byte of the request to the last of the answer; whole milliseconds where no answer was sent."""
    exact = _number(raw.get("duration_us"))
    return max(0.0, (_number(raw["duration_ms"]) or 0.0) if exact is None else exact / 1000)


def _text(value: object) -> str:
    """Envoy writes '-' or null for what there is not."""
    return "" if value is None or value == "-" else str(value)[:500]


def _number(value: object) -> float | None:
    if type(value) is int:
        return float(value)
    if value is None or value == "-" or value == "" or isinstance(value, bool):
        return None
    found = float(str(value))
    if not math.isfinite(found):
        raise ValueError(f"not a number: {value!r}")
    return found


def _instant_ns(value: object) -> int:
    """Seconds since the epoch, as a number or text with a fraction, or ISO 8601.

    >>> _instant_ns("1764000000.123456"), _instant_ns("2025-11-24T16:00:00.123456Z")
    (1764000000123456000, 1764000000123456000)
    """
    said = str(value)
    if "T" in said:
        return round(datetime.fromisoformat(_python_iso(said)).timestamp() * 1e6) * 1000
    whole, _, fraction = said.partition(".")
    return int(whole) * 1_000_000_000 + int((fraction + "000000000")[:9])


def _python_iso(said: str) -> str:
    """With at most six digits of a second's fraction, which is all that a datetime holds."""
    head, dot, tail = said.rstrip("Z").partition(".")
    return f"{head}{dot}{tail[:6]}+00:00" if dot else f"{head}+00:00"
