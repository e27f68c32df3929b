"""How do files change under readers that watch them? One at a time, whole, and only where they differ."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_SCRATCH = ".new-"
"""Begins the names of files that are still being written: no reader asks for such a name."""


class Files:
    """The files of one directory, 0600 in directories 0700.

    While a writer takes over from another there may be two.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[str, str | None] = {}

    def read(self, name: str) -> str | None:
        """What a file of this directory says, None if it cannot be read; from the disk only the first time."""
        if name not in self._written:
            try:
                self._written[name] = (self._directory / name).read_text("utf-8")
            except (OSError, ValueError):
                self._written[name] = None
        return self._written[name]

    def write(self, wanted: Mapping[str, str]) -> list[str]:
        """Make files say this, in the order given; return the names of those that did not.

        A file is replaced by renaming: readers see the old text or the new one, and are woken by the rename.
        """
        changed = [name for name, text in wanted.items() if self.read(name) != text]
        for name in changed:
            self._replace(self._directory / name, wanted[name])
            self._written[name] = wanted[name]
        return changed

    def keep(self, below: str, names: frozenset[str]) -> None:
        """Remove the directories below one, except those that are named, and what a writer left half done."""
        parent = self._directory / below
        for path in sorted(parent.iterdir()) if parent.is_dir() else ():
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)
                prefix = f"{below}/{path.name}/"
                self._written = {n: text for n, text in self._written.items() if not n.startswith(prefix)}

    def tidy(self) -> None:
        """Remove what a writer that was killed has left half done."""
        for path in self._directory.rglob(f"{_SCRATCH}*"):
            path.unlink(missing_ok=True)

    def _replace(self, path: Path, text: str) -> None:
        missing = path.parent
        while not missing.is_dir():
            missing = missing.parent
        for part in path.parent.relative_to(missing).parts:
            missing = missing / part
            missing.mkdir(mode=0o700, exist_ok=True)
        scratch = path.with_name(f"{_SCRATCH}{os.getpid()}-{path.name}")
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(scratch, path)
