"""How do tests and benchmarks run the shop for real? Every service a process, without a cluster or wires.

One launcher process imports the services once and forks them on request, as a cluster host does; the
caller of `ProcessShop` talks to it over pipes. Peers are wired to each other's ports directly.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from workloads.settings import SERVICES, Broker, Kafka, Peer, Settings

CALLS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "storefront": {
        "inventory": (250, 2),
        "cache": (150, 1),
        "accounts": (1500, 1),
        "orders": (1500, 1),
        "analytics": (300, 2),
    },
    "accounts": dict.fromkeys(("email", "analytics", "cache"), (300, 2)),
    "orders": dict.fromkeys(("inventory", "payments", "shipping", "email", "analytics", "cache"), (300, 2)),
}
"""Caller -> callee -> timeout in milliseconds and attempts; tighter than a deployment's, so that tests are quick."""
ORDER = {"product": "p-01", "quantity": 2, "email": "ann@shop.example"}
"""What tests order, unless they say otherwise."""
DONE = {
    "order": "confirmed",
    "reservation": "reserved",
    "capture": "captured",
    "shipment": "booked",
    "mail": "confirmation",
    "event": "present",
    "entry": "present",
}
"""What the services have of an order that is confirmed (`ProcessShop.states`), ..."""
UNDONE = {"reservation": "released", "capture": "refunded", "shipment": "cancelled"}
"""... and what of it changes once it is undone."""
READY_WITHIN_S = 30.0
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
"""What an emulated broker takes: anything."""

LAUNCHER = """
import json, os, sys
import workloads.services
for line in sys.stdin:
    wanted = json.loads(line)
    if "wait" in wanted:
        status = os.waitpid(wanted["wait"], 0)[1]
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.environ.update(wanted["env"])
        os._exit(workloads.services.run(wanted["service"]))
    print(json.dumps({"pid": pid}), flush=True)
"""


class Reply:
    """What a service answered."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        """Names in lower case."""
        self.body = body

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """Last word of the problem type, '' if the answer is no problem."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(self.json()["type"]).rpartition(":")[2]


class ProcessShop:
    """The shop as processes; use as a context manager, so that none is left behind."""

    def __init__(
        self, folder: Path, *, traces: bool = False, brokers: Mapping[str, Broker | Kafka] | None = None
    ) -> None:
        """Databases, logs and traces go to `folder`.

        `brokers`: service -> its queues, which exist already; then the services speak by messages, and only the
        storefront calls others.
        """
        self.folder = folder
        self._brokers = brokers
        self._traces = traces
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        self.pids: dict[str, int] = {}

    def __enter__(self) -> ProcessShop:
        self._launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.pids):
            self.kill(name)
        for pipe in (self._launcher.stdin, self._launcher.stdout):
            assert pipe is not None  # both were asked for
            pipe.close()
        self._launcher.wait()

    def settings(self, service: str, **changes: Any) -> Settings:
        """What a service is told, with some fields changed."""
        calls = CALLS.get(service, {}) if self._brokers is None or service == "storefront" else {}
        peers = {
            callee: Peer(
                url=f"http://127.0.0.1:{self.ports[callee]}",
                timeout_ms=timeout_ms,
                attempts=attempts,
                fallback="cache" if callee == "inventory" else None,
            )
            for callee, (timeout_ms, attempts) in calls.items()
        }
        fields = {
            "service": service,
            "run_id": "test",
            "listen": f"127.0.0.1:{self.ports[service]}",
            "database_url": None if service == "storefront" else f"sqlite:///{self.folder}/{service}.db",
            "peers": peers,
            "broker": (self._brokers or {}).get(service),
            "traces": f"{self.folder}/{service}.traces.jsonl" if self._traces else "",
            **changes,
        }
        return Settings(**fields)

    def start(self, *services: str, **changes: Any) -> None:
        """Start services (all of them without a name) and wait until each is ready."""
        for service in services or SERVICES:
            self.pids[service] = self.launch(self.settings(service, **changes))
        for service in services or SERVICES:
            self.wait_ready(service)

    def launch(self, settings: Settings) -> int:
        """Fork one process; return its id."""
        log = str(self.folder / f"{settings.service}.log")
        env = {**settings.to_env(), **(CREDENTIALS if settings.broker else {})}
        return int(self._ask({"service": settings.service, "env": env, "log": log})["pid"])

    def wait_ready(self, service: str, port: int | None = None) -> None:
        """Poll /ready. Raise AssertionError with the log if it takes too long."""
        with patience(READY_WITHIN_S, lambda: f"{service} is not ready; its log: {self.log(service)[-2000:]}") as ticks:
            for _ in ticks:
                if self._try(service, port) == 200:
                    return

    def _try(self, service: str, port: int | None) -> int | None:
        try:
            return self.ask(service, "GET", "/ready", port=port).status
        except OSError:
            return None

    def log(self, service: str) -> str:
        """What a service has written so far."""
        return (self.folder / f"{service}.log").read_text()

    def kill(self, service: str, number: int = signal.SIGKILL) -> int:
        """End a service's process; return its exit status (negative: the signal it died of)."""
        pid = self.pids.pop(service)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            os.kill(pid, signal.SIGCONT)
        return self.wait(pid)

    def wait(self, pid: int) -> int:
        """Exit status of a process that is ending."""
        return int(self._ask({"wait": pid})["status"])

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """The process does not run inside the block, but its sockets are there."""
        os.kill(self.pids[service], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pids[service], signal.SIGCONT)

    def restart(self, service: str, **changes: Any) -> None:
        """Kill it if it runs, and start it with changed settings."""
        if service in self.pids:
            self.kill(service)
        self.start(service, **changes)

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> Reply:
        """One request on a connection of its own; `body` is sent as it is if bytes, else as JSON. Raise OSError."""
        sent = {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        if key is not None:
            sent["Idempotency-Key"] = key
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = HTTPConnection("127.0.0.1", port or self.ports[service], timeout=timeout_s)
        try:
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def audit(self, service: str) -> list[dict[str, Any]]:
        """A service's records."""
        return [json.loads(line) for line in self.ask(service, "GET", "/audit").body.splitlines()]

    def states(self, subject: str) -> dict[str, str]:
        """State of every effect about an order or account, by kind; only of services that run."""
        running = [service for service in self.pids if service != "storefront"]
        return {r["kind"]: r["state"] for name in running for r in self.audit(name) if r["subject"] == subject}

    def metric(self, service: str, name: str) -> float | None:
        """A sample's value by its full name with labels, None while it does not exist."""
        for line in self.ask(service, "GET", "/metrics").body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return None

    def cpu_ms(self) -> dict[str, float]:
        """CPU time used so far by each process and its threads, milliseconds."""
        return {name: _cpu_ms(pid) for name, pid in self.pids.items()}

    def _ask(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        assert self._launcher.stdin is not None  # both were asked for
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(wanted) + "\n")
        self._launcher.stdin.flush()
        found: dict[str, Any] = json.loads(self._launcher.stdout.readline())
        return found


@contextmanager
def patience(seconds: float, reason: Any, every_s: float = 0.05) -> Iterator[Iterator[None]]:
    """Ticks to poll at; the last one raises AssertionError with the reason (a text or a function that makes it)."""

    def ticks() -> Iterator[None]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield
            time.sleep(every_s)
        raise AssertionError(f"after {seconds} s: {reason() if callable(reason) else reason}")

    yield ticks()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; somebody else may take one before it is used."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _cpu_ms(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    # first field of schedstat: nanoseconds on a CPU; the ticks in /proc/<pid>/stat are far coarser
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
