"""Did the machine itself stand still? A heartbeat on each core says so, beside the tests and whatever they start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.heartbeat import cores, history_file
from stages.history import Stall, read

STALL_S = 0.15
"""Half of the shortest timeout that a service under test has."""


class Machine:
    """Says for how long the machine stood still, by a heartbeat on each core."""

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="heartbeat-")
        self._beating: subprocess.Popen[bytes] | None = None
        self.again: list[str] = []
        """Tests that were run again, why, and how they had failed."""
        self.once: list[str] = []
        """Those of them that failed on a machine that kept going."""
        self.fixtures_of: Path | None = None
        """The module whose shared fixtures are up, ..."""
        self.fixtures_ns = 0
        """... and since when: what happened to them then shows in every test that follows."""

    def start(self) -> None:
        """Begin to watch; may be repeated."""
        if self._beating is None:
            words = [sys.executable, "-m", "loadtests.heartbeat", "--directory", self._directory.name]
            self._beating = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._beating.stdout is not None
            self._beating.stdout.readline()

    def stood_still_s(self, since_ns: int) -> float:
        """The longest stall of a core since then, seconds; 0 if there was none."""
        found = [0.0]
        for core in cores():
            file = history_file(Path(self._directory.name), core)
            if file.exists():
                with file.open() as lines:
                    stalls = [r for r in read(lines) if isinstance(r, Stall) and r.end_ns > since_ns]
                found += [(stall.end_ns - stall.start_ns) / 1e9 for stall in stalls]
        return max(found)

    def stop(self) -> None:
        if self._beating is not None:
            for pipe in (self._beating.stdin, self._beating.stdout):
                assert pipe is not None
                pipe.close()
            self._beating.wait()
        self._directory.cleanup()
