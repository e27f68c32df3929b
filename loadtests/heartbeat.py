"""Did the machine itself stand still? One pinned process per core answers: `python -m loadtests.heartbeat`.

Each wakes every PERIOD_S and writes a Stall line when it woke more than STALL_S late. Verdicts leave out the requests
near a stall, by time, never by their outcome. One per core, since a stall of one core shows on that core only.

    driver --stdin--> heartbeat --fork--> heartbeat on core 0 --> DIRECTORY/stalls-core-0.jsonl
                                 \\--fork--> heartbeat on core 1 --> DIRECTORY/stalls-core-1.jsonl

Prints one JSON line when all beat. Ends at the end of its standard input; a heartbeat that ends by itself ends all,
with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loadtests.lifeline import end_with_parent
from loadtests.recorder import FileRecorder
from stages.history import Stall

PERIOD_S = 0.010
STALL_S = 0.050
"""Lateness above which a wake-up counts as a stall; simulated thresholds of 20 to 200 ms all gave no false leak."""


def beats(
    source: str, *, sleep: Callable[[float], bool], now_ns: Callable[[], int] = time.monotonic_ns
) -> Iterator[Stall]:
    """The stalls, as they happen, until `sleep(seconds)` returns False.

    `source` is the Stall's source, such as 'core-0'. A stall starts when the wake-up was due and ends when it came.
    """
    due_ns = now_ns() + round(PERIOD_S * 1e9)
    while sleep(max(0.0, (due_ns - now_ns()) / 1e9)):
        woke_ns = now_ns()
        if woke_ns - due_ns > STALL_S * 1e9:
            yield Stall(source=source, start_ns=due_ns, end_ns=woke_ns)
        due_ns = woke_ns + round(PERIOD_S * 1e9)


def history_file(directory: Path, core: int) -> Path:
    """Where the heartbeat of a core writes."""
    return directory / f"stalls-core-{core}.jsonl"


def cores() -> list[int]:
    """The cores this process may use."""
    return sorted(os.sched_getaffinity(0))


def watch_core(core: int, directory: Path) -> None:
    """Beat on one core until standard input ends."""
    os.sched_setaffinity(0, {core})
    recorder = FileRecorder(history_file(directory, core))
    for stall in beats(f"core-{core}", sleep=_until_input_ends):
        recorder.add(stall)
        recorder.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.heartbeat", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, required=True, help="existing directory for the history files")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process whose death ends the heartbeats")
    options = parser.parse_args(arguments)
    end_with_parent(options.parent)
    children = {_fork(core, options.directory): core for core in cores()}
    print(json.dumps({"ok": True, "cores": sorted(children.values())}), flush=True)
    while children:
        child, status = os.wait()
        core = children.pop(child)
        if code := os.waitstatus_to_exitcode(status):
            print(f"the heartbeat of core {core} ended with exit status {code}", file=sys.stderr)
            return 1  # which ends the others
    return 0


def _fork(core: int, directory: Path) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        end_with_parent(parent)
        watch_core(core, directory)
        status = 0
    except OSError as error:
        print(f"heartbeat on core {core}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _until_input_ends(seconds: float) -> bool:
    readable, _, _ = select.select([0], [], [], seconds)
    return not readable or os.read(0, 4096) != b""


if __name__ == "__main__":
    sys.exit(main())
