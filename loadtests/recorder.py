"""How do the generator's observations reach the history file?

Records are kept in memory as JSON lines, so that no request waits for the disk; whoever owns the recorder calls `flush`
at least every FLUSH_S. A record is put into words when it is taken (25 us each): all of them at the flush would hold up
the arrivals of 2.5 ms at 1,000 per second. A process that is killed loses what it saw within FLUSH_S, and a line cut
short is the last one: `stages.history.read` expects that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from stages.history import Record, dump

FLUSH_S = 0.1
"""Longest time a record stays in memory, seconds."""


class Recorder(Protocol):
    """Where observations go."""

    def add(self, record: Record) -> None:
        """Take a record; it reaches the history with the next flush."""
        ...

    def flush(self) -> None:
        """Write what was taken. Raises OSError when the file cannot take it (disk full): the run is then worthless."""
        ...

    def close(self) -> None:
        """Flush and let go of the file."""
        ...


class FileRecorder:
    """Appends to a history file of its own; other writers of the run have theirs."""

    def __init__(self, path: Path) -> None:
        """Creates the file, readable by the user only; raises OSError when that is not possible."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._pending: list[str] = []

    def add(self, record: Record) -> None:
        self._pending.append(dump(record))

    def flush(self) -> None:
        data = "".join(f"{line}\n" for line in self._pending).encode()
        self._pending.clear()
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        self.flush()
        os.close(self._file)


class NoRecorder:
    """Keeps nothing: for a plain Locust run whose user did not ask for a history."""

    def add(self, record: Record) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
