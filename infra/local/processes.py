"""Which processes are ours, are they alive, and how is one started or stopped without hurting another?

A pid alone names nothing: it is used again after its process ended. A process here is a pid plus its
start time, and no signal is sent before both, and our tags in its environment, have been read back.
The signal itself goes through a pidfd, so nothing can slip in between.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "STAGES_PORTS")
_PASSED_ON_PREFIXES = ("PYTHON", "COVERAGE_")

SECOND_TERM_S = 0.1
"""Between two SIGTERMs: they would be one while the first waits to be taken."""

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans of our children become our children."""


class NotOurs(Exception):
    """A process could not be proven to be ours: nothing was sent to it."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for good: a pid that is used again has another start time."""

    pid: int
    start: int
    """Clock ticks since boot, field 22 of /proc/<pid>/stat."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/<pid>/stat says that matters here."""

    state: str
    """One letter: R, S, D run or wait, T is stopped, Z is dead but not yet collected."""
    group: int
    start: int
    cpu_ticks: int
    """Time on a processor, user and system, its own and of its collected children."""


def stat_of(pid: int) -> Stat | None:
    """None if there is no such process (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(fields[0], int(fields[2]), int(fields[19]), sum(int(f) for f in fields[11:15]))


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now, None if there is none."""
    seen = stat_of(pid)
    return ProcessId(pid, seen.start) if seen else None


def state_of(process: ProcessId | None) -> str | None:
    """Its state letter; None once it is gone. A dead process that nobody collected counts as gone."""
    seen = stat_of(process.pid) if process else None
    if process is None or seen is None or seen.start != process.start or seen.state in "ZX":
        return None
    return seen.state


def alive(process: ProcessId | None) -> bool:
    return state_of(process) is not None


def tags_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty if it is gone or not ours to read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs if key}


def tagged(tags: Mapping[str, str]) -> list[ProcessId]:
    """Every live process of this machine that carries all these tags, except ourselves."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            process = identify(int(entry))
            if process and alive(process) and carries(process, tags):
                found.append(process)
    return sorted(found, key=lambda p: (p.start, p.pid))


def carries(process: ProcessId, tags: Mapping[str, str]) -> bool:
    environment = tags_of(process.pid)
    return all(environment.get(key) == value for key, value in tags.items())


@contextmanager
def proven(process: ProcessId, tags: Mapping[str, str]) -> Iterator[int | None]:
    """A pidfd of the process, or None if it is gone or going; raise NotOurs if it does not carry the tags."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        environment = tags_of(process.pid)
        if not alive(process) or not environment:
            yield None  # a process that is just ending has no memory, so no environment, any more
        elif any(environment.get(key) != value for key, value in tags.items()):
            raise NotOurs(f"process {process.pid} does not carry the tags {dict(tags)}")
        else:
            yield fd
    finally:
        os.close(fd)


def send(process: ProcessId, number: signal.Signals, tags: Mapping[str, str]) -> bool:
    """Signal a process that is proven ours. False if it is gone; raise NotOurs, nothing sent, if it is another's."""
    with proven(process, tags) as fd:
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        return True


async def gone(process: ProcessId, timeout_s: float | None = None) -> bool:
    """Wait for the end of a process, anyone's child. False if it still runs after the timeout."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not alive(process):
            return True
        await _readable(fd, timeout_s)
        return True
    except TimeoutError:
        return False
    finally:
        os.close(fd)


async def _readable(fd: int, timeout_s: float | None) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, end)
    try:
        await asyncio.wait_for(ended, timeout_s)
    finally:
        loop.remove_reader(fd)


async def stop(process: ProcessId | None, tags: Mapping[str, str], grace_s: float, *, drains: bool = True) -> None:
    """End a process that is ours: SIGTERM (a stopped one is continued), SIGKILL after the grace.

    What need not drain, as nobody is left to call it, is told so by a second SIGTERM (`workloads.server`).
    """
    if process is None:
        return
    if send(process, signal.SIGTERM, tags):
        send(process, signal.SIGCONT, tags)
    if not drains and not await gone(process, SECOND_TERM_S):
        send(process, signal.SIGTERM, tags)
    if not await gone(process, grace_s):
        await kill(process, tags)


async def kill(process: ProcessId, tags: Mapping[str, str]) -> None:
    """SIGKILL a process that is ours and wait until it is gone; also when it is stopped."""
    send(process, signal.SIGKILL, tags)
    await gone(process, 5)


def spawn(argv: Sequence[str], tags: Mapping[str, str], log: Path) -> ProcessId:
    """Start a Python module as leader of a session of its own, output appended to `log`, with our tags.

    The environment is what a program needs to run, and nothing else of ours.
    """
    env = {k: v for k, v in os.environ.items() if k in _PASSED_ON or k.startswith(_PASSED_ON_PREFIXES)}
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", *argv],
        {**env, **tags},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    # the child is not collected before the caller waits, so the pid is surely still its own
    return identify(pid) or ProcessId(pid, 0)


class Reaper:
    """Collects the children of this process, adopted orphans too, and remembers how each ended."""

    REMEMBERED = 1000

    def __init__(self) -> None:
        self._ended: dict[int, int] = {}

    def start(self) -> None:
        """Needs a running event loop in the main thread."""
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.collect)

    def collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended[pid] = os.waitstatus_to_exitcode(status)
            while len(self._ended) > self.REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def status(self, pid: int) -> int | None:
        """Exit status of a child that ended, negative for a signal; None for another's child."""
        self.collect()
        return self._ended.get(pid)


def describe_status(status: int | None) -> str:
    """How a process ended, for people.

    >>> describe_status(-9)
    'was ended by SIGKILL'
    """
    if status is None:
        return "ended (exit status not known)"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
