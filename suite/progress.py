"""What is happening now, for people: one line that changes on a terminal, one line per step in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape


class Progress:
    """Tells each step once, with the seconds since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._status = console.status("starting") if console.is_terminal else None
        self._last = ""

    def say(self, text: str) -> None:
        """A new step begins."""
        if text == self._last:
            return
        self._last = text
        stamped = f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {escape(text)}"
        self._console.print(stamped)
        if self._status is not None:
            self._status.update(escape(text))

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
