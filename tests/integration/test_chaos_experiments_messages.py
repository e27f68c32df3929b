"""Experiments on a shop that sends messages: what waits comes later, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import experiment
from chaos.catalogue import faults_of
from chaos.driver import ChaosDriver
from chaos.journal import Done, outcome
from stages.catalogue import ASYNC, SYNC
from suite.testing.experiments import chaos_run, deployed, plays_as_predicted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with deployed("async") as directory:
        yield directory


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosDriver]:
    with ChaosDriver(errors=tmp_path_factory.mktemp("chaos") / "errors.log") as one:
        yield one


OF_MESSAGES = sorted({named.name for named in faults_of(ASYNC)} - {named.name for named in faults_of(SYNC)})


@pytest.mark.drawn(3)
@pytest.mark.parametrize("name", ["payments-killed", *OF_MESSAGES])
def test_where_messages_are_sent_the_blast_radius_is_no_larger_than_predicted_either(
    driver, home, tmp_path, name
) -> None:
    plays_as_predicted(driver, home, "async", name, tmp_path)


def test_chaos_run_takes_an_experiment_of_messages_as_it_is(home, tmp_path) -> None:
    written = chaos_run(home, experiment.DIRECTORY / "broker-outage.json", tmp_path, STAGES_HOLD_S="1")
    found = outcome(written)
    assert (found.done, found.bit, found.undone, found.problems) == (Done.INJECTED, True, True, ())
    assert written["deviated"] is False


def test_an_experiment_of_ones_own_may_ask_for_confirmed_orders_and_empty_queues(home, tmp_path) -> None:
    def probe(func: str, tolerance: object, **arguments: object) -> dict[str, object]:
        provider = {
            "type": "python",
            "module": "chaos.probes",
            "func": func,
            "arguments": {"deployment": "", **arguments},
        }
        return {"type": "probe", "name": func, "tolerance": tolerance, "provider": provider}

    soon = {"type": "range", "range": [0, 5]}
    mine = {
        "title": "orders are confirmed",
        "description": "without any fault",
        "configuration": {"home": {"type": "env", "key": "STAGES_HOME"}},
        "steady-state-hypothesis": {
            "title": "orders are confirmed, few messages wait",
            "probes": [
                probe("order_confirmed", soon, within_s=5),
                probe("queue_depth", {"type": "range", "range": [0, 50]}),
            ],
        },
        "method": [probe("dead_letters", 0, queue="email-events")],
        "rollbacks": [],
    }
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    written = chaos_run(home, tmp_path / "mine.json", tmp_path)
    assert (written["status"], written["deviated"]) == ("completed", False)
    [counted] = written["run"]
    assert (counted["status"], counted["output"]) == ("succeeded", 0)
