"""`make soak`: kills and outages drawn from a seed, and no accepted operation lost or applied twice.

    round   load 8 s, meanwhile: SIGKILL of services (orders and accounts take their relay with them), of the local
            cloud's daemon, the broker away; whoever holds a fault dies at once, so that each ends by its lease
            -> drain -> every invariant of stage async over what the services recorded

A round's seed decides everything but the machine's timing; it stands in every line and every failure.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.local.client import LocalCloud
from infra.local.home import Home, default_home
from stages.catalogue import ASYNC
from stages.check import Seen, Verdict, invariants
from stages.deployment import Deployment
from stages.history import Audit
from stages.messaging import talkers
from suite.adapters import LocalStages, LocustLoad, MonotonicClock
from suite.gathered import Gathered

LOAD_S = 8.0
RATE = 30.0
MIX = {"place-order": 4, "register": 2, "cancel-order": 2, "track-order": 1}
BROKER_AWAY_S = 10.0
DOWN_S = (0.5, 4.0)
"""How long a killed service stays dead: drawn from this range."""
ACTS = (2, 6)
"""Acts per round."""
DRAIN_S = 60.0
"""Longest wait until all that was accepted is done."""
UNFINISHED = ("pending", "compensating")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that goes wrong."""

    at_s: float
    """After the load began."""
    what: str
    """A service to kill, 'broker' (away), or 'cloud' (its daemon is killed)."""
    for_s: float = 0.0
    """The lease of the fault, which nobody renews."""


def schedule(seed: int) -> tuple[Act, ...]:
    """What goes wrong in the round of a seed, in order of time."""
    rng = random.Random(seed)
    targets = [*talkers(ASYNC), "orders", "broker", "cloud"]  # orders twice: it holds the saga and its relay
    acts = []
    for what in rng.sample(targets, rng.randint(*ACTS)):
        for_s = {"broker": BROKER_AWAY_S, "cloud": 0.0}.get(what, rng.uniform(*DOWN_S))
        acts.append(Act(at_s=round(rng.uniform(0.5, LOAD_S - 0.5), 2), what=what, for_s=round(for_s, 2)))
    unique = {act.what: act for act in acts}
    return tuple(sorted(unique.values(), key=lambda act: act.at_s))


def do(act: Act, deployment: Deployment, lease: str) -> None:
    """Let it go wrong. The fault that is asked for ends by its lease alone."""
    home = Home.at(default_home(os.environ))
    if act.what == "cloud":
        for pid in _daemons(home):
            os.kill(pid, signal.SIGKILL)
        return
    fault = (
        {"kind": "broker-outage", "broker": "broker"} if act.what == "broker" else {"kind": "kill", "service": act.what}
    )
    LocalCloud(home).put(f"/deployments/{deployment.name}/faults/{lease}", {"fault": fault, "ttl_s": act.for_s})


def _daemons(home: Home) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "infra.local.daemon" in words and any(str(home.path) in word for word in words):
            found.append(process.pid)
    return found


def one_round(target: LocalStages, deployment: Deployment, seed: int, directory: Path) -> list[str]:
    """Run the round of a seed; every broken promise as a sentence, [] if there is none."""
    run_id = f"{deployment.run_id}-{seed}"
    clock = MonotonicClock()
    gathered = Gathered()
    load = LocustLoad(directory)
    try:
        gathered.follow(load.start(deployment, run_id=run_id, rate=RATE, seed=seed, mix=MIX))
        began = time.monotonic()
        for number, act in enumerate(schedule(seed)):
            clock.sleep(max(0.0, began + act.at_s - time.monotonic()))
            do(act, deployment, f"soak-{seed}-{number}")
        clock.sleep(max(0.0, began + LOAD_S - time.monotonic()))
        load.stop()
    finally:
        load.close()
    gathered.refresh()
    left = _drained(target, deployment)
    audits = list(target.audits(deployment))
    seen = Seen(
        stage=ASYNC,
        run_id=run_id,
        invocations=gathered.invocations,
        audits=audits,
        dead_letters=[letter.record for letter in target.dead_letters(deployment.name)],
    )
    broken = [f"{c.name} is {c.verdict}: {c.because}" for c in invariants(seen) if c.verdict is not Verdict.VALID]
    return [*left, *broken]


def _drained(target: LocalStages, deployment: Deployment) -> list[str]:
    """Wait until nothing is under way any more; say what still is after DRAIN_S."""
    deadline = time.monotonic() + DRAIN_S
    waiting = ""
    while time.monotonic() < deadline:
        try:
            faults = target.active_faults(deployment.name)
            backlog = target.backlog(deployment)
            stuck = [] if faults or backlog.total else _unfinished(target.audits(deployment))
        except Exception as error:  # a service that is being started again does not answer; the deadline decides
            waiting = str(error)
        else:
            if not (faults or backlog.total or stuck):
                return []
            waiting = f"faults {faults}, {backlog}, unfinished {stuck[:5]}"
        time.sleep(0.5)
    return [f"not drained {DRAIN_S:g} s after the load: {waiting}"]


def _unfinished(audits: Any) -> list[str]:
    found: Sequence[Audit] = [a for a in audits if a.state in UNFINISHED]
    return [a.id for a in found]


def soak(rounds: int, seed: int) -> int:
    """Run the rounds of `seed`, `seed` + 1 ...; 0 if no promise was broken, else 1."""
    target = LocalStages()
    name = f"soak-{os.getpid()}"
    broken = 0
    with tempfile.TemporaryDirectory() as directory:
        try:
            deployment = target.up(
                ASYNC, name=name, run_id=name, variant=None, owner_pid=os.getpid(), progress=lambda text: None
            )
            for number in range(seed, seed + rounds):
                began = time.monotonic()
                acts = ", ".join(f"{a.what} at {a.at_s:g} s for {a.for_s:g} s" for a in schedule(number))
                problems = one_round(target, deployment, number, Path(directory) / str(number))
                broken += bool(problems)
                said = "; ".join(problems) or "nothing lost, nothing twice"
                print(f"seed {number}: {acts}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
        finally:
            target.down(name)
    print(f"{rounds - broken} of {rounds} rounds without a broken promise")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Kills and outages drawn from a seed; exit status 1 if a promise broke."
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    given = parser.parse_args()
    sys.exit(soak(given.rounds, given.seed))
