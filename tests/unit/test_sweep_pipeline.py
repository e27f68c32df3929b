"""The whole sweep on a simulated shop: what does it measure, write and leave, however it goes?"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stages.catalogue import STAGES
from stages.deployment import Deployment
from stages.distance import round_trips, wires_between_systems
from stages.history import Invocation, Outcome, read
from suite.ports import SuiteError
from suite.store import Store
from suite.sweep import Stretched, SweepTools
from suite.sweep_document import decided
from suite.sweep_plan import make_sweep
from suite.sweep_run import FILES, SweepParts, summary, sweep
from suite.testing.world import FakeClock, World, WorldLoad
from suite.wishes import SweepWishes

RUNNING = Deployment(
    name="mine", run_id="r", stage="sync", target="local", control="", edge="http://127.0.0.1:1", directory=""
)


@dataclass
class Wires:
    """Wires that are as long as they are told, and remember it."""

    clock: FakeClock
    one_way_ms: int = 0
    wires: tuple[str, ...] = ()
    renewed_ns: int = 0
    seen_ms: list[int] = field(default_factory=list)
    closed: int = 0
    dull: bool = False
    """Nothing rests on them."""
    fails_at: int | None = None
    """Being told this distance fails."""
    interrupts_at: int | None = None
    lease_s: float = 5.0

    def stretch(self, deployment: Deployment, wires: Sequence[str], one_way_ms: int) -> None:
        if one_way_ms == self.fails_at:
            raise SuiteError("the wires did not budge")
        if one_way_ms == self.interrupts_at:
            raise KeyboardInterrupt
        self.clock.sleep(0.3)
        self.one_way_ms, self.wires, self.renewed_ns = one_way_ms, tuple(wires), self.clock.now_ns()
        self.seen_ms.append(one_way_ms)

    def renew(self) -> None:
        assert self.clock.now_ns() - self.renewed_ns < self.lease_s * 1e9, "a lease ran out"
        self.renewed_ns = self.clock.now_ns()

    def seen(self) -> Stretched:
        return Stretched(pieces=0, mean_ms=None) if self.dull else Stretched(pieces=99, mean_ms=float(self.one_way_ms))

    def close(self) -> None:
        self.closed += 1
        self.one_way_ms, self.wires = 0, ()


class FarLoad(WorldLoad):
    """Answers come later by the distance, as often as the shop waits for it."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.world)
        self._shop = shop

    def _invocation(self, operation: str) -> Invocation:
        good = super()._invocation(operation)
        shop = self._shop
        one_way_ms = shop.wires.one_way_ms if shop.wires.wires else 0
        more_ms = shop.trips[operation] * 2 * one_way_ms
        return shop.spoil(replace(good, ended_ns=good.ended_ns + int(more_ms * 1e6)), one_way_ms)


@dataclass
class Shop:
    """A simulated shop whose systems can be moved apart."""

    directory: Path
    stage: str = "sync"
    really: Mapping[str, int] = field(default_factory=dict)
    """Round trips where they are not as predicted."""
    spoil: Callable[[Invocation, int], Invocation] = lambda invocation, one_way_ms: invocation
    world_of: Mapping[str, Any] = field(default_factory=dict)
    wires_of: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(self.directory, **self.world_of)
        self.wires = Wires(self.world.clock, **self.wires_of)
        self.trips = {**round_trips(STAGES[self.stage]), **self.really}
        self.said: list[str] = []

    def sweep(self, *, use: Deployment | None = None, quick: bool = True, **wishes: Any) -> dict[str, Any]:
        plan = make_sweep(SweepWishes(stages=(self.stage,), quick=quick, **wishes), cannot={})
        now = datetime.now(UTC)
        tools = SweepTools(
            target=self.world.target,
            load=lambda: FarLoad(self),
            distance=lambda: self.wires,
            clock=self.world.clock,
            store=Store.create(self.directory / "out", now=now, seed=1),
            progress=self.said.append,
            owner_pid=1,
            new_run_id=lambda: "run",
            decided=decided,
            use=use,
        )
        return sweep(SweepParts(plan=plan, tools=tools, started=now, command=("stages", "sweep", "distance")))


def stage_of(document: Mapping[str, Any], name: str = "sync") -> Any:
    return document["stages"][name]


@pytest.mark.parametrize(("stage", "quick"), [("sync", False), ("sync", True), ("async", True)])
def test_a_shop_as_the_model_says_is_valid(tmp_path: Path, stage: str, quick: bool) -> None:
    shop = Shop(tmp_path, stage)
    found = shop.sweep(quick=quick)
    assert found["verdict"] == "valid", found["because"]
    for name, operation in stage_of(found, stage)["operations"].items():
        assert operation["predicted"] == shop.trips[name]
        assert operation["slope"] == pytest.approx(shop.trips[name], abs=0.3), name
        assert operation["low"] <= operation["slope"] <= operation["high"]
        assert [p[0] for p in operation["points"]] == found["delays_ms"]
        assert all(n >= 20 for _, _, n in operation["points"])
    assert {c["name"]: c["verdict"] for c in stage_of(found, stage)["checks"]} == {
        "distance-was-there": "valid",
        "nothing-left-behind": "valid",
    }


def test_an_answer_that_waits_once_more_than_predicted_is_invalid_and_named(tmp_path: Path) -> None:
    found = Shop(tmp_path, really={"register": 4}).sweep()
    assert found["verdict"] == "invalid"
    assert {n: o["verdict"] for n, o in stage_of(found)["operations"].items() if o["verdict"] != "valid"} == {
        "register": "invalid"
    }
    assert "sync register: " in found["because"]
    assert "3 exchanges" in found["because"]


def test_an_async_shop_that_still_waits_for_a_queue_is_invalid(tmp_path: Path) -> None:
    found = Shop(tmp_path, "async", really={"place-order": 1}).sweep()
    assert stage_of(found, "async")["operations"]["place-order"]["verdict"] == "invalid"


def test_exactly_the_wires_between_systems_grow_and_are_let_go(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    seen: set[tuple[str, ...]] = set()
    shop.spoil = lambda invocation, _: (seen.add(shop.wires.wires), invocation)[1]
    found = stage_of(shop.sweep())
    order = [block["one_way_ms"] for block in found["blocks"]]
    assert order == order[::-1]
    assert seen - {()} == {wires_between_systems(STAGES["sync"])}
    assert shop.wires.seen_ms == [max(order), *order], "connections that only distance needs are opened before"
    assert shop.wires.closed >= 1
    assert shop.wires.wires == ()
    assert shop.world.target.names() == []


def disturb(shop: Shop, blocks: int) -> None:
    """A machine whose mood changes from block to block, for so many of them."""
    chance = random.Random(5)
    mood_ms = [chance.uniform(0, 900) for _ in range(blocks)]

    def spoil(invocation: Invocation, one_way_ms: int) -> Invocation:
        number = len(shop.wires.seen_ms) - 1  # the warm-up has a distance too
        more_ms = mood_ms[number] if number < blocks else 0.0
        return replace(invocation, ended_ns=invocation.ended_ns + int(more_ms * 1e6))

    shop.spoil = spoil


def test_a_disturbed_machine_is_given_another_round(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    disturb(shop, blocks=8)
    found = shop.sweep(quick=False)
    assert found["verdict"] == "valid", found["because"]
    assert stage_of(found)["rounds"] > 2


def test_what_stays_undecided_ends_as_unknown_after_the_last_round(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    disturb(shop, blocks=100)
    found = shop.sweep(quick=False)
    assert stage_of(found)["rounds"] == 4
    assert found["verdict"] == "unknown", found["because"]


def test_a_shop_that_fails_far_away_is_unknown(tmp_path: Path) -> None:
    def too_far(invocation: Invocation, one_way_ms: int) -> Invocation:
        failing = one_way_ms == 50 and invocation.operation == "place-order"
        return replace(invocation, outcome=Outcome.UNKNOWN) if failing else invocation

    place = stage_of(Shop(tmp_path, spoil=too_far).sweep())["operations"]["place-order"]
    assert place["verdict"] == "unknown"
    assert "at 50 ms one way" in place["because"]


def test_fallback_answers_are_not_answers_of_the_path(tmp_path: Path) -> None:
    found = Shop(tmp_path, spoil=lambda i, _: replace(i, degraded=i.operation == "browse")).sweep()
    browse = stage_of(found)["operations"]["browse"]
    assert (browse["verdict"], browse["points"]) == ("unknown", [])
    assert found["verdict"] == "unknown"


def test_a_distance_that_nobody_felt_proves_nothing(tmp_path: Path) -> None:
    """Otherwise the flat lines of stage async would always be 'valid'."""
    shop = Shop(tmp_path, "async", really={"browse": 0, "insights": 0}, wires_of={"dull": True})
    found = shop.sweep()
    assert found["verdict"] != "valid"
    was_there = stage_of(found, "async")["checks"][0]
    assert (was_there["name"], was_there["verdict"]) == ("distance-was-there", "unknown")
    assert "0 pieces rested" in was_there["because"]


def test_a_lagging_generator_is_unknown(tmp_path: Path) -> None:
    late = Shop(tmp_path, spoil=lambda i, _: replace(i, started_ns=i.intended_ns + 30_000_000)).sweep()
    assert late["verdict"] == "unknown"
    assert "generator lagged" in late["because"]


def test_a_sweep_that_breaks_off_keeps_what_it_saw_and_is_unknown(tmp_path: Path) -> None:
    shop = Shop(tmp_path, wires_of={"fails_at": 25})
    found = shop.sweep()
    assert found["verdict"] == "unknown"
    assert stage_of(found)["trouble"] == "the wires did not budge"
    assert "the wires did not budge" in found["because"]
    assert stage_of(found)["operations"] == {}
    assert shop.wires.wires == ()
    assert shop.world.target.names() == []


def test_a_stage_that_cannot_be_deployed_is_unknown_with_the_reason(tmp_path: Path) -> None:
    found = Shop(tmp_path, world_of={"broken_up": "no room"}).sweep()
    assert (found["verdict"], stage_of(found)["trouble"]) == ("unknown", "no room")


def test_what_is_left_behind_is_invalid(tmp_path: Path) -> None:
    found = Shop(tmp_path, world_of={"left_over": ["process 4711"]}).sweep()
    assert found["verdict"] == "invalid"
    assert "process 4711" in found["because"]


def test_an_interrupt_undoes_everything_and_what_was_seen_is_written(tmp_path: Path) -> None:
    shop = Shop(tmp_path, wires_of={"interrupts_at": 25})
    with pytest.raises(KeyboardInterrupt):
        shop.sweep(seed=3)
    assert shop.wires.wires == ()
    assert shop.wires.closed == 1
    assert shop.world.target.names() == []
    with (tmp_path / "out" / "history.jsonl").open() as lines:
        assert list(read(lines))
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_somebody_elses_deployment_is_left_running(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    up = shop.world.target.up(
        STAGES["sync"], name="mine", run_id="r", variant=None, owner_pid=None, progress=lambda text: None
    )
    found = shop.sweep(use=up)
    assert found["verdict"] == "valid", found["because"]
    assert shop.world.target.names() == ["mine"]


def test_completions_have_a_slope_and_no_verdict(tmp_path: Path) -> None:
    completions = stage_of(Shop(tmp_path).sweep())["completions"]
    assert completions["order-completed"]["operation"] == "place-order"
    assert "verdict" not in completions["order-completed"]
    # the simulated shop has completed an order when it answers
    assert completions["order-completed"]["slope"] is not None


def test_the_files_of_a_sweep_hold_together(tmp_path: Path) -> None:
    found = Shop(tmp_path).sweep()
    out = tmp_path / "out"
    assert [name for name in FILES if not (out / name).is_file()] == []
    assert json.loads((out / "sweep.json").read_text()) == found
    page = (out / "sweep.html").read_text()
    assert "place-order" in page
    assert "<svg" in page
    assert "<script src" not in page
    assert not (out / "parts").exists()


def test_the_table_shows_measured_beside_predicted(tmp_path: Path) -> None:
    found = Shop(tmp_path, really={"register": 4}).sweep()
    console = Console(width=160, record=True, file=(tmp_path / "console").open("w"))
    for renderable in summary(found):
        console.print(renderable)
    text = console.export_text()
    console.file.close()
    assert "round trips" in text
    row = next(line for line in text.splitlines() if line.startswith("register"))
    assert row.split()[-2:] == ["3", "invalid"]
    assert "order-completed (completion)" in text
    assert "invalid: sync register" in text
