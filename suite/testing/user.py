"""Somebody at a terminal: runs the command line and its neighbours for real, in a home of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

STAGES = (sys.executable, "-m", "suite")


@dataclass
class User:
    """Somebody at a terminal, with a STAGES_HOME of their own."""

    home: Path
    directory: Path
    """Where they are."""
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run `stages ...` to its end."""
        return subprocess.run(
            [*STAGES, *words],
            cwd=self.directory,
            env=self.environment_of_a_command(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def json(self, *words: str) -> Any:
        """The answer of a command that must succeed."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start `stages ...` in the background, in a process group of its own, as a shell does."""
        return subprocess.Popen(
            [*STAGES, *words],
            cwd=self.directory,
            env=self.environment_of_a_command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,  # noqa: PLW1509  # no thread of a test forks at the same time
        )

    def tool(self, *words: str, timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        """Run another program of the environment, such as `chaos` or `locust`."""
        program = Path(sys.executable).parent / words[0]
        return subprocess.run(
            [str(program), *words[1:]],
            cwd=self.directory,
            env={**self.environment_of_a_command(), **env},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def processes(self) -> list[str]:
        """Command lines of everything that runs for this home, whatever its parent."""
        return [line for _, line in self._mine()]

    def pids_of(self, part: str) -> list[int]:
        """Process ids of this home's processes with `part` in their command line."""
        return [pid for pid, line in self._mine() if part in line]

    def end_all(self) -> None:
        """End what a failed test left, by process id."""
        for pid, _ in self._mine():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _mine(self) -> list[tuple[int, str]]:
        """Process id and command line of whatever was started with this home: commands by their environment, the local
        cloud by tag or argument. What ends meanwhile is left out."""
        home = str(self.home)
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                words = process.cmdline()
                mine = home in (environment.get("STAGES_HOME"), environment.get("STAGES_CLOUD"))
                if process.pid != os.getpid() and (mine or any(home in word for word in words)):
                    found.append((process.pid, " ".join(words)))
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def environment_of_a_command(self) -> dict[str, str]:
        """What every program of this user is started with."""
        return {**os.environ, "STAGES_HOME": str(self.home), "COLUMNS": "120", **self.environment}


def hear_interrupts() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, and so would all that is started from there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(true: Callable[[], object], within_s: float, why: Callable[[], str]) -> None:
    """Poll until something holds; fail with the reason given at the deadline."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {why()}"
        time.sleep(0.05)
