"""What runs in the load generator's process: Locust under remote control, `python -m loadtests.run`.

    driver --commands, a JSON object a line: stdin--> run --> OpenLoopUser --> the shop
    driver <--replies, a JSON object a line: stdout-- run --> the history file

    {"cmd": "start", "edge": URL, "rate": 60, "mix": {"browse": 2, ...}, "seed": 7, "run_id": ..., "history": PATH,
     "warm_up": {"ready_within_s": 10, "rate": 20, "seconds": 2}}
                    waits for home document and catalogue, then fills the shop with orders ("rate" per second for
                    "seconds", under the phase 'warm-up'), then drives the mix; replies when that has begun:
                    {"ok": true, "at_ns": ..., "stocked": 38}
    {"cmd": "mix", "mix": {...}}   {"cmd": "rate", "rate": 80}   from the next arrival on
    {"cmd": "phase", "name": ...}  marks the history: {"ok": true, "at_ns": ...}
    {"cmd": "stats"}               figures of the phase so far: {"ok": true, "stats": {...}}
    {"cmd": "outstanding"}         what is due and not on file: {"ok": true, "outstanding": [["browse", 123], ...]}
    {"cmd": "stop"}                no more arrivals; waits for the answers still due; replies with the last figures

A reply is {"ok": true, ...} or {"ok": false, "error": "..."}. The end of standard input ends the process at once, also
in the middle of a command. Whatever else is printed goes to standard error.
"""

# Importing Locust patches the process through gevent, so it comes before everything else, and in no process but this.
from locust.env import Environment  # isort: skip
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.fileobject import FileObject
from gevent.queue import Queue

from loadtests import commands
from loadtests.commands import BadCommand, Start
from loadtests.lifeline import end_with_parent
from loadtests.open_loop import STOP_TIMEOUT_S, OpenLoop, OpenLoopUser
from loadtests.profiles import STOCK
from loadtests.recorder import FileRecorder
from loadtests.tuning import calm_collector, go_first, in_flight_max
from stages.history import Outcome


class ShopUser(OpenLoopUser):
    """The generator of this process."""


class Session:
    """One run of load, from `start` to `stop`."""

    def __init__(self, asked: Start) -> None:
        """Opens the history; nothing is sent yet. Raises BadCommand when the file cannot be written."""
        self._asked = asked
        try:
            self._recorder = FileRecorder(asked.history)
        except OSError as error:
            raise BadCommand(f"history={str(asked.history)!r} cannot be written: {error.strerror}") from error
        stock = asked.warm_up.seconds > 0
        self.loop = OpenLoop(
            run_id=asked.run_id,
            seed=asked.seed,
            rate_per_s=asked.warm_up.rate_per_s if stock else asked.rate_per_s,
            mix=STOCK if stock else asked.mix,
            recorder=self._recorder,
            in_flight_max=in_flight_max(),
            ready_within_s=asked.warm_up.ready_within_s,
        )
        self._environment = Environment(user_classes=[ShopUser], host=asked.edge, stop_timeout=STOP_TIMEOUT_S)
        self._environment.open_loop = self.loop

    def begin(self) -> dict[str, Any]:
        """Warm up, then drive the load that was asked for."""
        self.loop.phase("warm-up")
        gevent.spawn(self.loop.keep_house).link_exception(_give_up)
        self._environment.create_local_runner().start(1, spawn_rate=1)
        self.loop.primed.wait()
        if self.loop.failure:
            raise BadCommand(self.loop.failure)
        if self._asked.warm_up.seconds > 0:
            _sleep_until(time.monotonic() + self._asked.warm_up.seconds)
            self.loop.turn(rate_per_s=self._asked.rate_per_s, mix=self._asked.mix)
        placed = self.loop.tally.outcomes("place-order")
        return {"at_ns": time.monotonic_ns(), "stocked": placed[Outcome.OK]}

    def end(self) -> None:
        """No more arrivals; returns when every request has its record on file."""
        self.loop.closed = True
        self._environment.runner.stop()
        self.loop.settle()


class Control:
    """Obeys one command after the other."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def obey(self, line: bytes) -> dict[str, Any]:
        """The reply to a line; raises BadCommand."""
        name, fields = commands.parse(line)
        if name == "start":
            return self._start(commands.start(fields))
        if self._session is None:
            raise BadCommand(f"{name!r} came before 'start'")
        act: Callable[[Session, Mapping[str, Any]], dict[str, Any]] = getattr(self, f"_{name}")
        return act(self._session, fields)

    def _start(self, asked: Start) -> dict[str, Any]:
        if self._session is not None:
            raise BadCommand("'start' came twice: one process drives one run")
        self._session = Session(asked)
        return self._session.begin()

    def _mix(self, session: Session, fields: Mapping[str, Any]) -> dict[str, Any]:
        session.loop.turn(mix=commands.mix(fields))
        return {}

    def _rate(self, session: Session, fields: Mapping[str, Any]) -> dict[str, Any]:
        session.loop.turn(rate_per_s=commands.rate(fields))
        return {}

    def _phase(self, session: Session, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"at_ns": session.loop.phase(commands.phase(fields))}

    def _stats(self, session: Session, _fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"stats": session.loop.figures()}

    def _outstanding(self, session: Session, _fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"outstanding": session.loop.outstanding()}

    def _stop(self, session: Session, _fields: Mapping[str, Any]) -> dict[str, Any]:
        session.end()
        return {"stats": session.loop.figures()}


def main() -> None:
    """Obey until standard input ends. Never returns."""
    end_with_parent(os.getppid())
    replies = os.dup(1)
    os.dup2(2, 1)
    go_first()
    lines: Queue = Queue()
    gevent.spawn(_read, lines).link_exception(_give_up)
    control = Control()
    calm_collector()
    while True:
        line = lines.get()
        try:
            reply = {"ok": True, **control.obey(line)}
        except BadCommand as error:
            reply = {"ok": False, "error": str(error)}
        os.write(replies, json.dumps(reply).encode() + b"\n")


def _sleep_until(deadline: float) -> None:
    """gevent counts from when its loop last woke, which is too early after work that took long."""
    while (left := deadline - time.monotonic()) > 0:
        gevent.sleep(left)


def _read(lines: Any) -> None:
    """Apart from the commands, so that the end of the input is seen while one is obeyed."""
    for line in FileObject(sys.stdin.buffer, "rb"):
        lines.put(line)
    os._exit(0)


def _give_up(greenlet: Any) -> None:
    """The history cannot be written, or the commands not be read: a run without them is worth nothing."""
    print(f"the load process gives up: {greenlet.exception!r}", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main()
