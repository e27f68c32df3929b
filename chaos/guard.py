"""Is this ours to break? A staircase: each step may refuse, and a step that cannot be evaluated refuses.

The steps go from what the record says to what the running target says; nothing is injected before the
last one was passed. A refusal reads 'not injecting: <reason>'.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from chaos.faults import Fault
from chaos.lease import ChaosError, CloudError, LeaseState, Live
from chaos.spec import FaultError, from_spec, malformed
from chaos.support import refusal
from chaos.wires import queues, wires
from stages.catalogue import STAGES
from stages.deployment import Deployment
from stages.model import Stage


class Refused(ChaosError):
    """A guard said no; nothing was done."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not injecting: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the guards look at."""

    fault: Fault
    lease: str
    """The name of the lease under which this process is about to inject."""
    record: Deployment
    """What the deployment record says."""
    live: Callable[[], Live]
    """Asks the target what is there now; raises CloudError."""
    uid: int
    """Our own user id."""


def check(facts: Facts) -> Live:
    """Climb all steps and return the live deployment; raise Refused at the first that says no."""
    for step in (_is_sound, _is_supported, _socket_is_ours, _is_loopback):
        _climb(step, facts)
    try:
        live = facts.live()
    except CloudError as error:
        raise Refused(f"the target cannot be asked what runs there: {error}") from error
    for ask in (_is_the_same_run, _has_the_target, _is_free):
        _climb(lambda f, ask=ask: ask(f, live), facts)  # type: ignore[misc]  # a default argument binds the loop's value
    return live


def _climb(step: Callable[[Facts], str | None], facts: Facts) -> None:
    try:
        reason = step(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"a guard could not be evaluated ({step.__name__}: {type(error).__name__}: {error})"
    if reason:
        raise Refused(reason)


def _is_sound(facts: Facts) -> str | None:
    return "; ".join(malformed(facts.fault)) or None


def _is_supported(facts: Facts) -> str | None:
    return refusal(facts.record.target, facts.fault.kind)


def _socket_is_ours(facts: Facts) -> str | None:
    """A unix socket that we own, in a directory that nobody but us can enter."""
    path = Path(facts.record.control)
    directory = path.parent
    if not path.is_absolute() or not stat.S_ISSOCK(path.stat().st_mode):
        return f"control address {str(path)!r} is not a unix socket"
    for owned in (path, directory):
        if owned.stat().st_uid != facts.uid:
            return f"{str(owned)!r} belongs to user {owned.stat().st_uid}, we are {facts.uid}"
    mode = stat.S_IMODE(directory.stat().st_mode)
    return (
        f"{str(directory)!r} has mode {mode:04o} and must have 0700: others could have put it there"
        if mode & 0o077
        else None
    )


def _is_loopback(facts: Facts) -> str | None:
    record = facts.record
    hosts = {
        "edge": urlsplit(record.edge).hostname,
        **{f"service {name}": urlsplit(i.url).hostname for name, i in record.services.items()},
        **{f"service {name}": urlsplit(p.admin).hostname for name, p in record.parts.items()},
        **{f"wire {name}": w.listen.rpartition(":")[0] for name, w in record.wires.items()},
    }
    for what, host in hosts.items():
        if not ip_address(host or "").is_loopback:
            return f"{what} is at {host!r}, which is not this machine's loopback"
    return None


def _is_the_same_run(facts: Facts, live: Live) -> str | None:
    theirs, ours = live.deployment, facts.record
    if (theirs.name, theirs.run_id) != (ours.name, ours.run_id):
        return (
            f"the record is of {ours.name!r} with run id {ours.run_id!r}, "
            f"but what runs is {theirs.name!r} with run id {theirs.run_id!r}"
        )
    return None


def _has_the_target(facts: Facts, live: Live) -> str | None:
    deployment, stage = live.deployment, stage_of(live.deployment)
    known = {
        "service": {*deployment.services, *deployment.parts},
        "wire": set(deployment.wires) & set(wires(stage)),
        "database": {n for n, i in deployment.services.items() if i.database},
        "cluster": {i.cluster for i in deployment.services.values()},
        # One that somebody else runs serves others too, who have not asked for any fault.
        "broker": set(live.brokers),
        "queue": set(live.queues) & set(queues(stage)),
        "registry": set(live.registries),
        "authority": set(live.authorities),
    }
    for need in facts.fault.needs:
        kind, _, name = need.partition(" ")
        if name not in known[kind]:
            there = ", ".join(sorted(known[kind])) or "none"
            own = " of its own" if kind in {"broker", "queue"} else ""
            return f"deployment {deployment.name!r} has no {kind} {name!r}{own}; it has {there}"
    return None


def _is_free(facts: Facts, live: Live) -> str | None:
    """Two faults at one place could not be told apart, and the undo of one might undo half of the other."""
    stage = stage_of(live.deployment)
    mine = facts.fault.touches(stage)
    for other in live.faults:
        if other.lease == facts.lease:
            continue  # our own: injecting again is idempotent
        if shared := mine & _touched(other, stage):
            return f"lease {other.lease!r} is already on {', '.join(sorted(shared))}; wait for it or run `stages heal`"
    return None


def _touched(other: LeaseState, stage: Stage) -> frozenset[str]:
    try:
        return from_spec(other.fault).touches(stage)
    except FaultError as error:
        raise ValueError(f"lease {other.lease!r} holds something unknown: {error}") from error


def stage_of(deployment: Deployment) -> Stage:
    """The stage that a deployment runs; raise KeyError for one that this release does not know."""
    return STAGES[deployment.stage]


def our_uid() -> int:
    """The user on whose behalf this process acts."""
    return os.geteuid()
