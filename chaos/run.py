"""`python -m chaos.run`: runs experiments on demand, for whoever must not import Chaos Toolkit.

    stdin    {"cmd": "run", "fault": "payments-killed", "deployment": "/.../deployment.json",
              "history": "/.../chaos.jsonl", "until": "/.../enough", "hold_s": 20, "hypothesis": false}
    stdout   {"fault": ..., "outcome": "injected" | "refused" | "failed", "bit": true, "seen_by": "...",
              "undone": true, "recovered_s": null, "journal": "/.../payments-killed-1.json", "problems": []}

One line each, one experiment at a time, in the main thread (Chaos Toolkit sets signal handlers). The end
of stdin, SIGTERM and SIGINT undo the fault that is on and end the process; after a SIGKILL its lease does.
Optional in a command: "journal" (a path), "home", "dry_run", "recover_s".
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from chaoslib.experiment import run_experiment
from chaoslib.run import RunEventHandler
from chaoslib.types import Strategy

from chaos import experiment, target
from chaos.actions import undo
from chaos.catalogue import NamedFault, fault_named
from chaos.guard import Refused, stage_of
from chaos.journal import Done, Outcome, outcome
from chaos.lease import ChaosError, new_token

Command = Mapping[str, Any]

SETTINGS = {"runtime": {"rollbacks": {"strategy": "always"}}}
"""run_experiment ignores the experiment's own `runtime` block."""


@dataclass(slots=True)
class _Stop:
    """Whether to end, and whether an undo is on that must not be cut short."""

    asked: bool = False
    undoing: bool = False
    inbox: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGINT: out of whatever is done, except out of an undo."""
        self.asked = True
        if not self.undoing:
            raise KeyboardInterrupt(signal.Signals(number).name)

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self.on_signal)
        signal.signal(signal.SIGINT, self.on_signal)


class _Handler(RunEventHandler):  # type: ignore[misc]  # chaoslib ships no types
    """Keeps the signals ours during a run, and an undo whole."""

    def __init__(self, stop: _Stop) -> None:
        self._stop = stop

    def started(self, experiment: Any, journal: Any) -> None:
        self._stop.install()  # Chaos Toolkit's own SIGTERM handler cuts one activity short and goes on

    def start_rollbacks(self, experiment: Any) -> None:
        self._stop.undoing = True

    def rollbacks_completed(self, experiment: Any, journal: Any) -> None:
        self._stop.undoing = False


def main(stdin: TextIO, stdout: TextIO) -> int:
    """Serve commands until stdin ends or a signal comes; 0 if nothing was cut short."""
    logging.getLogger("chaostoolkit").addHandler(logging.NullHandler())
    logging.getLogger("chaostoolkit").propagate = False
    stop = _Stop()
    stop.install()
    main_thread = threading.get_ident()
    threading.Thread(target=_read, args=(stdin, stop, main_thread), name="stdin", daemon=True).start()
    try:
        while not stop.asked and (line := stop.inbox.get()) is not None:
            print(json.dumps(_answer(line, stop), default=str), file=stdout, flush=True)
    except KeyboardInterrupt:
        stop.asked = True
    return 1 if stop.asked else 0


def _read(stdin: TextIO, stop: _Stop, main_thread: int) -> None:
    """Hand over the commands; the end of stdin ends a run as SIGTERM does."""
    for line in stdin:
        stop.inbox.put(line)
    stop.inbox.put(None)
    signal.pthread_kill(main_thread, signal.SIGTERM)


def _answer(line: str, stop: _Stop) -> dict[str, Any]:
    fault = ""
    try:
        command = json.loads(line)
        fault = str(command.get("fault", ""))
        if command.get("cmd") != "run":
            raise Refused(f"unknown command {command.get('cmd')!r}; the only one is 'run'")
        return _run(command, stop)
    except (Refused, ValueError, AttributeError, OSError) as error:
        return {"fault": fault, "outcome": Done.REFUSED, "bit": False, "seen_by": "", "undone": True,
                "recovered_s": None, "journal": None, "problems": [str(error)]}  # fmt: skip


def _run(command: Command, stop: _Stop) -> dict[str, Any]:
    named, settings = _prepared(command)
    hypothesis = bool(command.get("hypothesis", False))
    on = True
    try:
        journal = run_experiment(
            experiment.document(named),
            settings=SETTINGS,
            experiment_vars=(dict(settings), {}),
            strategy=Strategy.DEFAULT if hypothesis else Strategy.SKIP,
            event_handlers=[_Handler(stop)],
        )
        proven = outcome(journal)
        on = not proven.undone
    finally:
        stop.undoing = True
        failed = _make_sure(named.name, settings) if on else None
        stop.undoing = False
        stop.install()
    path = _journal_path(command, named.name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(json.dumps(journal, indent=1, default=str))
    return _said(named.name, proven, path, [failed] if failed else [])


def _prepared(command: Command) -> tuple[NamedFault, dict[str, Any]]:
    """The fault and the experiment's configuration; raise Refused if either is unusable."""
    unusable = [key for key in ("fault", "deployment", "history") if not isinstance(command.get(key), str)]
    if unusable:
        raise Refused(f"the command lacks {', '.join(unusable)} (strings)")
    where = target.home(command)
    path = target.find(command["deployment"], where)
    try:
        named = fault_named(stage_of(target.read(path)), command["fault"])
    except KeyError as error:
        raise Refused(str(error.args[0])) from error
    try:
        Path(command["history"]).open("ab").close()
    except OSError as error:
        raise Refused(f"the intent cannot be written: {error}") from error
    hypothesis = bool(command.get("hypothesis", False))
    return named, {
        "home": str(where),
        "deployment": str(path),
        "token": new_token(),
        "hold_s": float(command.get("hold_s", experiment.HOLD_S)),
        "until": str(command.get("until") or ""),
        # without a hypothesis somebody else watches the operations
        "recover_s": float(command.get("recover_s", experiment.RECOVER_S)) if hypothesis else 0.0,
        "history": command["history"],
        "dry_run": str(command.get("dry_run", "")),
    }


def _make_sure(name: str, settings: Mapping[str, Any]) -> str | None:
    """Undo once more what the rollbacks did not undo; why that failed too, or None."""
    try:
        undo(str(settings["deployment"]), name, dict(settings))
    except ChaosError as error:
        return f"{name} may still be on for the rest of its lease: {error}"
    return None


def _journal_path(command: Command, name: str) -> Path:
    if given := command.get("journal"):
        return Path(given)
    directory = Path(command["history"]).parent / "journals"
    taken = len(list(directory.glob(f"{name}-*.json"))) if directory.exists() else 0
    return directory / f"{name}-{taken + 1}.json"


def _said(name: str, proven: Outcome, path: Path, more: list[str]) -> dict[str, Any]:
    return {
        "fault": name,
        "outcome": proven.done,
        "bit": proven.bit,
        "seen_by": proven.seen_by,
        "undone": proven.undone or not more,
        "recovered_s": proven.recovered_s,
        "journal": str(path),
        "problems": [*proven.problems, *more],
    }


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout))
