"""What does the step from one stage to another change? Its parts, its owners, and what faults break."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from stages.blast_radius import Effect, Impact, predict
from stages.model import Channel, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelChange:
    """A channel that both stages have, but not alike."""

    name: str
    fields: tuple[tuple[str, str, str], ...]
    """(field, before, after) of every field that differs, such as ('kind', 'call', 'command')."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Something that belongs elsewhere, or to somebody else; None where there was or is nobody."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureMode:
    """What the same fault does to the same operation, where the stages differ."""

    fault: str
    operation: str
    before: Effect
    after: Effect
    because: str
    """Why it is so in the later stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The difference between two stages; all parts empty for equal ones."""

    before: str
    after: str
    change: str
    """The one thing that the later stage says it changes."""
    services_added: tuple[str, ...]
    services_removed: tuple[str, ...]
    services_moved: tuple[Moved, ...]
    """From cluster to cluster."""
    channels_added: tuple[str, ...]
    channels_removed: tuple[str, ...]
    channels_changed: tuple[ChannelChange, ...]
    clusters_added: tuple[str, ...]
    clusters_removed: tuple[str, ...]
    owners_changed: tuple[Moved, ...]
    """System by system."""
    objectives_changed: tuple[Moved, ...]
    """What each system answers for, listed."""
    sidecars_added: tuple[str, ...]
    """Services that get a sidecar; what passes between two of them needs an identity and a rule from then on."""
    sidecars_removed: tuple[str, ...]
    shared_added: tuple[str, ...]
    shared_removed: tuple[str, ...]
    gaps_closed: tuple[str, ...]
    gaps_opened: tuple[str, ...]
    failure_modes: tuple[FailureMode, ...]

    def sentences(self) -> list[str]:
        """One per change, for the README and the report; [] if nothing differs but the names."""
        return [
            *_came_and_went("service", self.services_added, self.services_removed),
            *_came_and_went("cluster", self.clusters_added, self.clusters_removed),
            *_came_and_went("shared part", self.shared_added, self.shared_removed),
            *(f"{m.name} moves from cluster {m.before} to cluster {m.after}" for m in self.services_moved),
            *(
                f"system {m.name} is owned by {_whom(m.after)}, before by {_whom(m.before)}"
                for m in self.owners_changed
            ),
            *(
                f"system {m.name} answers for {m.after or 'nothing'}, before for {m.before or 'nothing'}"
                for m in self.objectives_changed
            ),
            *_sidecars(self.sidecars_added, self.sidecars_removed),
            *_came_and_went("channel", self.channels_added, self.channels_removed),
            *(f"{c.name} {_changes(c)}" for c in self.channels_changed),
            *(f"gap {name!r} is closed" for name in self.gaps_closed),
            *(f"gap {name!r} opens" for name in self.gaps_opened),
            *(f"{m.fault}: {m.operation} was {m.before}, now {m.after}" for m in self.failure_modes),
        ]


def diff(before: Stage, after: Stage, impacts: Mapping[str, tuple[Impact, Impact]] | None = None) -> Diff:
    """Compare two stages. `impacts`: fault name -> what it does in the earlier stage, and what in the later one."""
    services = _names(before.services), _names(after.services)
    channels = _names(before.channels), _names(after.channels)
    clusters = _names(before.clusters), _names(after.clusters)
    shared = _names(before.shared), _names(after.shared)
    gaps = _names(before.gaps), _names(after.gaps)
    return Diff(
        before=before.name,
        after=after.name,
        change=after.change,
        services_added=_only_second(*services),
        services_removed=_only_second(*reversed(services)),
        services_moved=_moved(before, after),
        channels_added=_only_second(*channels),
        channels_removed=_only_second(*reversed(channels)),
        channels_changed=tuple(_changed_channels(before, after)),
        clusters_added=_only_second(*clusters),
        clusters_removed=_only_second(*reversed(clusters)),
        owners_changed=_owners(before, after),
        objectives_changed=_objectives(before, after),
        sidecars_added=_only_second(_meshed(before), _meshed(after)),
        sidecars_removed=_only_second(_meshed(after), _meshed(before)),
        shared_added=_only_second(*shared),
        shared_removed=_only_second(*reversed(shared)),
        gaps_closed=_only_second(*reversed(gaps)),
        gaps_opened=_only_second(*gaps),
        failure_modes=tuple(_failure_modes(before, after, impacts or {})),
    )


def _names(things: Iterable[Any]) -> list[str]:
    return [thing.name for thing in things]


def _only_second(first: list[str], second: list[str]) -> tuple[str, ...]:
    return tuple(name for name in second if name not in first)


def _moved(before: Stage, after: Stage) -> tuple[Moved, ...]:
    both = [s.name for s in after.services if s.name in _names(before.services)]
    moves = (Moved(name=n, before=before.cluster_of(n), after=after.cluster_of(n)) for n in both)
    return tuple(m for m in moves if m.before != m.after)


def _owners(before: Stage, after: Stage) -> tuple[Moved, ...]:
    known = {s.name: s.owner for s in before.systems}
    return tuple(
        Moved(name=s.name, before=known.get(s.name), after=s.owner)
        for s in after.systems
        if known.get(s.name) != s.owner
    )


def _objectives(before: Stage, after: Stage) -> tuple[Moved, ...]:
    known = {s.name: s.objectives for s in before.systems}
    return tuple(
        Moved(name=s.name, before=", ".join(known.get(s.name, ())) or None, after=", ".join(s.objectives) or None)
        for s in after.systems
        if known.get(s.name, ()) != s.objectives
    )


def _meshed(stage: Stage) -> list[str]:
    return [s.name for s in stage.services] if stage.mesh is not None else []


def _changed_channels(before: Stage, after: Stage) -> Iterator[ChannelChange]:
    known = {c.name: c for c in before.channels}
    for channel in after.channels:
        if channel.name in known and (changes := _field_changes(known[channel.name], channel)):
            yield ChannelChange(name=channel.name, fields=changes)


def _field_changes(before: Channel, after: Channel) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (f.name, _said(getattr(before, f.name)), _said(getattr(after, f.name)))
        for f in fields(Channel)
        if getattr(before, f.name) != getattr(after, f.name)
    )


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _failure_modes(before: Stage, after: Stage, impacts: Mapping[str, tuple[Impact, Impact]]) -> Iterator[FailureMode]:
    for fault, (earlier, later) in impacts.items():
        was = predict(before, earlier)
        for operation, now in predict(after, later).items():
            if operation in was and was[operation].effect is not now.effect:
                yield FailureMode(
                    fault=fault,
                    operation=operation,
                    before=was[operation].effect,
                    after=now.effect,
                    because=now.because,
                )


def _came_and_went(what: str, added: tuple[str, ...], removed: tuple[str, ...]) -> Iterator[str]:
    for verb, names in (("added", added), ("removed", removed)):
        if names:
            yield f"{what}{'s' if len(names) > 1 else ''} {verb}: {', '.join(names)}"


def _changes(change: ChannelChange) -> str:
    """Another kind explains the other fields: 'was a call over rest, now an event over sns'."""
    by_field = {name: (old, new) for name, old, new in change.fields}
    if "kind" in by_field and "transport" in by_field:
        (was, now), (over_was, over_now) = by_field["kind"], by_field["transport"]
        return f"was {_a(was)} over {over_was}, now {_a(now)} over {over_now}"
    return ", ".join(_change(name, old, new) for name, old, new in change.fields)


def _change(name: str, old: str, new: str) -> str:
    """In words where a field has some: 'goes through fulfilment-gateway'."""
    if name == "via" and old == "none":
        return f"goes through {new}"
    if name == "fallback" and old == "none":
        return f"falls back to {new}"
    if name == "operations" and (more := [o for o in new.split(", ") if o not in old.split(", ")]):
        return f"carries {' and '.join(more)} too" if set(old.split(", ")) < set(new.split(", ")) else f"carries {new}"
    return f"changes {name} from {old} to {new}"


def _sidecars(added: tuple[str, ...], removed: tuple[str, ...]) -> Iterator[str]:
    if added:
        yield (
            f"a sidecar beside each of {', '.join(added)}: mTLS with an identity of its own, and only the calls of "
            "the model get through"
        )
    if removed:
        yield f"no sidecar any more beside {', '.join(removed)}: whoever has the address may call"


def _whom(owner: str | None) -> str:
    return owner or "nobody"


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "event" else f"a {kind}"
