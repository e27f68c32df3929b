"""Does the local cloud have what it is told to have, change it without a lost request, and leave nothing?"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.errors import CloudError, Conflict, Invalid, NotFound
from infra.local.home import Home
from infra.local.processes import alive, identify, state_of
from infra.local.testing import CLUSTER, DATABASE, Callers, Shop, end, get, local_cloud, until


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with local_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield Shop(cloud).up()


def test_a_deployment_is_described_by_its_record_resources_and_faults(shop: Shop) -> None:
    answer = shop.cloud.get(shop.at())
    states = {(r["kind"], r["name"]): r["state"] for r in answer["resources"]}
    assert states == {
        ("cluster", CLUSTER): "running",
        ("database", DATABASE): "available",
        ("wire", "users-front"): "listening",
        ("wire", "front-back"): "listening",
        ("service", "front"): "running",
        ("service", "back"): "running",
    }
    assert answer["faults"] == []
    assert answer["deployment"]["edge"] == f"http://127.0.0.1:{shop.wire('users-front')[1]}"
    assert shop.cloud.get("/deployments") == [
        {
            "name": "shop",
            "stage": "test",
            "run_id": "run-1",
            "variant": None,
            "owner_pid": None,
            "state": "up",
            "services": 2,
            "faults": 0,
        }
    ]


def test_repeating_every_put_changes_nothing(shop: Shop) -> None:
    before = shop.cloud.get(shop.at())
    shop.up()
    assert shop.cloud.get(shop.at()) == before


def test_a_service_answers_through_its_wire_and_keeps_its_log(shop: Shop) -> None:
    assert get(shop.wire()) == ("200", f"{shop.pid('back')} one")
    assert shop.cloud.get(shop.at("services/back/log?lines=5"))["service"] == "back"


@pytest.mark.parametrize("how", ["restart", "another spec"])
def test_rolling_replacement_under_load_loses_no_request(shop: Shop, how: str) -> None:
    callers = Callers(shop.wire(), "/slow?ms=3", connections=6)
    callers.start()
    before = shop.pid("back")
    until(lambda: len(callers.answers) > 50, "the load runs")
    word = "one" if how == "restart" else "two"
    shop.service("back", word=word, database=DATABASE, restart=how == "restart")
    assert not alive(identify(before)), "the old instance has drained and ended"
    seen = len(callers.answers)
    until(lambda: len(callers.answers) > seen + 50, "the load goes on")
    callers.finish()
    assert callers.failures == []
    assert {answer.split(" ")[0] for answer in callers.answers} == {str(before), str(shop.pid("back"))}
    assert callers.answers[-1] == f"{shop.pid('back')} {word}"
    shop.service("back", database=DATABASE)


def test_an_instance_that_dies_early_is_reported_with_status_last_lines_and_log(shop: Shop) -> None:
    log = shop.home.deployment("shop") / "logs" / "mayfly.log"
    with pytest.raises(Invalid) as caught:
        shop.service("mayfly", "--die", "7")
    text = str(caught.value)
    assert "mayfly (process " in text
    assert "exited with status 7" in text
    assert "before it was ready" in text
    assert "stand-in was told to die with 7" in text
    assert f"full log: {log}" in text
    with pytest.raises(NotFound):
        shop.cloud.get(shop.at("services/mayfly"))


def test_a_replacement_that_dies_early_leaves_the_old_instance_serving(shop: Shop) -> None:
    before = shop.pid("back")
    with pytest.raises(Invalid, match="exited with status 3"):
        shop.service("back", "--die", "3", database=DATABASE)
    assert get(shop.wire()) == ("200", f"{before} one")
    assert shop.state("back") == "running"


def test_a_cluster_that_cannot_import_its_workloads_says_why(shop: Shop) -> None:
    with pytest.raises(Invalid, match="No module named 'nowhere'"):
        shop.cloud.put(shop.at("clusters/broken"), {"network": "10.9.0.0/16", "preload": ["nowhere"]})
    shop.cloud.delete(shop.at("clusters/broken"))


def test_bad_requests_list_every_problem_and_start_nothing(shop: Shop) -> None:
    before = shop.cloud.get(shop.at())
    with pytest.raises(Invalid) as caught:
        shop.cloud.put(shop.at("services/bad"), {"cluster": 3, "module": "a b", "args": "x", "colour": "red"})
    assert caught.value.problems == (
        "cluster is 3, must be a text",
        "args is 'x', must be a list of texts",
        "module is 'a b', not a module's name",
        "unknown field 'colour'",
    )
    with pytest.raises(Conflict) as missing:
        shop.cloud.put(shop.at("services/bad"), {"cluster": "no", "module": "m", "database": "none"})
    assert len(missing.value.problems) == 2
    with pytest.raises(Invalid, match="may hold only"):
        shop.cloud.put("/deployments/Shop_1", {"stage": "s", "run_id": "r"})
    with pytest.raises(Invalid, match=r"network is '10\.0\.0\.0/40'"):
        shop.cloud.put(shop.at("clusters/c"), {"network": "10.0.0.0/40"})
    with pytest.raises(NotFound, match="there is no deployment 'other'"):
        shop.cloud.get("/deployments/other")
    with pytest.raises(NotFound, match="PUT /deployments/a/b: Not Found"):
        shop.cloud.put("/deployments/a/b", {})
    with pytest.raises(Conflict, match="run_id is 'run-1', asked for 'r2'"):
        shop.cloud.put(shop.at(), {"stage": "test", "run_id": "r2"})
    with pytest.raises(Conflict, match="still holds front, back"):
        shop.cloud.delete(shop.at(f"clusters/{CLUSTER}"))
    with pytest.raises(Conflict, match="is used by back"):
        shop.cloud.delete(shop.at(f"databases/{DATABASE}"))
    assert shop.cloud.get(shop.at()) == before


def test_a_body_that_is_no_json_is_refused_with_400(shop: Shop) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(shop.home.socket))
        connection.sendall(b"PUT /deployments/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_vanishes_in_mid_request_leaves_its_work_done(shop: Shop) -> None:
    body = (
        b'{"cluster": "plant", "module": "infra.local.standin", "args": ["--slow-start", "0.3"],'
        b' "env": {"STAND_IN_LISTEN": "127.0.0.1:{port}"}}'
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(shop.home.socket))
        head = f"PUT /deployments/shop/services/ghost HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(lambda: "ghost" in str(shop.cloud.get(shop.at())["resources"]), "the work has begun")
    until(lambda: shop.state("ghost") == "running", "the work is finished without its client")
    shop.cloud.delete(shop.at("services/ghost"))


def test_two_clients_at_once_start_one_instance(shop: Shop) -> None:
    results: list[object] = []

    def put() -> None:
        results.append(shop.service("twin"))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)
    shop.cloud.delete(shop.at("services/twin"))


def test_wires_that_are_asked_for_while_their_host_starts_are_all_there_and_watched(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "home") as cloud:
        shop = Shop(cloud)
        cloud.put(shop.at(), {"stage": "test", "run_id": "r", "variant": None, "owner_pid": None})
        names = [f"a-b{n}" for n in range(40)]
        for _ in range(2):
            with ThreadPoolExecutor(20) as pool:
                list(pool.map(lambda n: cloud.put(shop.at(f"wires/{n}"), {"caller": "a", "callee": "b"}), names))
            assert {cloud.get(shop.at(f"wires/{name}"))["state"] for name in names} == {"refusing"}
            before = shop.host_pid("wire_host")
            end(before)
            until(lambda before=before: shop.host_pid("wire_host") != before, "it is noticed, and another one started")
            names += [f"c-d{n}" for n in range(40)]


def test_two_deployments_live_side_by_side_and_go_one_by_one(shop: Shop) -> None:
    other = Shop(shop.cloud, "other").up()
    assert other.wire() != shop.wire()
    assert get(other.wire())[1] != get(shop.wire())[1]
    shop.fault("mine", kind="cluster-outage", cluster=CLUSTER)
    assert get(other.wire())[0] == "200", "another deployment's cluster of the same name is left alone"
    shop.undo("mine")
    other.down()
    assert [path for path in other.leftovers() if "/run/" not in path] == []
    assert get(shop.wire())[0] == "200"


def test_how_services_ended_is_known_although_their_cluster_host_died_with_them(shop: Shop) -> None:
    shop.fault("blow", kind="cluster-outage", cluster=CLUSTER)
    ended = until(lambda: shop.cloud.get(shop.at("services/back"))["ended"], "the cloud knows how it ended")
    assert ended == "was ended by SIGKILL"
    shop.undo("blow")


def test_down_leaves_no_process_file_socket_or_port(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        shop = Shop(cloud).up()
        ports = [shop.wire()[1], shop.wire("users-front")[1]]
        shop.fault("still-on", kind="pause", service="back")
        daemon = identify(int(cloud.home.lock.read_text()))
        shop.down()
        assert shop.leftovers() == []
        for port in ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", port))
        shop.down()
        until(lambda: not alive(daemon), "the daemon leaves when nothing is deployed")
        assert not cloud.home.socket.exists()
        assert cloud.blank


def test_the_owners_death_tears_the_deployment_down(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with local_cloud(tmp_path / "h") as cloud:
            shop = Shop(cloud).up(owner_pid=owner.pid)
            owner.kill()
            owner.wait()
            until(lambda: shop.leftovers() == [], "everything goes with its owner")
    finally:
        owner.kill()
        owner.communicate()


def test_an_owner_that_does_not_exist_is_refused(shop: Shop) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.raises(Invalid, match=f"owner_pid {gone.pid} is no process"):
        shop.cloud.put("/deployments/orphan", {"stage": "s", "run_id": "r", "owner_pid": gone.pid})


def test_no_free_port_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("STAGES_PORTS", f"{port}-{port}")
        with local_cloud(tmp_path / "h") as cloud:
            cloud.put("/deployments/d", {"stage": "s", "run_id": "r"})
            with pytest.raises(CloudError, match=f"no free port between {port} and {port} .* STAGES_PORTS"):
                cloud.put("/deployments/d/wires/w", {"caller": "users", "callee": "x"})


def test_the_daemon_cannot_start_with_nonsense_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGES_PORTS", "many")
    with local_cloud(tmp_path / "h") as cloud, pytest.raises(CloudError, match="STAGES_PORTS is 'many'"):
        cloud.get("/deployments")


def test_the_socket_and_every_file_are_for_us_alone(shop: Shop) -> None:
    for path in (shop.home.path, *shop.home.path.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0 or path.is_socket(), path
    assert shop.home.socket.stat().st_mode & 0o077 == 0
    assert Home.at(shop.home.path).problems() == []
    assert shop.home.path.stat().st_uid == os.geteuid()


def test_a_stopped_daemon_is_woken_by_the_next_command(tmp_path: Path) -> None:
    with local_cloud(tmp_path / "h") as cloud:
        cloud.put("/deployments/d", {"stage": "s", "run_id": "r"})
        pid = int(cloud.home.lock.read_text())
        end(pid, signal.SIGSTOP)
        until(lambda: state_of(identify(pid)) == "T", "the daemon is stopped")
        assert [d["name"] for d in cloud.get("/deployments")] == ["d"]


def test_the_api_speaks_plain_http_for_other_clients(shop: Shop) -> None:
    connection = http.client.HTTPConnection("local-cloud")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(shop.home.socket))
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
