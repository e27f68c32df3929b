"""A shop with a mesh and a candidate, played: every call is logged as its sidecars would, and none takes any time.

shop = CanaryShop(clock, seed=1)
run_canary(plan, shop.tools())
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages.check import Outstanding
from stages.deployment import Deployment
from stages.mesh import CANARY, STABLE
from suite.canary import Calls, CanaryPlan, CanaryTools
from suite.ports import SuiteError
from suite.signals_lines import INGRESS, OUT, Line
from suite.testing.world import SECOND_NS, FakeClock


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a version's calls come to."""

    failing: float = 0.0
    """Share that is answered 500."""
    duration_ms: float = 8.0


GOOD = Behaviour()
BY_DEFECT = {"none": GOOD, "slow": Behaviour(duration_ms=608.0), "failing": Behaviour(failing=0.5)}


@dataclass
class CanaryShop:
    """Users, one channel to the service under test, and whoever starts candidates of it."""

    clock: FakeClock = field(default_factory=FakeClock)
    seed: int = 1
    edge: str = "storefront-inventory"
    stable: Behaviour = GOOD
    candidate: Behaviour | None = None
    """None: as its defect says."""
    driven_per_s: float = 0.0
    """By others."""
    crooked: float = 1.0
    """By how much more than its share a candidate gets."""
    dead: bool = False
    """The candidate is never met."""
    refuses: str = ""
    """Starting a candidate fails with these words."""
    user_failures: float = 0.0
    """Share of users' requests that fail for no reason of the candidate's."""
    rescued: bool = False
    """Whether a failed call is made good by a fallback, so that no user's request fails with it."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.share = 0.0
        self.rate = self.driven_per_s
        self.running: Behaviour | None = None
        self.only_version = STABLE
        self.done: list[str] = []
        """What was asked of it, in order."""
        self.written: list[Line] = []
        self.clock.listeners.append(self._serve)

    def tools(self) -> CanaryTools:
        return CanaryTools(
            candidates=self,
            calls=lambda plan: _Log(self, plan),
            load=lambda: _Load(self),
            clock=self.clock,
            progress=lambda text: None,
            run_id="run",
        )

    # Candidates

    def start(self, deployment: Deployment, service: str, share_percent: int, defect: str) -> None:
        self.done.append(f"start {service} at {share_percent}")
        self.clock.sleep(3)
        if self.refuses:
            raise SuiteError(self.refuses)
        self.running = self.candidate or BY_DEFECT[defect]
        self.share = 0.0 if self.dead else share_percent / 100 * self.crooked

    def promote(self, deployment: Deployment, service: str) -> None:
        self.done.append(f"promote {service}")
        self.share, self.running, self.only_version = 0.0, None, CANARY
        self.clock.sleep(4)

    def take_away(self, deployment: Deployment, service: str) -> None:
        if self.running is not None:
            self.done.append(f"take away {service}")
        self.share, self.running = 0.0, None

    # what happens meanwhile

    def _serve(self, start_ns: int, end_ns: int) -> None:
        count = int(self.rate * (end_ns - start_ns) / SECOND_NS + self.rng.random())
        for at_ns in sorted(self.rng.randrange(start_ns, end_ns) for _ in range(count)):
            met = self.rng.random() < self.share
            how = self.running if met and self.running is not None else self.stable
            failed = self.rng.random() < how.failing
            call = self._line(OUT, self.edge, CANARY if met else STABLE, at_ns, 500 if failed else 200, how.duration_ms)
            broken = (failed and not self.rescued) or self.rng.random() < self.user_failures
            came = self._line(INGRESS, "users-storefront", "", at_ns, 503 if broken else 200, how.duration_ms + 2)
            self.written += (call, came)

    def _line(self, side: str, edge: str, version: str, at_ns: int, status: int, duration_ms: float) -> Line:
        return Line(
            start_ns=at_ns,
            side=side,
            part="storefront-sidecar",
            edge=edge,
            version=version,
            peer="",
            method="GET",
            path="/products",
            status=status,
            flags=(),
            duration_ms=duration_ms,
            upstream_ms=None,
            trace_id="",
            parent_id="",
            gateway="",
            attempts=1,
        )


class _Log(Calls):
    """All there is, that of before too: sidecars write late."""

    def __init__(self, shop: CanaryShop, plan: CanaryPlan) -> None:
        self._shop = shop
        self._read = 0

    def new(self) -> Sequence[Line]:
        found, self._read = self._shop.written[self._read :], len(self._shop.written)
        return found


class _Load:
    """Makes users come."""

    def __init__(self, shop: CanaryShop) -> None:
        self._shop = shop

    def start(
        self, deployment: Deployment, *, run_id: str, rate: float, seed: int, mix: Mapping[str, int]
    ) -> list[Path]:
        self._shop.rate = rate
        self._shop.done.append(f"load {', '.join(mix)}")
        return []

    def mix(self, mix: Mapping[str, int]) -> None:
        pass

    def restock(self, orders: int) -> None:
        self._shop.done.append("restock")

    def phase(self, name: str) -> None:
        pass

    def outstanding(self) -> list[Outstanding]:
        return []

    def stop(self) -> None:
        self._shop.rate = 0.0

    def close(self) -> None:
        self.stop()
