"""Whatever is SIGKILLed or stopped: does the next command take over, and does `down` leave nothing?"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.client import LocalCloud
from infra.local.errors import CloudError
from infra.local.processes import tagged
from infra.local.testing import CLUSTER, DATABASE, Callers, Shop, end, get, kill_daemon, local_cloud, until
from infra.naming import TAG_CLOUD


def _everything(shop: Shop) -> list[int]:
    return [process.pid for process in tagged({TAG_CLOUD: str(shop.home.path)})]


def _kill_daemon_and_hosts(shop: Shop) -> None:
    kill_daemon(shop.home)
    end(shop.host_pid("wire_host"))
    end(shop.host_pid(CLUSTER))


def _kill_everything(shop: Shop) -> None:
    kill_daemon(shop.home)
    for pid in _everything(shop):
        end(pid)


def _stop_everything(shop: Shop) -> None:
    kill_daemon(shop.home)
    for pid in _everything(shop):
        end(pid, signal.SIGSTOP)


def _lose_the_state(shop: Shop) -> None:
    kill_daemon(shop.home)
    (shop.home.deployment(shop.name) / "state.json").unlink()


def _lose_the_directory(shop: Shop) -> None:
    kill_daemon(shop.home)
    shutil.rmtree(shop.home.deployment(shop.name))


VICTIMS: dict[str, Callable[[Shop], None]] = {
    "daemon": lambda shop: kill_daemon(shop.home),
    "cluster host": lambda shop: end(shop.host_pid(CLUSTER)),
    "wire host": lambda shop: end(shop.host_pid("wire_host")),
    "service": lambda shop: end(shop.pid("back")),
    "broker": lambda shop: end(shop.host_pid("broker")),
    "daemon and hosts": _kill_daemon_and_hosts,
    "everything": _kill_everything,
    "daemon, the rest stopped": _stop_everything,
    "daemon, state lost": _lose_the_state,
    "daemon, directory lost": _lose_the_directory,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_down_leaves_nothing_whatever_was_killed_before(tmp_path: Path, victim: str) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        cloud.put(shop.at("brokers/broker"), {})
        cloud.put(shop.at("queues/q"), {"broker": "broker", "visibility_timeout_s": 5})
        shop.fault("on", kind="latency", wire="front-back", delay_ms=5)
        shop.fault("slow", kind="broker-slow", broker="broker", delay_ms=5)
        shop.fault("held", kind="pause", service="front")
        VICTIMS[victim](shop)
        shop.down()
        assert shop.leftovers() == [], victim


def test_services_and_wires_run_on_without_the_daemon_and_the_next_one_adopts_them(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        before = cloud.get(shop.at())
        callers = Callers(shop.wire(), "/", connections=2)
        callers.start()
        kill_daemon(shop.home)
        seen = len(callers.answers)
        until(lambda: len(callers.answers) > seen + 50, "answers go on without a daemon")
        assert cloud.get(shop.at()) == before
        shop.service("back", word="two", database=DATABASE)
        callers.finish()
        assert callers.failures == []
        assert get(shop.wire())[1].endswith(" two")


def test_services_survive_their_cluster_host_and_a_rollover_starts_another(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        end(shop.host_pid(CLUSTER))
        assert get(shop.wire())[0] == "200"
        shop.service("back", database=DATABASE, restart=True)
        assert get(shop.wire()) == ("200", f"{shop.pid('back')} one")
        shop.fault("outage", kind="cluster-outage", cluster=CLUSTER)
        assert (shop.state("front"), shop.state("back")) == ("down-by-fault", "down-by-fault")
        assert len(shop.lease("outage")["evidence"]["pids"]) == 3, "the orphan of the first host is part of the cluster"


def test_a_start_interrupted_by_the_daemons_death_is_repeated_by_the_client(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        answers: list[object] = []
        starting = threading.Thread(target=lambda: answers.append(shop.service("late", "--slow-start", "0.5")))
        starting.start()
        until(lambda: _starting(shop, "late"), "the instance is being started")
        kill_daemon(shop.home)
        starting.join()
        assert answers
        assert shop.state("late") == "running"
        assert len(_everything(shop)) == 5, "two hosts, three services; the interrupted start left no stray"


def _starting(shop: Shop, name: str) -> bool:
    state = json.loads((shop.home.deployment(shop.name) / "state.json").read_text())
    starting = state["services"].get(name, {}).get("next")
    return bool(starting and starting["process"])


def test_a_rollover_interrupted_by_the_daemons_death_leaves_one_instance(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        callers = Callers(shop.wire(), "/", connections=2)
        callers.start()
        rolling = threading.Thread(target=lambda: shop.service("back", "--slow-start", "0.4", database=DATABASE))
        rolling.start()
        until(lambda: _starting(shop, "back"), "the new instance is being started")
        kill_daemon(shop.home)
        rolling.join()
        callers.finish()
        assert callers.failures == []
        assert get(shop.wire())[1] == f"{shop.pid('back')} one"
        assert len(_everything(shop)) == 4, "two hosts, two services"


def test_a_deletion_interrupted_by_the_daemons_death_is_finished_by_the_next(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        deleting = threading.Thread(target=shop.down)
        deleting.start()
        until(lambda: '"deleting": true' in _state_text(shop), "the deletion has begun", 5)
        kill_daemon(shop.home)
        deleting.join()
        assert shop.leftovers() == []


def _state_text(shop: Shop) -> str:
    try:
        return (shop.home.deployment(shop.name) / "state.json").read_text()
    except FileNotFoundError:
        return '"deleting": true'


def test_an_owner_that_died_while_no_daemon_lived_is_noticed_by_the_next(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up(owner_pid=owner.pid)
        kill_daemon(shop.home)
        owner.communicate()
        cloud.ensure()
        until(lambda: shop.leftovers() == [], "the orphaned deployment goes")


def test_a_down_during_an_up_wins_and_leaves_nothing(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        failures: list[str] = []

        def put() -> None:
            try:
                shop.service("late", "--slow-start", "3")
            except CloudError as error:
                failures.append(str(error))

        starting = threading.Thread(target=put)
        starting.start()
        until(lambda: _starting(shop, "late"), "the instance is being started")
        began = time.monotonic()
        shop.down()
        starting.join()
        assert failures == ["deployment shop is being deleted"]
        assert shop.leftovers() == []
        assert time.monotonic() - began < 8


def test_many_clients_that_find_no_daemon_start_one(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        seen: list[int] = []

        def ask() -> None:
            with LocalCloud(cloud.home) as mine:
                seen.append(mine.get("/health")["pid"])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 3
        assert len(set(seen)) == 1
