"""What do tests of the local cloud share? A small deployment of stand-ins, and clients that say what they saw."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra.local.client import LocalCloud
from infra.local.home import Home, below, read_json
from infra.local.processes import alive, identify, tagged
from infra.naming import TAG_CLOUD

CLUSTER = "plant"
DATABASE = "books"


def until(condition: Callable[[], Any], reason: str, timeout_s: float = 15.0) -> Any:
    """Poll until something is true and return it; raise AssertionError with the reason after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {reason}; last seen {seen!r}")
        time.sleep(0.02)
    return seen


class Shop:
    """A deployment of two stand-ins: users -> front -> back, back with a database."""

    def __init__(self, cloud: LocalCloud, name: str = "shop", run_id: str = "run-1") -> None:
        self.cloud = cloud
        self.home = cloud.home
        self.name = name
        self.run_id = run_id

    def up(self, owner_pid: int | None = None) -> Shop:
        """Deploy everything; may be repeated."""
        self.cloud.put(self.at(), {"stage": "test", "run_id": self.run_id, "variant": None, "owner_pid": owner_pid})
        self.cloud.put(self.at(f"clusters/{CLUSTER}"), {"network": "10.0.0.0/16", "preload": ["infra.local.standin"]})
        self.cloud.put(self.at(f"databases/{DATABASE}"), {})
        self.cloud.put(self.at("wires/users-front"), {"caller": "users", "callee": "front"})
        self.cloud.put(self.at("wires/front-back"), {"caller": "front", "callee": "back"})
        self.service("front")
        self.service("back", database=DATABASE)
        return self

    def at(self, rest: str = "") -> str:
        return f"/deployments/{self.name}" + (f"/{rest}" if rest else "")

    def service(
        self, name: str, *args: str, word: str = "one", database: str | None = None, restart: bool = False
    ) -> Any:
        """PUT a stand-in."""
        url = self.cloud.get(self.at(f"databases/{database}"))["url"] if database else ""
        body = {
            "cluster": CLUSTER,
            "module": "infra.local.standin",
            "args": list(args),
            "env": {"STAND_IN_LISTEN": "127.0.0.1:{port}", "STAND_IN_WORD": word, "STAND_IN_DATABASE": url},
            "ready_path": "/ready",
            "database": database,
        }
        return self.cloud.put(self.at(f"services/{name}") + ("?restart=true" if restart else ""), body)

    def wire(self, name: str = "front-back") -> tuple[str, int]:
        """Address of a wire."""
        host, _, port = self.cloud.get(self.at(f"wires/{name}"))["listen"].rpartition(":")
        return host, int(port)

    def pid(self, service: str) -> int:
        return int(self.cloud.get(self.at(f"services/{service}"))["pid"])

    def state(self, service: str) -> str:
        return str(self.cloud.get(self.at(f"services/{service}"))["state"])

    def fault(self, lease: str, ttl_s: float = 30.0, **fault: object) -> Any:
        """PUT a fault lease."""
        return self.cloud.put(self.at(f"faults/{lease}"), {"fault": fault, "ttl_s": ttl_s})

    def lease(self, name: str) -> Any:
        return self.cloud.get(self.at(f"faults/{name}"))

    def undo(self, lease: str) -> Any:
        return self.cloud.delete(self.at(f"faults/{lease}"))

    def down(self) -> None:
        self.cloud.delete(self.at())

    def host_pid(self, host: str) -> int:
        """Process id of 'wire_host' or 'nursery', or of the host of a cluster or a broker."""
        state = read_json(self.home.deployment(self.name) / "state.json") or {}
        process = state.get(host) or (state["clusters"] | state["brokers"])[host]["host"]
        return int(process["pid"])

    def leftovers(self) -> list[str]:
        """Processes, files and sockets of this deployment that are still there."""
        tags = {TAG_CLOUD: str(self.home.path), "STAGES_DEPLOYMENT": self.name}
        found = [f"process {p.pid}" for p in tagged(tags)]
        directory = self.home.deployment(self.name)
        found += [str(path) for path in below(directory)]
        return found + [str(path) for path in (self.home.path / "run").glob("*")]


def get(address: tuple[str, int], path: str = "/", timeout_s: float = 2.0) -> tuple[str, str]:
    """One GET on a connection of its own: (status, body), or ('refused' | 'reset' | 'timeout', detail)."""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return str(response.status), response.read().decode()
    except ConnectionRefusedError as error:
        return "refused", str(error)
    except TimeoutError as error:
        return "timeout", str(error)
    except (ConnectionError, http.client.HTTPException) as error:
        return "reset", repr(error)
    finally:
        connection.close()


class Callers(threading.Thread):
    """Several keep-alive callers that ask one after the other until told to stop, and note what failed."""

    def __init__(self, address: tuple[str, int], path: str, connections: int) -> None:
        super().__init__(daemon=True)
        self._address, self._path = address, path
        self._stop_asking = threading.Event()
        self._workers = [threading.Thread(target=self._ask, daemon=True) for _ in range(connections)]
        self.answers: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        for worker in self._workers:
            worker.start()
        for worker in self._workers:
            worker.join()

    def finish(self) -> None:
        self._stop_asking.set()
        self.join(10)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        with contextlib.closing(connection):
            while not self._stop_asking.is_set():
                try:
                    connection.request("GET", self._path)
                    self.answers.append(connection.getresponse().read().decode())
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(repr(error))
                    connection.close()


def end(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal one process that the test started; with SIGKILL, wait until it is gone."""
    process = identify(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    if number is signal.SIGKILL:
        until(lambda: not alive(process), f"process {pid} ends")


def kill_daemon(home: Home) -> None:
    """SIGKILL the daemon of a home."""
    end(int(home.lock.read_text()))


@contextlib.contextmanager
def local_cloud(path: Path) -> Iterator[LocalCloud]:
    """A client of a cloud of its own; everything it deployed is gone afterwards."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with LocalCloud(Home.at(path)) as cloud:
        try:
            yield cloud
        finally:
            if not cloud.blank:
                for deployment in cloud.get("/deployments"):
                    cloud.delete(f"/deployments/{deployment['name']}")


def round_trip_us(address: tuple[str, int], path: str = "/", times: int = 1000) -> float:
    """Median round trip of a small request on one connection, microseconds."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    seen = []
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            began = time.perf_counter_ns()
            connection.sendall(head)
            connection.recv(65536)
            seen.append(time.perf_counter_ns() - began)
    return statistics.median(seen) / 1000
