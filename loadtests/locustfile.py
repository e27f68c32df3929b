"""The open-loop load for people who know Locust: nothing but Locust is needed to use it.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:41001             then open http://127.0.0.1:8089
    locust -f loadtests/locustfile.py --host ... --headless -t 30s --rate 60 --mix realistic
    locust -f loadtests/locustfile.py --host ... --headless -t 30s --rate 2000 --processes 2 -u 2
    locust -f loadtests/locustfile.py --host ... --master --master-bind-host 10.1.2.3
    locust -f loadtests/locustfile.py --worker --master-host 10.1.2.3           on as many machines as you like

What differs from the Locust file you would expect:

* `--rate` is the load: arrivals per second in total, random and independent of how fast the shop answers. `--users` is
  the number of *generators* among which it is divided, whatever process they are in: 1 will do up to 1,000 per second,
  one per worker beyond. More users never mean more load.
* Response times count from the moment an arrival was due (no coordinated omission).
* Arrivals that could not be sent because the generator was exhausted appear as failures of type 'unsent'. Those for
  which the shop held nothing to act upon (an order to cancel) are counted in the log line at the end.
* The web UI and the master listen on loopback unless `--web-host` and `--master-bind-host` say otherwise.
* `--history FILE` keeps every request as a line that `stages.history` reads; each worker writes a file of its own.

Exit status as ever: 1 if a request failed (see `--exit-code-on-error`), else 0.
"""

from __future__ import annotations

import argparse
import logging
import uuid
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from loadtests.commands import RATE_MAX
from loadtests.open_loop import STOP_TIMEOUT_S, OpenLoop, OpenLoopUser
from loadtests.profiles import PROFILES, ProfileError, parse_mix
from loadtests.recorder import FileRecorder, NoRecorder, Recorder
from loadtests.tuning import calm_collector, in_flight_max

logger = logging.getLogger(__name__)


class ShopUser(OpenLoopUser):
    """A generator; see `--users` above."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust's types are not followed
def _arguments(parser: Any) -> None:
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1")
    # not in a group of their own: Locust shows in its web UI what was added to the parser itself
    parser.add_argument(
        "--rate", type=_rate, default=PROFILES["experiment"].rate_per_s, help="Arrivals per second, over all workers"
    )
    parser.add_argument(
        "--mix",
        type=_mix,
        default="experiment",
        help=f"One of {', '.join(PROFILES)}, or weights as in browse=2,place-order=1",
    )
    parser.add_argument("--seed", type=int, default=1, help="Equal seeds give equal arrivals and choices")
    parser.add_argument("--history", type=_history, default="", help="File to append one JSON line per request to")
    parser.add_argument("--run-id", default="", help="Begins every idempotency key; default: a fresh one per run")
    parser.add_argument("--ready-within", type=float, default=10.0, help="Seconds the shop may take to answer first")


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust's types are not followed
def _init(environment: Any, runner: Any, **_: Any) -> None:
    if not environment.stop_timeout:  # Locust's default of 0 cuts off what is in flight, worst of all in a fault
        environment.stop_timeout = STOP_TIMEOUT_S

    def announce(user_count: int, **_: Any) -> None:
        """On a worker: how many generators all workers have, which may change while the load runs."""
        environment.parsed_options.generators = user_count

    environment.events.spawning_complete.add_listener(announce)
    calm_collector()
    gevent.get_hub().loop.update_now()  # the imports took a while; a run time counted from before them would be short


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust's types are not followed
def _begin(environment: Any, **_: Any) -> None:
    runner, options = environment.runner, environment.parsed_options
    if isinstance(runner, MasterRunner):
        if runner.target_user_count < runner.worker_count:
            logger.warning("%d users: only as many workers send, see --users", runner.target_user_count)
        options.generators = runner.target_user_count  # travels to the workers with the other custom arguments
        return
    worker = f"w{runner.worker_index}-" if isinstance(runner, WorkerRunner) else ""
    environment.open_loop = None
    try:
        mix, recorder = parse_mix(options.mix), _recorder(options.history, worker)
    except (ProfileError, OSError) as error:  # typed into the web UI: the command line has been checked
        logger.error("no load: %s", error)
        return
    environment.open_loop = OpenLoop(
        run_id=options.run_id or uuid.uuid4().hex[:12],
        seed=options.seed,
        rate_per_s=min(max(options.rate, 1e-3), RATE_MAX),
        mix=mix,
        recorder=recorder,
        in_flight_max=in_flight_max(),
        ready_within_s=options.ready_within,
        worker=worker,
        generators=(lambda: options.generators) if worker else (lambda: runner.target_user_count),
    )
    environment.open_loop.phase("load")
    environment.open_loop.house = gevent.spawn(environment.open_loop.keep_house)


@events.test_stopping.add_listener  # type: ignore[untyped-decorator]  # locust's types are not followed
def _stopping(environment: Any, **_: Any) -> None:
    if not isinstance(environment.runner, MasterRunner) and environment.open_loop:
        environment.open_loop.closed = True


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust's types are not followed
def _end(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, MasterRunner) or not environment.open_loop:
        return
    loop: OpenLoop = environment.open_loop
    loop.house.kill()
    loop.settle()
    loop.recorder.close()
    figures = loop.figures()
    logger.info(
        "open loop: offered %(offered)d, answered %(answered)d, unsent %(unsent)s, sent late by "
        "%(lag_p50_ms)s ms (p50) and %(lag_p99_ms)s ms (p99)",
        figures,
    )


def _recorder(history: str, worker: str) -> Recorder:
    if not history:
        return NoRecorder()
    path = Path(history)
    return FileRecorder(path.with_name(f"{path.stem}.{worker.rstrip('-')}{path.suffix}") if worker else path)


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= RATE_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a rate above 0 and up to {RATE_MAX:g} per second")
    return rate


def _mix(text: str) -> str:
    try:
        parse_mix(text)
    except ProfileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _history(text: str) -> str:
    if text and not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{Path(text).absolute().parent} is not a directory")
    return text
