"""What do callers' sidecars say of their calls, while they say it? Access logs as they grow, on the run's clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from suite.signals_clock import Offset
from suite.signals_lines import ACCESS, INGRESS, OUT, Line, access_line


class AccessLogs:
    """Lines about what left a sidecar for another service, or came in from users; nothing of before it was made."""

    def __init__(self, directory: Path, parts: Iterable[str], offset: Offset) -> None:
        """`parts`: sidecars whose logs are followed; a log may appear later."""
        paths = [directory / f"{part}{ACCESS}" for part in parts]
        self._ends = {path: path.stat().st_size if path.exists() else 0 for path in paths}
        self._offset = offset

    def new(self) -> Sequence[Line]:
        """Lines appended since the last call, whole ones only; `start_ns` is CLOCK_MONOTONIC. Garbage is left out."""
        return [
            replace(line, start_ns=self._offset.monotonic(line.start_ns))
            for path in self._ends
            for line in _lines(self._appended(path))
            if line.side in (OUT, INGRESS)
        ]

    def _appended(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(self._ends[path])
                chunk = file.read()
        except FileNotFoundError:
            return b""
        whole = chunk.rfind(b"\n") + 1
        self._ends[path] += whole
        return chunk[:whole]


def _lines(chunk: bytes) -> Iterator[Line]:
    for text in chunk.splitlines():
        try:
            yield access_line(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # cut by a kill, or by the first read having begun in mid-line
