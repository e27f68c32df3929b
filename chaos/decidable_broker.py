"""Can the outcome of a fault of messages be decided? One rule, one function; who asks which is `chaos.decidable`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaos.faults_broker import BrokerPoison, BrokerSlow, BrokerThrottle, KillInFlight
from chaos.wires import wires
from stages.lateness import added_ms
from stages.messaging import messaging
from stages.model import Stage

FAR_BELOW = 0.5
"""A completion that comes later by at most this share of its deadline is in time on a slow machine too."""

VISIBILITY_TRIPS = 4
"""One-way trips to the broker that a message's visibility timeout must cover: the answer that brings it, its deletion,
and both once more for a batch that was told to wait. Beyond, every message is delivered again: another fault."""

THROTTLED_SHARE_MAX = 0.07
"""An order is some twenty requests to the broker, and the SDK waits up to a second before it repeats one. Measured on
a busy machine: at a share of 0.1 four orders in a hundred come late, at 0.3 every other one."""

POISONED_MAX = 3
"""Each costs one order a second asking; among the some hundred of a window so few stay below every margin."""

IN_FLIGHT_MS_MIN = 100
"""At ten messages a second something is then under way when the service is killed."""

IN_FLIGHT_MS_MAX = 1000
"""The kill comes three delays after the start: within the deadline of a completion, before the delay itself shows."""


def near_a_deadline(stage: Stage, delay_ms: Mapping[str, int]) -> Iterator[str]:
    """A delay of messages must leave a completion far from its deadline.

    Delays of messages are means: where the mean is past the deadline, more than every other message is late.
    """
    for operation in stage.operations:
        later = added_ms(stage, operation, delay_ms)
        for completion in operation.completions:
            added = later.get(completion.name, 0)
            if FAR_BELOW * completion.within_ms < added < completion.within_ms:
                limit = f"its within_ms={completion.within_ms}"
                yield f"{completion.name!r} of {operation.name!r} comes {added} ms later, too close to {limit}"


def slow(fault: BrokerSlow, stage: Stage) -> Iterator[str]:
    yield from near_a_deadline(stage, fault.impact(stage).delay_ms)
    for queue in messaging(stage).queues:
        if VISIBILITY_TRIPS * fault.delay_ms >= 1000 * queue.visibility_timeout_s:
            trips = f"{VISIBILITY_TRIPS} trips of delay_ms={fault.delay_ms}"
            yield f"{trips} exceed visibility_timeout_s={queue.visibility_timeout_s} of {queue.name!r}"


def throttled(fault: BrokerThrottle) -> Iterator[str]:
    if fault.share > THROTTLED_SHARE_MAX:
        yield f"share={fault.share} may make completions late; up to {THROTTLED_SHARE_MAX} it does not"


def twice(stage: Stage) -> Iterator[str]:
    """A message that comes twice must not be taken for dead."""
    for queue in messaging(stage).queues:
        if queue.max_receives <= 2:
            yield f"a second delivery is the last of max_receives={queue.max_receives} of {queue.name!r}"


def poisoned(fault: BrokerPoison) -> Iterator[str]:
    if fault.count > POISONED_MAX:
        yield f"count={fault.count} may delay more orders than a window bears; at most {POISONED_MAX}"


def in_flight(fault: KillInFlight, stage: Stage) -> Iterator[str]:
    caller = wires(stage)[fault.wire].caller
    if caller != fault.service:
        yield f"wire {fault.wire!r} is that of {caller!r}: nothing of {fault.service!r} is in flight on it"
    if not IN_FLIGHT_MS_MIN <= fault.delay_ms <= IN_FLIGHT_MS_MAX:
        limits = f"{IN_FLIGHT_MS_MIN} and {IN_FLIGHT_MS_MAX}"
        yield f"delay_ms={fault.delay_ms} must lie between {limits}: something in flight, nothing else to be seen"
