"""The process that is a cluster: it imports the workloads once and forks every service of the cluster.

Importing the workloads costs seconds, a fork milliseconds. The host leads a process group that all its
services stay in, so that the cluster can be lost at once. It has one thread and no event loop, or a
fork would copy locks in use. It collects its children and remembers how they ended.

    python -m infra.local.clusterhost SOCKET [MODULE ...]

Questions, one JSON line each: {"cmd": "ping"}, {"cmd": "spawn", "name", "module", "args", "env", "log"}
-> {"pid", "start"}, {"cmd": "status", "pid"} -> {"status": number | null}.

Where there are several clusters, one such process is their nursery: it imports for all of them, and forks their hosts:
{"cmd": "host", "name", "socket", "modules", "log"} -> {"pid", "start"}. Such a host leaves for a session and a process
group of its own, and only then carries its cluster's tag.
"""

from __future__ import annotations

import ctypes
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
from infra.naming import NAME_LENGTH, TAG_CLUSTER

ASKER_TIMEOUT_S = 2.0
"""A question arrives as a whole or not at all; a stuck asker must not stop the host."""

REMEMBERED = 1000

UNTAGGED = "-" * NAME_LENGTH
"""The cluster of a nursery: none, with room for the name of any."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a forked child has to become."""

    name: str
    module: str
    args: list[str]
    env: dict[str, str]
    log: str


@dataclass(frozen=True, slots=True)
class Offspring:
    """The host of a cluster that a forked child has to become."""

    name: str
    socket: str
    modules: list[str]
    log: str


class Host:
    """Answers questions until it is told to end; `serve` returns only in a forked child, what that is to become."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._ended: dict[int, int] = {}
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)

    def serve(self) -> Order | Offspring:
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

    def _converse(self, connection: socket.socket) -> Order | Offspring | None:
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

    def _handle(self, message: dict[str, Any]) -> tuple[Order | Offspring | None, dict[str, object]]:
        command = message["cmd"]
        if command == "ping":
            return None, {"pid": os.getpid()}
        if command == "status":
            return None, {"status": self._ended.get(int(message["pid"]))}
        if command not in ("spawn", "host"):
            return None, {"error": f"unknown command {command!r}"}
        fields = {key: value for key, value in message.items() if key != "cmd"}
        order = Order(**fields) if command == "spawn" else Offspring(**fields)
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
    _appear(order.name, order.log)
    os.environ.update(order.env)
    random.seed()
    sys.argv = [order.module, *order.args]
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)


def leave_home(child: Offspring) -> Host:
    """Turn this freshly forked process into the host of a cluster: nothing of the nursery's group stays with it."""
    os.setsid()
    _appear(f"cluster-{child.name}", child.log)
    retag(TAG_CLUSTER, UNTAGGED, child.name)
    for module in child.modules:
        importlib.import_module(module)  # it has them, unless its cluster wants more than the first one did
    return Host(listen(child.socket))


def retag(key: str, before: str, after: str) -> None:
    """Change a variable of this process where everybody else reads it: in the memory behind /proc/self/environ.

    The value may only get shorter. Raise ValueError if the variable is not there with the value before.
    """
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, proc(5)
    old, new = f"{key}={before}".encode(), f"{key}={after}".encode()
    at = (b"\0" + ctypes.string_at(start, end - start)).find(b"\0" + old + b"\0")
    if at < 0 or len(new) > len(old):
        raise ValueError(f"{key}={before} is not in the environment that this process was started with, or too short")
    ctypes.memmove(start + at, new.ljust(len(old), b"\0"), len(old))
    os.environ[key] = after


def _appear(name: str, path: str) -> None:
    """Have a log and a name of one's own."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    Path("/proc/self/comm").write_text(name[:15], encoding="ascii")  # what `ps` and `top` show


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
    to_be: Order | Offspring = Host(listen(path)).serve()
    while isinstance(to_be, Offspring):
        to_be = leave_home(to_be).serve()
    become(to_be)


if __name__ == "__main__":
    main(sys.argv[1:])
