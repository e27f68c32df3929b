"""A journal proves what its entries prove; its status and an exit code prove nothing.

The journals of the table are made by Chaos Toolkit itself, from experiments whose activities stand in
for those of this package: what it really writes, not what one believes that it writes.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from chaoslib.exceptions import InterruptExecution
from chaoslib.experiment import run_experiment
from chaoslib.types import Strategy

from chaos.controls import after_activity_control, before_activity_control
from chaos.journal import Done, outcome
from chaos.lease import ChaosError
from chaos.steps import after, before, what_failed
from stages.history import FaultStep, read

MODULE = "chaos.standin_for_tests"


def inject(name: str, behaviour: str = "on") -> dict[str, Any]:
    if behaviour == "refused":
        raise RuntimeError("not injecting: not ours")
    if behaviour == "raises":
        raise RuntimeError("the cloud fell")
    return {"state": behaviour, "evidence": {"pid": 7}}


def fault_bites(name: str, bit: bool = True) -> dict[str, Any]:
    return {"bit": bit, "seen_by": "payments refuses connections"}


def hold(name: str, lost: bool = False) -> dict[str, Any]:
    if lost:
        raise RuntimeError("lease is expired: the fault did not stay on")
    return {"held_s": 1.0}


def undo(name: str, fails: bool = False) -> dict[str, Any]:
    if fails:
        raise ChaosError("still on; run `stages heal`")
    return {"state": "undone"}


def recovered(name: str, done: bool | None = None) -> dict[str, Any]:
    return {"recovered": done, "after_s": 2.5, "not_steady": [] if done else ["browse is failing"]}


def operations_steady(name: str, steady: bool = True, raises: bool = False) -> dict[str, Any]:
    if raises:
        raise RuntimeError("the edge is gone")
    return {"not_steady": [] if steady else ["browse is failing"]}


def no_worse_than_predicted(value: dict[str, Any]) -> bool:
    return not value["not_steady"]


@pytest.fixture(autouse=True)
def standin() -> Iterator[None]:
    """The functions above, importable by Chaos Toolkit under this package's name."""
    module = types.ModuleType(MODULE)
    for function in (inject, fault_bites, hold, undo, recovered, operations_steady, no_worse_than_predicted):
        setattr(module, function.__name__, function)
    sys.modules[MODULE] = module
    yield
    del sys.modules[MODULE]


def activity(func: str, **arguments: Any) -> dict[str, Any]:
    provider = {"type": "python", "module": MODULE, "func": func, "arguments": {"name": "payments-killed", **arguments}}
    return {"type": "action", "name": func, "provider": provider}


def journal(
    method: list[dict[str, Any]], rollbacks: list[dict[str, Any]], hypothesis: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    experiment: dict[str, Any] = {"title": "t", "description": "d", "method": method, "rollbacks": rollbacks}
    if hypothesis is not None:
        tolerance = activity("no_worse_than_predicted")
        tolerance["provider"]["arguments"] = {}
        probe = {
            **activity("operations_steady", **hypothesis),
            "type": "probe",
            "tolerance": {**tolerance, "type": "probe"},
        }
        experiment["steady-state-hypothesis"] = {"title": "h", "probes": [probe]}
    return run_experiment(
        {**experiment, **more},
        settings={"runtime": {"rollbacks": {"strategy": "always"}}},
        strategy=Strategy.SKIP if hypothesis is None else Strategy.DEFAULT,
    )


GOOD = [activity("inject"), activity("fault_bites"), activity("hold")]


def test_a_run_without_blemish_is_injected_seen_and_undone() -> None:
    written = journal(GOOD, [activity("undo"), activity("recovered", done=True)], hypothesis={})
    found = outcome(written)
    assert (found.done, found.bit, found.seen_by) == (Done.INJECTED, True, "payments refuses connections")
    assert (found.undone, found.recovered_s, found.problems) == (True, 2.5, ())


@pytest.mark.parametrize(
    ("method", "hypothesis", "done", "bit", "problem"),
    [
        pytest.param(GOOD, {"steady": False}, Done.FAILED, False, "the method was not played", id="not steady before"),
        pytest.param(GOOD, {"raises": True}, Done.FAILED, False, "the edge is gone", id="hypothesis raises"),
        pytest.param([], {}, Done.FAILED, False, "the experiment has no method", id="no method"),
        pytest.param(
            [activity("inject", behaviour="raises"), *GOOD[1:]], None, Done.FAILED, False, "the cloud fell", id="raises"
        ),
        pytest.param(
            [activity("inject", behaviour="refused")],
            None,
            Done.REFUSED,
            False,
            "not injecting: not ours",
            id="refused",
        ),
        pytest.param([activity("inject", behaviour="dry")], None, Done.REFUSED, False, "", id="dry run"),
        pytest.param(
            [GOOD[0], activity("fault_bites", bit=False), GOOD[2]],
            None,
            Done.INJECTED,
            False,
            "not seen to bite",
            id="toothless",
        ),
        pytest.param([*GOOD[:2], activity("hold", lost=True)], None, Done.INJECTED, True, "did not stay on", id="lost"),
    ],
)
def test_what_chaos_toolkit_calls_completed_is_not_taken_for_evidence(method, hypothesis, done, bit, problem) -> None:
    written = journal(method, [activity("undo")], hypothesis)
    found = outcome(written)
    assert (found.done, found.bit) == (done, bit)
    assert problem in " | ".join(found.problems), written["status"]


def test_an_undo_that_failed_is_never_undone() -> None:
    found = outcome(journal(GOOD, [activity("undo", fails=True)]))
    assert (found.undone, found.bit) == (False, True)
    assert found.problems == ("undo: still on; run `stages heal`",)


def test_an_undo_that_was_not_played_is_never_undone() -> None:
    found = outcome(journal(GOOD, []))
    assert not found.undone
    assert found.problems == ("no rollback was played",)


def test_operations_that_did_not_recover_are_named() -> None:
    found = outcome(journal(GOOD, [activity("undo"), activity("recovered", done=False)]))
    assert found.recovered_s is None
    assert found.problems == ("not recovered: browse is failing",)


def test_chaos_toolkits_own_dry_mode_is_no_evidence() -> None:
    from chaoslib.types import Dry

    found = outcome(journal(GOOD, [activity("undo")], dry=Dry.ACTIVITIES))
    assert (found.done, found.bit) == (Done.REFUSED, False)


def test_an_empty_journal_is_a_failed_run() -> None:
    found = outcome({})
    assert (found.done, found.bit, found.undone) == (Done.FAILED, False, False)
    assert "the method was not played" in found.problems


def succeeded(output: dict[str, Any]) -> dict[str, Any]:
    return {"status": "succeeded", "output": output}


def failed(said: str) -> dict[str, Any]:
    return {"status": "failed", "output": None, "exception": [f"chaoslib.exceptions.ActivityFailed: {said}\n"]}


def test_an_intent_comes_before_an_injection_and_nothing_before_a_probe() -> None:
    assert before(activity("inject", fault={"kind": "kill"})) == (
        "payments-killed",
        FaultStep.INTENT,
        '{"kind": "kill"}',
    )
    assert before(activity("undo")) == ("payments-killed", FaultStep.UNDOING, "")
    assert before(activity("fault_bites")) is None
    assert before({"provider": {"type": "python", "module": "somebody.else", "func": "inject"}}) is None


@pytest.mark.parametrize(
    ("func", "run", "step", "detail"),
    [
        ("inject", succeeded({"state": "on", "evidence": {"pid": 7}}), FaultStep.INJECTED, '{"pid": 7}'),
        ("inject", succeeded({"state": "dry", "evidence": "x"}), FaultStep.REFUSED, "dry run: x"),
        ("inject", failed("chaos.guard.Refused: not injecting: not ours"), FaultStep.REFUSED, "not ours"),
        ("inject", failed("chaos.lease.CloudError: down"), FaultStep.FAILED, "inject: down"),
        ("inject", None, FaultStep.FAILED, "inject: interrupted"),
        ("fault_bites", succeeded({"bit": True, "seen_by": "refuses"}), FaultStep.SEEN, "refuses"),
        ("fault_bites", succeeded({"bit": False, "seen_by": "answers"}), FaultStep.FAILED, "it did not bite: answers"),
        ("hold", failed("chaos.lease.LeaseLost: gone"), FaultStep.FAILED, "hold: gone"),
        ("undo", succeeded({"state": "undone"}), FaultStep.UNDONE, "undone"),
        ("undo", failed("still on"), FaultStep.FAILED, "undo: still on"),
    ],
)
def test_the_end_of_an_activity_is_a_step_in_the_life_of_its_fault(func, run, step, detail) -> None:
    assert after(activity(func), run) == ("payments-killed", step, detail)


def test_a_hold_that_went_well_and_other_peoples_activities_are_no_step() -> None:
    assert after(activity("hold"), succeeded({})) is None
    assert after({"provider": {"module": "somebody.else", "func": "undo"}}, succeeded({})) is None


def test_the_reason_of_a_failure_is_its_last_line_without_the_classes() -> None:
    said = ["Traceback: ...\n", "chaoslib.exceptions.ActivityFailed: chaos.lease.CloudError: 409 no: such thing\n"]
    assert what_failed({"exception": said}) == "409 no: such thing"


def test_an_intent_that_cannot_be_written_ends_the_experiment_before_the_act(tmp_path) -> None:
    with pytest.raises(InterruptExecution, match="not injecting: the intent cannot be written"):
        before_activity_control(activity("inject"), configuration={"history": str(tmp_path / "no" / "where")})
    before_activity_control(activity("undo"), configuration={"history": str(tmp_path / "no" / "where")})


def test_a_fault_that_is_not_on_ends_the_method_and_an_undo_that_failed_does_not_end_the_rollbacks(tmp_path) -> None:
    configuration = {"history": str(tmp_path / "chaos.jsonl")}
    for func, run in (("inject", failed("down")), ("fault_bites", succeeded({"bit": False})), ("hold", failed("lost"))):
        with pytest.raises(InterruptExecution, match="payments-killed is failed"):
            after_activity_control(activity(func), run, configuration)
    after_activity_control(activity("undo"), failed("still on"), configuration)
    after_activity_control(activity("hold"), None, configuration)  # an interrupt is on its way already
    lines = (tmp_path / "chaos.jsonl").read_text().splitlines(keepends=True)
    assert [event.step for event in read(lines)] == [FaultStep.FAILED] * 5
