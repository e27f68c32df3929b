"""The process that is a cluster: it imports the workloads once and forks every service of the cluster.

Importing the workloads costs seconds, a fork milliseconds. The host leads a process group that all its
services stay in, so that the cluster can be lost at once. It has one thread and no event loop, or a
fork would copy locks in use. It collects its children and remembers how they ended.

    python -m infra.local.clusterhost SOCKET [MODULE ...]

Questions, one JSON line each: {"cmd": "ping"}, {"cmd": "spawn", "name", "module", "args", "env", "log"}
-> {"pid", "start"}, {"cmd": "status", "pid"} -> {"status": number | null}.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.processes import identify

ASKER_TIMEOUT_S = 2.0
"""A question arrives as a whole or not at all; a stuck asker must not stop the host."""

REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Order:
    """What a forked child has to become."""

    name: str
    module: str
    args: list[str]
    env: dict[str, str]
    log: str


class Host:
    """Answers questions until it is told to end; `serve` returns an order only in a forked child."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._ended: dict[int, int] = {}
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)

    def serve(self) -> Order:
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler is needed for the wake-up, and for EINTR
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                self._wake.recv(4096)
            self._collect()
            if self._listener in ready:
                connection, _ = self._listener.accept()
                with connection:
                    order = self._converse(connection)
                if order is not None:
                    self._leave()
                    return order

    def _converse(self, connection: socket.socket) -> Order | None:
        connection.settimeout(ASKER_TIMEOUT_S)
        try:
            with connection.makefile("rwb") as stream:
                message = json.loads(stream.readline())
                order, answer = self._handle(message)
                if order is None:
                    stream.write(json.dumps(answer).encode() + b"\n")
                return order
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"cluster host: question not understood: {error!r}", file=sys.stderr, flush=True)
            return None

    def _handle(self, message: dict[str, Any]) -> tuple[Order | None, dict[str, object]]:
        command = message["cmd"]
        if command == "ping":
            return None, {"pid": os.getpid()}
        if command == "status":
            return None, {"status": self._ended.get(int(message["pid"]))}
        if command != "spawn":
            return None, {"error": f"unknown command {command!r}"}
        order = Order(
            str(message["name"]), str(message["module"]), list(message["args"]), dict(message["env"]), message["log"]
        )
        pid = os.fork()
        if pid == 0:
            return order, {}
        child = identify(pid)
        return None, {"pid": pid, "start": child.start if child else 0}

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended[pid] = os.waitstatus_to_exitcode(status)
            while len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _leave(self) -> None:
        """In the child: give up everything that is the host's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._listener, self._wake, self._woken):
            end.close()


def become(order: Order) -> None:
    """Turn this freshly forked process into `python -m module args` with the given environment and log."""
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    Path("/proc/self/comm").write_text(order.name[:15], encoding="ascii")  # what `ps` and `top` show
    os.environ.update(order.env)
    random.seed()
    sys.argv = [order.module, *order.args]
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)


def listen(path: str) -> socket.socket:
    """A listening unix socket that appears under its name only once it listens."""
    scratch = f"{path}.{os.getpid() % 10000}"
    Path(scratch).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(scratch)
    listener.listen(64)
    os.rename(scratch, path)
    return listener


def main(argv: list[str]) -> None:
    path, *modules = argv
    gc.disable()  # an import makes thousands of objects and hardly any garbage: a tenth of its time
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise touch, and so copy, every page it shares
    gc.enable()
    become(Host(listen(path)).serve())


if __name__ == "__main__":
    main(sys.argv[1:])
