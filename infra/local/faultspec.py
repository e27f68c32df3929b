"""Which faults can the local cloud put on what, with which numbers? (pure)

A fault arrives as the JSON object of the API; here it is checked and becomes a record. Who injects it
is told by `holder`: the daemon itself, the wire host, the broker host, or a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from infra.local.errors import Invalid

Holder = Literal["daemon", "daemon and wire host", "wire host", "broker host", "registry host", "holder"]
Target = Literal["service", "wire", "cluster", "database", "broker", "queue", "registry", "authority"]

EVERY = "*"
"""In place of a second cluster: all others."""


@dataclass(frozen=True, slots=True)
class Number:
    """One parameter with its range, ends included."""

    name: str
    low: float
    high: float
    default: float | None = None
    """None: it must be given."""
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Word:
    """One parameter that is one of a few words."""

    name: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    target: Target
    holder: Holder
    undo: str
    """What the end of the lease does, for people."""
    numbers: tuple[Number, ...] = ()
    second: Target | None = None
    """A second thing it needs the name of."""
    second_key: str | None = None
    """How the API calls that, if not like what it is."""
    words: tuple[Word, ...] = ()

    @property
    def second_name(self) -> str | None:
        return self.second_key or self.second


KINDS: Mapping[str, Kind] = {
    "kill": Kind("service", "daemon", "the service is started again, on its port"),
    "pause": Kind("service", "holder", "the process is continued"),
    "cpu-starve": Kind(
        "service",
        "holder",
        "the process is continued for good",
        (Number("share", 0.005, 0.95, whole=False), Number("period_ms", 20, 10_000, 500)),
    ),
    "latency": Kind(
        "wire",
        "wire host",
        "what is held is delivered at once, in order",
        (Number("delay_ms", 0, 60_000), Number("jitter_ms", 0, 60_000, 0), Number("seed", 0, 2**63, 0)),
    ),
    "blackhole": Kind("wire", "wire host", "connections that lost bytes are reset, the others go on"),
    "reset": Kind("wire", "wire host", "connections are served again"),
    "refuse": Kind("wire", "wire host", "the wire listens again"),
    "bandwidth": Kind(
        "wire", "wire host", "what is held is delivered at once, in order", (Number("bytes_per_s", 1, 10**12),)
    ),
    "cluster-outage": Kind("cluster", "daemon", "the cluster and every service of it is started again"),
    "cluster-freeze": Kind("cluster", "holder", "every process of the cluster is continued"),
    "database-locked": Kind("database", "holder", "the lock is released"),
    "database-slow": Kind(
        "database",
        "holder",
        "the lock is released for good",
        (Number("hold_ms", 1, 60_000), Number("every_ms", 2, 120_000)),
    ),
    "broker-outage": Kind("broker", "holder", "the broker is continued, with all its messages"),
    "broker-slow": Kind("broker", "broker host", "what is held is handled at once", (Number("delay_ms", 1, 60_000),)),
    "broker-throttle": Kind(
        "broker", "broker host", "every request is handled again", (Number("share", 0.01, 1, whole=False),)
    ),
    "broker-duplicate": Kind(
        "broker", "broker host", "what is deleted is gone again", (Number("share", 0.01, 1, whole=False),)
    ),
    "broker-poison": Kind(
        "queue", "broker host", "messages are left whole; those that were cut stay so", (Number("count", 1, 1000),)
    ),
    "kill-in-flight": Kind(
        "service",
        "daemon and wire host",
        "the service is started again, on its port; its wire delays nothing any more",
        (Number("delay_ms", 1, 5000),),
        second="wire",
    ),
    "partition": Kind(
        "cluster",
        "wire host",
        "connections between the clusters that lost bytes are reset, the others go on",
        second="cluster",
        second_key="from",
    ),
    "registry-outage": Kind("registry", "holder", "the registry is continued, with all it knew"),
    "garbage-discovery": Kind("registry", "registry host", "the registry answers with what it knows"),
    "certificate-expired": Kind("service", "daemon", "the service is issued a good certificate"),
    "garbage-config": Kind("service", "daemon", "the sidecar's files make sense again"),
    "root-rotation": Kind("authority", "daemon", "nothing: what was rotated stays so"),
    "canary": Kind(
        "service",
        "daemon",
        "the second version gets no more calls, finishes, and is taken away",
        (Number("share_percent", 0, 100),),
        words=(Word("defect", ("none", "slow", "failing")),),
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault on one target; equal objects are the same fault."""

    kind: str
    target: str
    """Name of a service, wire, cluster, database, broker or queue, as the kind says."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Every number of the kind, defaults filled in."""
    second: str | None = None
    """Name of the second thing, if the kind has one."""
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> Kind:
        return KINDS[self.kind]

    def to_json(self) -> dict[str, object]:
        """The API's object."""
        second: dict[str, object] = {self.meaning.second_name: self.second} if self.meaning.second_name else {}
        return {"kind": self.kind, self.meaning.target: self.target, **second, **self.numbers, **self.words}

    @classmethod
    def from_json(cls, raw: object) -> Fault:
        """Read the API's object; raise Invalid with every problem."""
        found: list[str] = []
        if not isinstance(raw, dict) or raw.get("kind") not in KINDS:
            seen = raw.get("kind") if isinstance(raw, dict) else raw
            raise Invalid.of("fault", [f"kind is {seen!r}, known are {', '.join(KINDS)}"])
        kind = KINDS[raw["kind"]]
        target = _name(raw, kind.target, found)
        second = _name(raw, kind.second, found, kind.second_name) if kind.second else None
        words = {word.name: _word(word, raw.get(word.name), found) for word in kind.words}
        numbers = {n.name: _number(n, raw.get(n.name, n.default), found) for n in kind.numbers}
        known = {"kind", kind.target, *([kind.second_name] if kind.second_name else []), *numbers, *words}
        found += [f"{raw['kind']} knows no {name!r}, only {', '.join(sorted(known))}" for name in raw.keys() - known]
        if not found:
            found += _together(raw["kind"], numbers)
        if found:
            raise Invalid.of("fault", found)
        if second == target and kind.second == kind.target:
            raise Invalid.of("fault", [f"{raw['kind']} needs two of a kind, not {target!r} twice"])
        return cls(raw["kind"], target, numbers, second, words)


def _name(raw: Mapping[str, object], of: str, found: list[str], key: str | None = None) -> str:
    name = raw.get(key or of)
    if not isinstance(name, str) or not name:
        found.append(f"{raw['kind']} needs the name of a {of} as {key or of!r}, not {name!r}")
        return ""
    return name


def _word(rule: Word, value: object, found: list[str]) -> str:
    if value not in rule.known:
        found.append(f"{rule.name} is {value!r}, must be one of {', '.join(rule.known)}")
        return ""
    return str(value)


def _number(rule: Number, value: object, found: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not rule.low <= value <= rule.high:
        found.append(f"{rule.name} is {value!r}, must be a number from {rule.low:g} to {rule.high:g}")
        return 0
    if rule.whole and value != int(value):
        found.append(f"{rule.name} is {value!r}, must be a whole number")
    return int(value) if rule.whole else value


def _together(kind: str, numbers: Mapping[str, float]) -> list[str]:
    if kind == "latency" and numbers["jitter_ms"] > numbers["delay_ms"]:
        return [f"jitter_ms is {numbers['jitter_ms']}, must not exceed delay_ms={numbers['delay_ms']}"]
    if kind == "database-slow" and numbers["hold_ms"] >= numbers["every_ms"]:
        return [f"hold_ms is {numbers['hold_ms']}, must be below every_ms={numbers['every_ms']}"]
    return []
