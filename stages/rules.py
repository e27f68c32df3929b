"""What is wrong with a stage? One rule, one function; all findings at once, each with names and values.

Constructors check nothing, so that a broken stage can be written down and talked about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import combinations

from stages.model import Channel, Kind, Stage, Transport

REACTION_MS_MAX = 2000
"""Every reaction to a fault must be over within this time: a verdict leaves out just so much at a window's start."""

_WORD = re.compile(r"[a-z][a-z0-9]*")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_TRANSPORTS = {
    Kind.CALL: (Transport.REST, Transport.GRPC),
    Kind.COMMAND: (Transport.SQS, Transport.KAFKA),
    Kind.EVENT: (Transport.SNS, Transport.KAFKA),
}

Rule = Callable[[Stage], Iterator[str]]


def problems(stage: Stage) -> list[str]:
    """Everything wrong with a stage, as sentences; [] for a good one. Never raises, however broken the stage is."""
    return [f"stage {stage.name!r}: {finding}" for rule in RULES for finding in rule(stage)]


def names_are_unique(stage: Stage) -> Iterator[str]:
    for what, names in _all_names(stage):
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{count} {what}s are named {name!r}"


def names_are_plain(stage: Stage) -> Iterator[str]:
    """A service is one word, since 'orders-payments' must have one reading; others may have hyphens."""
    for what, names in _all_names(stage):
        if what == "channel":
            continue
        pattern, example = (_WORD, "orders") if what == "service" else (_NAME, "place-order")
        for name in names:
            if not pattern.fullmatch(name):
                yield f"{what} {name!r} is not a plain name such as {example!r}"


def nothing_is_both_service_and_shared(stage: Stage) -> Iterator[str]:
    """A fault names what is down: it must mean one thing."""
    for name in sorted({s.name for s in stage.services} & {p.name for p in stage.shared}):
        yield f"{name!r} is a service and a shared part"


def the_step_is_explained(stage: Stage) -> Iterator[str]:
    for what, said in (("title", stage.title), ("change", stage.change), ("reason", stage.reason)):
        if not said.strip():
            yield f"its {what} is empty"
    if stage.previous == stage.name:
        yield "it is its own previous stage"


def services_belong_to_systems(stage: Stage) -> Iterator[str]:
    systems = [s.name for s in stage.systems]
    for service in stage.services:
        if service.system not in systems:
            yield f"service {service.name!r} belongs to system {service.system!r}; {_known('systems', systems)}"
    for name in systems:
        if name not in {s.system for s in stage.services}:
            yield f"system {name!r} has no service"


def systems_run_in_clusters(stage: Stage) -> Iterator[str]:
    clusters = [c.name for c in stage.clusters]
    for system in stage.systems:
        if system.cluster not in clusters:
            yield f"system {system.name!r} runs in cluster {system.cluster!r}; {_known('clusters', clusters)}"
    for name in clusters:
        if name not in {s.cluster for s in stage.systems}:
            yield f"cluster {name!r} hosts no system"


def separated_systems_have_owners(stage: Stage) -> Iterator[str]:
    if _separated(stage):
        for system in stage.systems:
            if not system.owner:
                yield f"system {system.name!r} has no owner, though there are {len(stage.clusters)} clusters"


def separated_systems_have_objectives(stage: Stage) -> Iterator[str]:
    """An owner who answers for nothing governs nothing."""
    if _separated(stage):
        for system in stage.systems:
            if not system.objectives:
                yield f"system {system.name!r} has no objectives, though there are {len(stage.clusters)} clusters"


def objectives_have_one_owner(stage: Stage) -> Iterator[str]:
    """Where owners answer for anything, they answer for everything, and nobody for what another answers for."""
    promised = [*(o.name for o in stage.operations), *(c.name for o in stage.operations for c in o.completions)]
    answering: dict[str, list[str]] = {name: [] for name in promised}
    for system in stage.systems:
        for objective in system.objectives:
            if objective not in answering:
                known = _known("operations and completions", promised)
                yield f"system {system.name!r} answers for {objective!r}; {known}"
            else:
                answering[objective].append(system.name)
    if any(system.objectives for system in stage.systems):
        for objective, systems in answering.items():
            if not systems:
                yield f"no system answers for {objective!r}"
            elif len(systems) > 1:
                yield f"{len(systems)} systems answer for {objective!r}: {', '.join(systems)}"


def separated_calls_survive_the_callee(stage: Stage) -> Iterator[str]:
    """Who calls another system must bear its loss: wait no longer than stated, stop calling, answer otherwise.

    A channel whose failure the caller ignores anyway, such as the fallback itself, needs no fallback.
    """
    systems = {s.name: s.system for s in stage.services}
    for c in _calls(stage) if _separated(stage) else ():
        if systems.get(c.caller) == systems.get(c.callee) or not c.essential:
            continue
        lacking = [
            *(["timeout"] if c.timeout_ms is None else []),
            *([] if c.breaker else ["breaker"]),
            *(["fallback"] if c.fallback is None else []),
        ]
        if lacking:
            yield (
                f"call {c.name!r} leaves system {systems.get(c.caller)!r} for {systems.get(c.callee)!r} without "
                f"{' and '.join(lacking)}"
            )


def databases_stay_within_a_system(stage: Stage) -> Iterator[str]:
    services = {s.name: s for s in stage.services}
    for service in stage.services:
        if service.store is None:
            continue
        keeper = services.get(service.store)
        if keeper is None:
            yield f"service {service.name!r} keeps its records with {service.store!r}; {_known('services', services)}"
        elif keeper is service or keeper.store is not None or not keeper.database:
            yield f"service {service.name!r} keeps its records with {keeper.name!r}, which has no database of its own"
        elif keeper.system != service.system:
            yield (
                f"service {service.name!r} of system {service.system!r} shares the database of {keeper.name!r}, "
                f"which belongs to system {keeper.system!r}"
            )


def several_clusters_have_a_mesh(stage: Stage) -> Iterator[str]:
    """Across clusters a network address proves nothing: identity, encryption and policy have to come from a mesh."""
    if _separated(stage) and stage.mesh is None:
        yield f"it has {len(stage.clusters)} clusters ({', '.join(c.name for c in stage.clusters)}) and no mesh"


def networks_do_not_overlap(stage: Stage) -> Iterator[str]:
    networks: list[tuple[str, IPv4Network | IPv6Network]] = []
    for cluster in stage.clusters:
        try:
            networks.append((cluster.name, ip_network(cluster.network)))
        except ValueError as error:
            yield f"cluster {cluster.name!r}: network {cluster.network!r} is no address range ({error})"
    for (a, mine), (b, theirs) in combinations(networks, 2):
        if mine.version == theirs.version and mine.overlaps(theirs):
            yield f"clusters {a!r} ({mine}) and {b!r} ({theirs}) overlap"


def operations_enter_somewhere(stage: Stage) -> Iterator[str]:
    if not stage.operations:
        yield "it has no operation"
    services = [s.name for s in stage.services]
    for operation in stage.operations:
        if operation.entry not in services:
            yield f"operation {operation.name!r} enters at {operation.entry!r}; {_known('services', services)}"


def objectives_make_sense(stage: Stage) -> Iterator[str]:
    for o in stage.operations:
        if o.latency_slo_ms <= 0:
            yield f"operation {o.name!r}: latency_slo_ms={o.latency_slo_ms} must be above 0"
        if not 0 < o.slo_share < 1:
            yield f"operation {o.name!r}: slo_share={o.slo_share} must lie between 0 and 1"
        if o.weight < 1:
            yield f"operation {o.name!r}: weight={o.weight} must be at least 1"


def completions_come_after_the_answer(stage: Stage) -> Iterator[str]:
    services = [s.name for s in stage.services]
    for o in stage.operations:
        for c in o.completions:
            if c.at not in services:
                yield f"completion {c.name!r} of {o.name!r} shows at {c.at!r}; {_known('services', services)}"
            if c.within_ms < o.latency_slo_ms:
                yield (
                    f"completion {c.name!r} of {o.name!r}: within_ms={c.within_ms} is shorter than the answer's "
                    f"latency_slo_ms={o.latency_slo_ms}"
                )


def channels_join_known_things(stage: Stage) -> Iterator[str]:
    services = [s.name for s in stage.services]
    operations = [o.name for o in stage.operations]
    shared = [p.name for p in stage.shared]
    for c in stage.channels:
        for end, name in (("caller", c.caller), ("callee", c.callee)):
            if name not in services:
                yield f"channel {c.name!r}: {end} {name!r} is unknown; {_known('services', services)}"
        for name in c.operations:
            if name not in operations:
                yield f"channel {c.name!r}: operation {name!r} is unknown; {_known('operations', operations)}"
        for name in c.via:
            if name not in shared:
                yield f"channel {c.name!r}: via {name!r} is unknown; {_known('shared parts', shared)}"
        if not c.operations:
            yield f"channel {c.name!r} carries no operation"
        if c.caller == c.callee:
            yield f"channel {c.name!r}: {c.caller!r} calls itself"


def channels_are_reached(stage: Stage) -> Iterator[str]:
    """A channel's operation must get to its caller, or nothing ever travels over it."""
    for operation in stage.operations:
        reached = _reached(stage, operation.entry, operation.name)
        for c in stage.channels:
            if operation.name in c.operations and c.caller not in reached:
                yield f"channel {c.name!r} carries {operation.name!r}, but that never gets to {c.caller!r}"


def calls_have_timeouts(stage: Stage) -> Iterator[str]:
    for c in _calls(stage):
        if c.timeout_ms is None:
            yield f"call {c.name!r} has no timeout: it may wait for ever"
        elif c.timeout_ms <= 0:
            yield f"call {c.name!r}: timeout_ms={c.timeout_ms} must be above 0"


def messages_have_none(stage: Stage) -> Iterator[str]:
    for c in stage.channels:
        if c.kind is not Kind.CALL and c.timeout_ms is not None:
            yield f"{c.kind} {c.name!r}: timeout_ms={c.timeout_ms} means nothing, its sender does not wait"
        if c.kind is not Kind.CALL and c.fallback is not None:
            yield f"{c.kind} {c.name!r}: fallback {c.fallback!r} means nothing, its sender does not wait"


def transports_fit(stage: Stage) -> Iterator[str]:
    for c in stage.channels:
        if c.transport not in _TRANSPORTS[c.kind]:
            fitting = " or ".join(_TRANSPORTS[c.kind])
            yield f"channel {c.name!r}: a {c.kind} does not travel over {c.transport}, but over {fitting}"


def messages_go_through_a_shared_part(stage: Stage) -> Iterator[str]:
    for c in stage.channels:
        if c.kind is not Kind.CALL and not c.via:
            yield f"{c.kind} {c.name!r} goes through no shared part: name the broker in via"


def attempts_fit_the_reaction_limit(stage: Stage) -> Iterator[str]:
    for c in stage.channels:
        if c.attempts < 1:
            yield f"channel {c.name!r}: attempts={c.attempts} must be at least 1"
    for c in _calls(stage):
        if c.reaction_ms > REACTION_MS_MAX:
            yield f"call {c.name!r}: {_spending(c)} exceed the reaction limit of {REACTION_MS_MAX} ms"


def attempts_fit_the_callers_timeout(stage: Stage) -> Iterator[str]:
    """Who calls X must wait longer than X waits for those it calls, or X's failure is reported too late."""
    for outer in _calls(stage):
        inner = {c.name: c for o in outer.operations for c in stage.channels_from(outer.callee, o)}
        for c in inner.values():
            if outer.timeout_ms is None or c.kind is not Kind.CALL or not c.essential:
                continue
            if c.reaction_ms > outer.timeout_ms:
                yield f"call {c.name!r}: {_spending(c)} exceed timeout_ms={outer.timeout_ms} of {outer.name!r}"


def calls_do_not_go_round(stage: Stage) -> Iterator[str]:
    """An operation that comes back to a service it has not left waits for itself."""
    said = set()
    for operation in stage.operations:
        for round_trip in _cycles(stage, operation.name):
            key = (operation.name, frozenset(round_trip))
            if key not in said:
                said.add(key)
                yield f"operation {operation.name!r} goes round: {' calls '.join((*round_trip, round_trip[0]))}"


def fallbacks_can_answer(stage: Stage) -> Iterator[str]:
    by_name = {c.name: c for c in stage.channels}
    for c in _calls(stage):
        if c.fallback is None:
            continue
        instead = by_name.get(c.fallback)
        if instead is None:
            yield f"call {c.name!r}: fallback {c.fallback!r} is no channel; {_known('channels', by_name)}"
            continue
        if instead.kind is not Kind.CALL:
            yield f"call {c.name!r}: fallback {instead.name!r} is no call, so it answers nothing"
        if instead.caller != c.caller:
            yield f"call {c.name!r}: fallback {instead.name!r} starts at {instead.caller!r}, not at {c.caller!r}"
        for operation in c.operations:
            if operation not in instead.operations:
                yield f"call {c.name!r}: fallback {instead.name!r} does not carry {operation!r}"
            if c.callee in _reached(stage, instead.callee, operation, Kind.CALL):
                yield f"call {c.name!r}: fallback {instead.name!r} needs {c.callee!r} too for {operation!r}"


def gaps_name_known_things(stage: Stage) -> Iterator[str]:
    services = [s.name for s in stage.services]
    completions = {o.name: [c.name for c in o.completions] for o in stage.operations}
    for gap in stage.gaps:
        if gap.crash_of not in services:
            yield f"gap {gap.name!r}: crash_of {gap.crash_of!r} is unknown; {_known('services', services)}"
        if gap.operation not in completions:
            yield f"gap {gap.name!r}: operation {gap.operation!r} is unknown; {_known('operations', completions)}"
        elif gap.effect not in completions[gap.operation]:
            known = _known("completions", completions[gap.operation])
            yield f"gap {gap.name!r}: {gap.operation!r} has no completion {gap.effect!r}; {known}"


RULES: tuple[Rule, ...] = (
    names_are_unique,
    names_are_plain,
    nothing_is_both_service_and_shared,
    the_step_is_explained,
    services_belong_to_systems,
    systems_run_in_clusters,
    separated_systems_have_owners,
    separated_systems_have_objectives,
    objectives_have_one_owner,
    separated_calls_survive_the_callee,
    databases_stay_within_a_system,
    several_clusters_have_a_mesh,
    networks_do_not_overlap,
    operations_enter_somewhere,
    objectives_make_sense,
    completions_come_after_the_answer,
    channels_join_known_things,
    channels_are_reached,
    calls_have_timeouts,
    messages_have_none,
    transports_fit,
    messages_go_through_a_shared_part,
    attempts_fit_the_reaction_limit,
    attempts_fit_the_callers_timeout,
    calls_do_not_go_round,
    fallbacks_can_answer,
    gaps_name_known_things,
)
"""In the order in which findings are listed."""


def _separated(stage: Stage) -> bool:
    return len(stage.clusters) > 1


def _spending(c: Channel) -> str:
    return f"{c.attempts} attempts of {c.timeout_ms} ms and their backoff ({c.reaction_ms} ms)"


def _calls(stage: Stage) -> list[Channel]:
    return [c for c in stage.channels if c.kind is Kind.CALL]


def _all_names(stage: Stage) -> tuple[tuple[str, list[str]], ...]:
    return (
        ("operation", [o.name for o in stage.operations]),
        ("service", [s.name for s in stage.services]),
        ("system", [s.name for s in stage.systems]),
        ("cluster", [c.name for c in stage.clusters]),
        ("channel", [c.name for c in stage.channels]),
        ("shared part", [p.name for p in stage.shared]),
        ("gap", [g.name for g in stage.gaps]),
    )


def _known(what: str, names: Iterable[str]) -> str:
    listed = list(names)
    return f"known {what} are {', '.join(listed)}" if listed else f"there are no {what}"


def _reached(stage: Stage, service: str, operation: str, kind: Kind | None = None) -> set[str]:
    """The services an operation gets to from one, itself included; `kind` limits the channels."""
    reached, ahead = {service}, [service]
    while ahead:
        for c in stage.channels_from(ahead.pop(), operation):
            if c.callee not in reached and kind in (None, c.kind):
                reached.add(c.callee)
                ahead.append(c.callee)
    return reached


def _cycles(stage: Stage, operation: str) -> Iterator[tuple[str, ...]]:
    """Every way round along the calls of an operation, once per service it can be entered at."""
    paths: list[tuple[str, ...]] = [(s,) for s in dict.fromkeys(c.caller for c in stage.channels)]
    while paths:
        path = paths.pop(0)
        for c in stage.channels_from(path[-1], operation):
            if c.kind is not Kind.CALL:
                continue
            if c.callee == path[0] and len(path) > 1:
                yield path
            elif c.callee not in path:
                paths.append((*path, c.callee))
