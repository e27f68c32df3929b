"""Where a run's files go: `runs/<utc>-<seed>/`, `runs/latest` pointing at the newest, or a directory of the user's.

verdict.json  report.html  junit.xml  history.jsonl  environment.json  logs/     and for a mesh
edges.html  traces.json  traces/<stage>/
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from stages.history import Record, dump
from suite.ports import BadInput

RUNS = Path("runs")

WRITTEN = (
    *("verdict.json", "report.html", "junit.xml", "history.jsonl", "environment.json"),
    *("edges.html", "traces.json"),
)
"""What a run leaves in its directory, besides folders."""


class Store:
    """The directory of one run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.traces = directory / "traces"
        """Access logs and spans by stage, where there is a mesh."""
        self.parts = directory / "parts"
        """History files while their writers live; `finish` merges and removes them."""

    @classmethod
    def create(cls, out: Path | None, *, now: datetime, seed: int) -> Store:
        """Make the directory; BadInput when that cannot be done or would mix two runs."""
        directory = RUNS / f"{now:%Y%m%dT%H%M%SZ}-{seed}" if out is None else out
        try:
            directory.mkdir(parents=True, exist_ok=out is not None)
        except FileExistsError:
            raise BadInput([f"{directory} exists and is not a directory, or another run began this second"]) from None
        except OSError as error:
            raise BadInput([f"cannot create {directory}: {error.strerror}; name a writable one with --out"]) from error
        if not os.access(directory, os.W_OK | os.X_OK):
            raise BadInput([f"cannot write to {directory}; name a writable directory with --out"])
        if (directory / "verdict.json").exists() and out is not None:
            for name in WRITTEN:
                (directory / name).unlink(missing_ok=True)
        store = cls(directory)
        shutil.rmtree(store.traces, ignore_errors=True)
        for folder in (store.logs, store.parts):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        if out is None:
            _point(RUNS / "latest", directory.name)
        return store

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write a JSON file for people and scripts: indented, key order kept, replaced in one step."""
        return self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a file so that a reader sees the old or the new one, never half."""
        path = self.directory / name
        temporary = path.with_suffix(path.suffix + ".tmp")
        temporary.write_text(text)
        temporary.replace(path)
        return path

    def write_history(self, records: Iterable[Record]) -> Path:
        """Write history.jsonl, one record a line."""
        return self.write_text("history.jsonl", "".join(dump(record) + "\n" for record in records))

    def keep_logs(self, source: str, stage: str) -> None:
        """Copy a deployment's logs; a missing one never hides the reason a run failed for."""
        logs = Path(source) / "logs"
        if not source or not logs.is_dir():
            return
        target = self.logs / stage
        target.mkdir(exist_ok=True)
        for log in sorted(logs.iterdir()):
            if log.is_file():
                with suppress(OSError):
                    shutil.copy(log, target / log.name)

    def keep_generator_logs(self) -> None:
        """Copy what the load and chaos processes wrote besides their histories, and the journals of Chaos Toolkit."""
        for found in sorted(self.parts.rglob("*")):
            if found.suffix in (".log", ".json") and found.is_file():
                name = "-".join(found.relative_to(self.parts).parts)
                with suppress(OSError):
                    shutil.copy(found, self.logs / name)

    def finish(self) -> None:
        """Remove what only served while the run was on."""
        shutil.rmtree(self.parts, ignore_errors=True)


def _point(link: Path, target: str) -> None:
    with suppress(OSError):  # a file system without links still keeps the run itself
        temporary = link.with_name(f".latest-{os.getpid()}")
        temporary.symlink_to(target)
        temporary.replace(link)
