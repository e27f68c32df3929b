"""The locustfile, used as any Locust user would: headless, on several processes, with the web UI."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import loadtests
from loadtests.testing import RunningShop, running_shop
from stages import history
from stages.history import Invocation

LOCUSTFILE = Path(loadtests.__path__[0]) / "locustfile.py"


@pytest.fixture
def shop() -> Iterator[RunningShop]:
    with running_shop(delay_ms=2) as running:
        yield running


def locust(shop: RunningShop, *options: str) -> subprocess.CompletedProcess[str]:
    """A headless run to its end."""
    arguments = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", shop.edge, "--headless", *options]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=60)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # workers would look for their master for minutes
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def requests_in(file: Path) -> list[Invocation]:
    with file.open() as lines:
        return [r for r in history.read(lines) if isinstance(r, Invocation)]


@pytest.mark.slow
def test_a_headless_run_ends_with_status_0_a_history_and_truthful_counts(shop: RunningShop, tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    run = locust(shop, "-t", "2s", "--rate", "100", "--mix", "realistic", "--history", str(file), "--json")
    assert run.returncode == 0, run.stderr
    counted = {entry["name"]: entry["num_requests"] for entry in json.loads(run.stdout)}
    recorded = [r.operation for r in requests_in(file)]
    assert counted == {name: recorded.count(name) for name in set(recorded)}
    assert "open loop: offered" in run.stderr


@pytest.mark.slow
def test_a_failed_operation_makes_the_exit_status_1(shop: RunningShop) -> None:
    shop.manner("refuse-orders")
    run = locust(shop, "-t", "1s", "--mix", "place-order=1", "--only-summary")
    assert run.returncode == 1
    assert "fail: out-of-stock (status 409)" in run.stdout + run.stderr


@pytest.mark.slow
def test_workers_share_the_rate_and_never_a_key(shop: RunningShop, tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    port = str(free_port())
    options = ["-t", "4s", "--rate", "150", "--run-id", "r1", "--history", str(file), "--only-summary"]
    together = ["--processes", "2", "-u", "2", "-r", "2", "--master-bind-port", port, "--master-port", port]
    run = locust(shop, *options, *together)
    assert run.returncode == 0, run.stderr
    shares = [requests_in(tmp_path / f"h.w{worker}.jsonl") for worker in (0, 1)]
    keys = [r.key for share in shares for r in share]
    assert len(set(keys)) == len(keys)
    for share in shares:
        span_s = (share[-1].intended_ns - share[0].intended_ns) / 1e9
        assert len(share) / span_s == pytest.approx(75, rel=0.3), "seed 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--mix", "steal=1"], "'steal'"),
        (["--rate", "0"], "not a rate"),
        (["--history", "/nowhere/h"], "not a directory"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(shop: RunningShop, options: list[str], word: str) -> None:
    run = locust(shop, "-t", "1s", *options)
    assert run.returncode == 2
    assert word in run.stderr
    assert shop.truth()["received"] == []


@pytest.mark.slow
def test_the_web_ui_listens_on_loopback_only_and_starts_and_stops_a_run(shop: RunningShop) -> None:
    port = free_port()
    arguments = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", shop.edge, "--web-port", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            listening = [c for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
            assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
            assert '"mix": {"choices": null, "default_value": "experiment"' in ask(port, "GET", "/")
            ask(port, "POST", "/swarm", "user_count=1&spawn_rate=1&rate=200&mix=browse%3D1")
            deadline = time.monotonic() + 10
            while len(shop.truth()["received"]) < 100:
                assert time.monotonic() < deadline, "the UI's run does not send"
                time.sleep(0.05)
            ask(port, "GET", "/stop")
            stats = json.loads(ask(port, "GET", "/stats/requests"))
            assert {entry["name"] for entry in stats["stats"]} == {"browse", "Aggregated"}
            assert stats["total_fail_per_sec"] == 0
        finally:
            process.send_signal(signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on port {port}"
            time.sleep(0.1)


def ask(port: int, method: str, path: str, form: str | None = None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, form, {"Content-Type": "application/x-www-form-urlencoded"} if form else {})
        return connection.getresponse().read().decode()
    finally:
        connection.close()
