"""Read history files while others write them: each call returns what is new, whole lines only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.history import Record, load


class Tail:
    """Follows several append-only JSONL files. A file may appear later."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._offsets = dict.fromkeys(paths, 0)

    def follow(self, path: Path) -> None:
        """Follow one more file, from its beginning."""
        self._offsets.setdefault(path, 0)

    def new(self) -> list[Record]:
        """Records appended since the last call, in the order of the files, unsorted between them."""
        records: list[Record] = []
        for path, offset in self._offsets.items():
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    chunk = file.read()
            except FileNotFoundError:
                continue
            whole = chunk.rfind(b"\n") + 1
            records += [load(line.decode()) for line in chunk[:whole].splitlines() if line.strip()]
            self._offsets[path] = offset + whole
        return records
