"""What is written on a message that travels, and what is wrong with one that cannot be read? (pure)

    {"v": 1, "id": "...", "type": "ReserveStock", "run": "...", "source": "orders", "sent_ns": 123,
     "traceparent": "00-...", "body": {"order_id": "...", ...}}

A reader is tolerant where a later writer may add (unknown members are passed over) and strict where it
would have to guess: whatever cannot be understood is Unreadable, with one of REASONS. It never tries.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from workloads.messages import Travelling

VERSION = 1
LIMIT_BYTES = 64 * 1024
"""No message of the shop needs more than 1 KiB; the broker would take 256."""

MALFORMED = "malformed"
UNKNOWN_VERSION = "unknown-version"
OVERSIZED = "oversized"
FOREIGN = "foreign"
UNKNOWN_TYPE = "unknown-type"
FAILED = "failed"
REASONS: Mapping[str, str] = {
    MALFORMED: "no JSON, or a member is missing or of the wrong type",
    UNKNOWN_VERSION: f"written in a version other than {VERSION}",
    OVERSIZED: f"longer than {LIMIT_BYTES} bytes",
    FOREIGN: "of another run, or meant for another service",
    UNKNOWN_TYPE: "no message of that name travels",
    FAILED: "its handler failed as often as a message may be received",
}
"""Why a message is dead."""

TYPES: Mapping[str, type[Travelling]] = {kind.__name__: kind for kind in get_args(Travelling)}
"""The same, by the name it travels under."""

_FIELDS: Mapping[type[Travelling], Mapping[str, type]] = {
    kind: {f.name: {"str": str, "int": int}[str(f.type)] for f in fields(kind)} for kind in TYPES.values()
}
_ENVELOPE: Mapping[str, type] = {
    "id": str,
    "type": str,
    "run": str,
    "source": str,
    "sent_ns": int,
    "traceparent": str,
    "body": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message and what is known of its way."""

    id: str
    """Unique; the same each time the message is sent, so that a broker can tell a repetition."""
    run: str
    """Tag of the run it belongs to."""
    source: str
    """Service that sent it."""
    sent_ns: int
    """When it was sent, CLOCK_MONOTONIC nanoseconds."""
    traceparent: str
    """W3C trace context of whatever caused it, '' outside of a trace."""
    message: Travelling


class Unreadable(Exception):
    """A message that this service cannot act on, now or ever. `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        """`detail` is for humans and names the offending values."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def seal(envelope: Envelope) -> str:
    """The text that travels. Of any length: who receives it judges that."""
    message = envelope.message
    kind = type(message)
    return json.dumps(
        {
            "v": VERSION,
            "id": envelope.id,
            "type": kind.__name__,
            "run": envelope.run,
            "source": envelope.source,
            "sent_ns": envelope.sent_ns,
            "traceparent": envelope.traceparent,
            "body": {name: getattr(message, name) for name in _FIELDS[kind]},
        },
        separators=(",", ":"),
    )


def unseal(text: str, *, run: str, accepts: Collection[type]) -> Envelope:
    """What `seal` wrote. Raise Unreadable.

    `run`: the only run whose messages are ours. `accepts`: the kinds of message this service acts on.
    """
    if len(text) > LIMIT_BYTES or len(text.encode(errors="surrogatepass")) > LIMIT_BYTES:
        raise Unreadable(OVERSIZED, f"{len(text.encode(errors='surrogatepass'))} bytes, at most {LIMIT_BYTES} are read")
    document = _document(text)
    if (version := document.get("v")) != VERSION or isinstance(version, bool):
        raise Unreadable(*_version_problem(document))
    values = _members(document, _ENVELOPE, "")
    if values["run"] != run:
        raise Unreadable(FOREIGN, f"of run {values['run']!r}, this is {run!r}")
    kind = TYPES.get(values["type"])
    if kind is None:
        raise Unreadable(UNKNOWN_TYPE, f"no message is called {values['type']!r}")
    if kind not in accepts:
        raise Unreadable(FOREIGN, f"{values['type']} of {values['source']!r} is not for this service")
    message = kind(**_members(values["body"], _FIELDS[kind], "body."))
    known = {name: values[name] for name in ("id", "run", "source", "sent_ns", "traceparent")}
    return Envelope(message=message, **known)


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(MALFORMED, f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Unreadable(MALFORMED, f"a JSON {type(document).__name__}, not an object")
    return document


def _version_problem(document: Mapping[str, Any]) -> tuple[str, str]:
    if "v" not in document:
        return MALFORMED, "member 'v' is missing"
    return UNKNOWN_VERSION, f"written in version {str(document['v'])[:40]!r}, read is {VERSION}"


def _members(document: Mapping[str, Any], wanted: Mapping[str, type], where: str) -> dict[str, Any]:
    found = {}
    for name, kind in wanted.items():
        if name not in document:
            raise Unreadable(MALFORMED, f"member '{where}{name}' is missing")
        value = found[name] = document[name]
        if type(value) is not kind:  # not isinstance: True is no number here
            raise Unreadable(MALFORMED, f"member '{where}{name}' is {str(value)[:40]!r}, not of type {kind.__name__}")
    return found
