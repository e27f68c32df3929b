"""`make test`: which tests run beside which?

    alone    tests/broken tests/e2e              they measure a loaded shop: one after the other
    beside   tests/unit                          meanwhile, in the time that those leave over
    last     tests/contract tests/integration    they mostly wait: in several processes

Every part runs, whatever comes of the others, and none outlives this process. What is left over is given in two ways,
as `nice` alone counts within a session only where Linux groups processes by session (autogroup), and every deployment
is a session of its own.

Exit status 0 if no test failed and at least one ran. The last line says what the machine gave: a host that steals a
third of its cores' time makes a run half as long again. Words of the command line go to every part:

    python -m tests.parts -k kafka
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from loadtests.lifeline import end_with_parent

ALONE = ("tests/broken", "tests/e2e")
BESIDE = ("tests/unit",)
LAST = ("--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder", "tests/contract", "tests/integration")

NOTHING_SELECTED = 5
"""pytest's exit status where -k or -m left nothing of a part."""

LEAST = 19
"""The nice value that asks for least."""


STAT = Path("/proc/stat")


def main(words: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    began, before = time.monotonic(), STAT.read_text(encoding="ascii")
    with tempfile.TemporaryFile("w+") as said:
        beside = _start(BESIDE, words, said)
        try:
            statuses = [_run(ALONE, words)]
            beside.wait()
        finally:
            _end(beside)
        said.seek(0)
        _announce(BESIDE, words)
        sys.stdout.write(said.read())
    statuses += [beside.returncode, _run(LAST, words)]
    print(given(before, STAT.read_text(encoding="ascii"), time.monotonic() - began), flush=True)
    return status_of(statuses)


def given(before: str, after: str, wall_s: float) -> str:
    """What became of the time of all cores between two readings of /proc/stat (proc(5): sums of ticks since boot).

    >>> given("cpu  0 0 0 0 0 0 0 0 0 0", "cpu  6000 0 3000 2000 1000 0 0 6000 0 0", 90.0)
    '1.5 min; of the cores: 1.5 min busy, 0.5 idle, 1.0 stolen by the host'
    """
    first, last = ([int(word) for word in stat.split(maxsplit=9)[1:9]] for stat in (before, after))
    user, nice, system, idle, iowait, irq, softirq, stolen = (b - a for a, b in zip(first, last, strict=True))
    per_minute = 60 * os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + irq + softirq
    said = (
        f"{busy / per_minute:.1f} min busy, {(idle + iowait) / per_minute:.1f} idle, {stolen / per_minute:.1f} stolen"
    )
    return f"{wall_s / 60:.1f} min; of the cores: {said} by the host"


def status_of(statuses: Sequence[int]) -> int:
    """The exit status of the whole, from those of its parts."""
    failed = any(status not in (0, NOTHING_SELECTED) for status in statuses)
    return int(failed or 0 not in statuses)


def _command(part: Sequence[str], words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *part, *words]


def _announce(part: Sequence[str], words: Sequence[str]) -> None:
    print("pytest", *part, *words, flush=True)


def _begin(part: Sequence[str], words: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    # this process has one thread, and a signal for the parent's death outlives the exec
    return subprocess.Popen(_command(part, words), preexec_fn=partial(end_with_parent, os.getpid()), **more)  # noqa: PLW1509


def _run(part: Sequence[str], words: Sequence[str]) -> int:
    _announce(part, words)
    running = _begin(part, words)
    try:
        return running.wait()
    finally:
        _end(running)


def _start(part: Sequence[str], words: Sequence[str], said: IO[str]) -> subprocess.Popen[bytes]:
    """Run a part in a session of its own, in the time that others leave over."""
    running = _begin(
        part, words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
    )
    os.setpriority(os.PRIO_PROCESS, running.pid, LEAST)
    with contextlib.suppress(OSError):  # a kernel without autogroup: there nice counts among all
        Path(f"/proc/{running.pid}/autogroup").write_text(str(LEAST))
    return running


def _end(running: subprocess.Popen[bytes]) -> None:
    """Interrupt what still runs, and wait until it has taken down what it had started."""
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
        running.wait()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
