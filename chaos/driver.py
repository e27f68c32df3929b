"""Runs experiments in a process of their own; imports nothing of Chaos Toolkit.

with ChaosDriver(errors=Path("logs/chaos.log")) as chaos:
    chaos.run("payments-killed", deployment=path, history=path, until=enough, hold_s=20)
    while chaos.poll() is None:
        events = chaos.events()     # INTENT, INJECTED, SEEN, ... as they happen
        if decided(...): enough.touch()
    answer = chaos.answer
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.history import FaultEvent, load

END_S = 15.0
"""How long `close` waits for an undo before it kills; the lease then ends what is left."""


class ChaosDriverError(RuntimeError):
    """The chaos process ended or does not answer; a fault that was on ends with its lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosAnswer:
    """What became of one experiment."""

    fault: str
    outcome: str
    """'injected', 'refused' (surely nothing was done) or 'failed'."""
    bit: bool
    """A probe saw it bite."""
    seen_by: str
    undone: bool
    recovered_s: float | None
    """Only with a hypothesis: from the undo until all operations were steady."""
    journal: str | None
    """Path of the Chaos Toolkit journal, None if the experiment did not start."""
    problems: tuple[str, ...]


class ChaosDriver:
    """One chaos process; one experiment at a time. Not safe for threads."""

    def __init__(self, *, errors: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        """`errors` takes the process's stderr (default: ours); `environment` is added to our own."""
        self._errors = errors
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._history: Path | None = None
        self._told = 0
        self.answer: ChaosAnswer | None = None
        """Of the experiment that ended last; None while one runs."""

    def __enter__(self) -> ChaosDriver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the chaos process, None if it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; it needs about a second until it takes a command, which nobody has to wait for."""
        errors = self._errors.open("ab") if self._errors else None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chaos.run"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in the terminal is ours to handle; it ends with our stdin
            )
        finally:
            if errors:
                errors.close()

    def run(
        self,
        fault: str,
        *,
        deployment: Path,
        history: Path,
        hold_s: float,
        until: Path | None = None,
        hypothesis: bool = False,
        **more: Any,
    ) -> None:
        """Begin an experiment and return at once. `history` gets its FaultEvents; `until` ends the hold early.

        Raises ChaosDriverError if the process is gone, ValueError if an experiment is still running.
        """
        if self._history is not None and self.answer is None:
            raise ValueError("an experiment is still running; wait for its answer")
        self.answer, self._history = None, history
        self._told = history.stat().st_size if history.exists() else 0
        self._send(
            {
                "cmd": "run",
                "fault": fault,
                "deployment": str(deployment),
                "history": str(history),
                "until": str(until) if until else "",
                "hold_s": hold_s,
                "hypothesis": hypothesis,
                **more,
            }
        )

    def poll(self) -> ChaosAnswer | None:
        """The answer if the experiment has ended, else None; raise ChaosDriverError if the process is gone."""
        return self._receive(0.0)

    def wait(self, timeout_s: float) -> ChaosAnswer:
        """The answer; raise TimeoutError after `timeout_s`, ChaosDriverError if the process is gone."""
        deadline = time.monotonic() + timeout_s
        while (answer := self._receive(max(0.0, deadline - time.monotonic()))) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no answer from the chaos process within {timeout_s:g} s")
        return answer

    def events(self) -> list[FaultEvent]:
        """What was written to the history since the last call, in order; only whole lines."""
        if self._history is None or not self._history.exists():
            return []
        with self._history.open("rb") as file:
            file.seek(self._told)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._told += len(lines)
        records = (load(line) for line in lines.decode().splitlines())
        return [record for record in records if isinstance(record, FaultEvent)]

    def close(self) -> None:
        """End the process; a fault that is on is undone first. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it is gone already
                process.stdin.close()
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            process.stdout.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ChaosDriverError("the chaos process was not started")
        return self._process

    def _send(self, command: Mapping[str, Any]) -> None:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(command).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            raise ChaosDriverError(self._gone()) from error

    def _receive(self, timeout_s: float) -> ChaosAnswer | None:
        if self.answer is not None:
            return self.answer
        process = self._running()
        assert process.stdout is not None
        if select.select([process.stdout], [], [], timeout_s)[0]:
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                raise ChaosDriverError(self._gone())
            self._unread += piece
        line, newline, rest = self._unread.partition(b"\n")
        if newline:
            self._unread = rest
            raw = json.loads(line)
            self.answer = ChaosAnswer(**{**raw, "problems": tuple(raw["problems"])})
        return self.answer

    def _gone(self) -> str:
        status = self._running().wait()
        where = f"; its errors: {self._errors}" if self._errors else ""
        return f"the chaos process ended with {status}; a fault that was on ends with its lease{where}"
