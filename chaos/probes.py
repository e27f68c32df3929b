"""What an experiment looks at: whether a fault bites, whether all operations are steady, whether they recovered.

Thin functions for Chaos Toolkit; what they return is JSON and goes into the journal. `configuration` is
filled in by Chaos Toolkit. The last three are for experiments of one's own: they return a number for a tolerance.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chaoslib.exceptions import ActivityFailed

from chaos import controls, edge, observe, steady
from chaos.faults import Fault
from chaos.guard import Refused, stage_of
from chaos.lease import Lease, State, new_token
from chaos.spec import from_spec
from chaos.target import Target, find, home, opened
from stages.blast_radius import Effect, Prediction, predict
from stages.messaging import messaging

__all__ = [
    "dead_letters",
    "deployment_record",
    "experiment_token",
    "fault_bites",
    "no_worse_than_predicted",
    "operations_steady",
    "order_confirmed",
    "queue_depth",
    "recovered",
]

BITE_S = 5.0
"""How long a fault may take until it shows."""

NUDGE_S = 1.0
"""A fault that shows only on requests is waited for so long; then one is made, and another each time."""

RECOVER_POLL_S = 0.2
"""Between two looks at all operations; a breaker lets its trial call through once a second."""


def deployment_record(which: str = "", configuration: dict[str, Any] | None = None) -> str:
    """The path of the record of the deployment that is meant, found once at the start of an experiment.

    Returns `which` itself if it cannot be found: the injection then says why, this probe could not.
    """
    try:
        return str(find(which, home(configuration or {})))
    except Refused:
        return which


def experiment_token() -> str:
    """Made once at the start of an experiment: its leases are nobody else's."""
    return new_token()


def fault_bites(
    deployment: str, name: str, fault: dict[str, Any], configuration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Whether the fault is on *and* seen from outside: {"bit", "seen_by", "evidence"}.

    Looks for at most BITE_S, longer where the fault says so, and keeps the lease alive meanwhile. Raises LeaseLost if
    the fault went off.
    """
    wanted = from_spec(fault)
    deadline = time.monotonic() + BITE_S + wanted.slow_s
    nudged = time.monotonic()
    with opened(deployment, configuration) as target:
        lease = target.lease(name)
        while True:
            state = lease.renew()
            sight = observe.look(wanted, target.cloud.live(target.record.name).deployment, state.evidence)
            if sight.bites and state.state is State.ON:
                state = target.cloud.look(target.record.name, lease.name)
            bit = sight.bites and state.state is State.ON
            if bit or state.state is State.DRY or time.monotonic() > deadline:
                return {"bit": bit, "seen_by": sight.said, "evidence": dict(state.evidence), "state": str(state.state)}
            if wanted.needs_traffic and time.monotonic() - nudged > NUDGE_S:
                with _looking(target, None, configuration) as looker:
                    steady.try_once(looker, wanted.needs_traffic)
                nudged = time.monotonic()


def operations_steady(
    deployment: str, name: str = "", fault: dict[str, Any] | None = None, configuration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What users see of every operation, as {"fault_on", "operations": {name: {"effect", ...}}}.

    While the fault `name` is on, its lease is kept alive and the operations that it is predicted to
    fail are left out: there is nothing to deviate from.
    """
    with opened(deployment, configuration) as target:
        lease = target.lease(name)
        is_on = bool(name) and _is_on(target, lease)
        allowed = _predicted(target, from_spec(fault)) if is_on and fault else {}
        seen = _look(target, allowed, lease if is_on else None, configuration)
    return {
        "stage": target.record.stage,
        "fault_on": is_on,
        "operations": seen,
        "not_steady": steady.not_steady(stage_of(target.record), seen, allowed),
    }


def no_worse_than_predicted(value: dict[str, Any] | None = None) -> bool:
    """The tolerance of `operations_steady`: raises ActivityFailed that names each operation that is not steady."""
    if value is None or "not_steady" not in value:
        raise ActivityFailed(f"not what operations_steady returns: {value!r}")
    if value["not_steady"]:
        raise ActivityFailed("; ".join(value["not_steady"]))
    return True


def recovered(
    deployment: str, name: str, within_s: float, configuration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Wait until every operation is unaffected again: {"recovered", "after_s", "not_steady"}.

    "recovered" is None where there is nothing to wait for: the fault `name` was never injected, or
    `within_s` is 0 because somebody else watches the recovery.
    """
    start = time.monotonic()
    with opened(deployment, configuration) as target:
        if float(within_s) <= 0 or not _was_on(target, target.lease(name)):
            return {"recovered": None, "after_s": 0.0, "not_steady": []}
        while True:
            seen = _look(target, {}, None, configuration)
            findings = steady.not_steady(stage_of(target.record), seen, {})
            after_s = round(time.monotonic() - start, 3)
            if not findings or after_s > float(within_s):
                return {"recovered": not findings, "after_s": after_s, "not_steady": findings}
            time.sleep(RECOVER_POLL_S)


def order_confirmed(deployment: str, within_s: float, configuration: dict[str, Any] | None = None) -> float:
    """Place an order and wait until its state is 'confirmed': seconds from the request on.

    A range is its tolerance: {"type": "range", "range": [0, 3]}. Raises ActivityFailed if the order is not accepted,
    is rejected, or is not confirmed within `within_s`.
    """
    with opened(deployment, configuration) as target, _looking(target, None, configuration) as looker:
        one = steady.try_once(looker, "place-order", follow_ms=1000 * float(within_s))
    if one.followed is None:
        raise ActivityFailed(f"the order was not accepted: {one.result.status} {one.result.error}")
    if one.followed.effect is not Effect.UNAFFECTED:
        after_s = one.followed.after_ms / 1000
        raise ActivityFailed(
            f"order {one.result.subject} is {one.followed.state or 'not to be seen'} after {after_s:.1f} s"
        )
    return round(one.followed.after_ms / 1000, 3)


def queue_depth(deployment: str, queue: str = "", configuration: dict[str, Any] | None = None) -> int:
    """Messages that wait in a queue or are worked on; in all queues that services read, if none is named."""
    with opened(deployment, configuration) as target:
        names = [queue] if queue else [q.name for q in messaging(stage_of(target.record)).queues]
        return sum(target.cloud.depth(target.record.name, name) for name in names)


def dead_letters(deployment: str, queue: str = "", configuration: dict[str, Any] | None = None) -> int:
    """Messages that nobody could handle: those of one queue, or of all."""
    with opened(deployment, configuration) as target:
        found = [q.dead_letters for q in messaging(stage_of(target.record)).queues if queue in ("", q.name)]
        if not found:
            raise ActivityFailed(f"stage {target.record.stage!r} has no queue {queue!r}")
        return sum(target.cloud.depth(target.record.name, name) for name in found)


def _look(
    target: Target, allowed: dict[str, Prediction], lease: Lease | None, configuration: dict[str, Any] | None
) -> dict[str, dict[str, Any]]:
    skip = frozenset(name for name, prediction in allowed.items() if prediction.effect is Effect.FAILING)
    late = frozenset(name for name, prediction in allowed.items() if prediction.effect is Effect.DELAYED)
    with _looking(target, lease, configuration) as looker:
        return steady.look(stage_of(target.record), looker, skip=skip, unfollowed=late)


@contextmanager
def _looking(target: Target, lease: Lease | None, configuration: dict[str, Any] | None) -> Iterator[steady.Looker]:
    """Through the edge, as the one user of this experiment; every request is written down, the lease kept alive."""
    settings = {**(configuration or {}), "deployment": str(target.path)}
    renewed = time.monotonic()

    def renew() -> None:
        nonlocal renewed
        if lease is not None and time.monotonic() - renewed > 1:
            lease.renew()
            renewed = time.monotonic()

    with edge.sending(target.record.edge) as send:
        yield steady.Looker(
            client=edge.shopper(target.record.run_id, target.token),
            send=send,
            tried=edge.recorder(controls.history_of(settings)),
            meanwhile=renew,
        )


def _is_on(target: Target, lease: Lease) -> bool:
    return target.cloud.look(target.record.name, lease.name).state is State.ON


def _was_on(target: Target, lease: Lease) -> bool:
    return target.cloud.look(target.record.name, lease.name).state not in {State.NONE, State.DRY}


def _predicted(target: Target, fault: Fault) -> dict[str, Prediction]:
    stage = stage_of(target.record)
    return predict(stage, fault.impact(stage))
