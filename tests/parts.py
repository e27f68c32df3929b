"""`make test`: which tests run beside which?

    alone    tests/broken tests/e2e              they measure a loaded shop: one after the other
    beside   tests/unit                          meanwhile, in the time that those leave over
    last     tests/contract tests/integration    they mostly wait: in several processes

Every part runs, whatever comes of the others. What is left over is given in two ways, as `nice` alone counts within a
session only where Linux groups processes by session (autogroup), and every deployment is a session of its own.

Exit status 0 if no test failed and at least one ran; words of the command line go to every part:

    python -m tests.parts -k kafka
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

ALONE = ("tests/broken", "tests/e2e")
BESIDE = ("tests/unit",)
LAST = ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder", "tests/contract", "tests/integration")

NOTHING_SELECTED = 5
"""pytest's exit status where -k or -m left nothing of a part."""

LEAST = 19
"""The nice value that asks for least."""


def main(words: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
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
    return status_of([*statuses, beside.returncode, _run(LAST, words)])


def status_of(statuses: Sequence[int]) -> int:
    """The exit status of the whole, from those of its parts."""
    failed = any(status not in (0, NOTHING_SELECTED) for status in statuses)
    return int(failed or 0 not in statuses)


def _command(part: Sequence[str], words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *part, *words]


def _announce(part: Sequence[str], words: Sequence[str]) -> None:
    print("pytest", *part, *words, flush=True)


def _run(part: Sequence[str], words: Sequence[str]) -> int:
    _announce(part, words)
    running = subprocess.Popen(_command(part, words))
    try:
        return running.wait()
    finally:
        _end(running)


def _start(part: Sequence[str], words: Sequence[str], said: IO[str]) -> subprocess.Popen[bytes]:
    """Run a part in a session of its own, in the time that others leave over."""
    running = subprocess.Popen(
        _command(part, words), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
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
