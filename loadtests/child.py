"""How does a helper process answer, and what if it dies? One child that speaks JSON lines, started and ended here.

LoadError
  LoadRefused     the child said no, nothing changed; the message says why
  LoadDied        the child is gone; the message has exit status, last lines and the log's path
  LoadSilent      no reply in time; whether the command took effect is not known
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LAST_LINES = 30
END_WITHIN_S = 2.0
"""A child that got the end of its input has this long before it is killed."""


class LoadError(RuntimeError):
    """Load could not be driven as asked."""


class LoadRefused(LoadError):
    """The load process refused the command."""


class LoadDied(LoadError):
    """The load process, or a heartbeat, ended by itself."""


class LoadSilent(LoadError):
    """No reply within the time allowed."""


class Child:
    """A process whose standard input means life: it ends when we close it, or when we die."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        """Start it, in a session of its own so that Ctrl-C reaches us alone. Its standard error goes to `log`."""
        self.name = name
        self.log = log
        self._started = time.monotonic()
        self._unread = b""
        self._lock = threading.Lock()
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as errors:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: Mapping[str, Any], *, within_s: float) -> dict[str, Any]:
        """Send a command and wait for its reply. Safe to call from several threads: one after the other.

        Raises LoadRefused, LoadDied or LoadSilent; after the last, the child is of no more use.
        """
        with self._lock:
            stdin = self._process.stdin
            assert stdin is not None
            try:
                stdin.write(json.dumps(command).encode() + b"\n")
                stdin.flush()
            except (OSError, ValueError) as error:  # ValueError: closed already
                raise self._died() from error
            return self._reply(within_s)

    def first_reply(self, *, within_s: float) -> dict[str, Any]:
        """The line a child prints without being asked: it is ready."""
        with self._lock:
            return self._reply(within_s)

    def check(self) -> None:
        """Raise LoadDied if it has ended."""
        if self._process.poll() is not None:
            raise self._died()

    def close(self) -> None:
        """End it and wait until it is gone; again and again if you like."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # a broken pipe: it has gone before us
                assert pipe is not None
                pipe.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _reply(self, within_s: float) -> dict[str, Any]:
        line = self._line(time.monotonic() + within_s, within_s)
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise LoadError(f"{self.name} replied {line[:200]!r}, expected JSON; full log: {self.log}") from error
        if not reply.pop("ok", False):
            raise LoadRefused(f"{self.name}: {reply.get('error', reply)}")
        return reply

    def _line(self, deadline: float, within_s: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        if stdout.closed:
            raise LoadDied(f"{self.name} has been closed")
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise LoadSilent(f"{self.name} (pid {self.pid}) gave no reply in {within_s:g} s; log: {self.log}")
                chunk = os.read(stdout.fileno(), 65536)
                if not chunk:
                    raise self._died()
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _died(self) -> LoadDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_WITHIN_S)
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return LoadDied(
            f"{self.name} (pid {self.pid}) ended with exit status {self._process.poll()} "
            f"{time.monotonic() - self._started:.1f} s after its start; last lines: "
            f"{' | '.join(lines) or '(none)'}; full log: {self.log}"
        )
