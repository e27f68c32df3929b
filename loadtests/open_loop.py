"""How is an open loop driven inside Locust, which has none?

A user that never waits for an answer. It keeps an absolute timetable (`arrivals`), starts a greenlet per arrival, and
counts latency from the moment the arrival was *due*: a shop that stands still for 2 s is seen by all who came
meanwhile, not only by the few who were already waiting (coordinated omission).

    timetable --due--> OpenLoopUser --spawn--> greenlet: Shopper.next -> Transport -> Shopper.take
                            |                       |
                            |  pool full            v
                            +--> Unsent         Invocation --> Recorder (history), Tally, Locust's own statistics

Every Locust user is one such generator; the rate is divided among all users of all workers, so that the total does not
depend on how many there are. What an arrival cannot do is recorded with its reason and never dropped. If the generator
falls behind it sends late, says so (`started_ns`, Stall) and catches up: it never lets the shop slow it down.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from locust import FastHttpUser, task
from locust.exception import StopUser

from loadtests.arrivals import Arrivals
from loadtests.heartbeat import STALL_S
from loadtests.recorder import FLUSH_S, Recorder
from loadtests.tally import Tally
from loadtests.transport import CLIENT_TIMEOUT_S, NoSocket, Reply, Transport
from stages.history import Invocation, Outcome, Phase, Stall, Unsent, Usage
from workloads.client import NotReady, Request, Result, Shopper, Trouble

STOP_TIMEOUT_S = CLIENT_TIMEOUT_S + 2.0
"""How long stopping waits for answers; above the client timeout, so that every request gets its record."""

TICK_S = 0.020
"""Longest sleep of a generator: how soon it notices a new rate, and what lets it notice its own stalls."""

BATCH = 64
"""Arrivals started at once after a delay before greenlets that wait for the processor get their turn."""

PRIME_RETRY_S = 0.1
USAGE_S = 1.0


@dataclass(frozen=True, slots=True)
class Dial:
    """What one generator is to do now."""

    rate_per_s: float
    """This generator's share."""
    mix: Mapping[str, int]


class RequestFailed(Exception):
    """For Locust's failure table: an operation that did not end ok."""


class OpenLoop:
    """What the generators of one process share; found at `environment.open_loop`."""

    def __init__(
        self,
        *,
        run_id: str,
        seed: int,
        rate_per_s: float,
        mix: Mapping[str, int],
        recorder: Recorder,
        in_flight_max: int,
        ready_within_s: float,
        worker: str = "",
        generators: Callable[[], int] = lambda: 1,
    ) -> None:
        """`rate_per_s` is the total of the whole run, `generators` says among how many users it is divided.

        `in_flight_max`: requests that may wait for an answer at once, per user. `ready_within_s`: how long a shop may
        take to answer its home document at the start. `worker` tells the processes of one run id apart.
        """
        self.run_id = run_id
        self.worker = worker
        self.seed = seed
        self.rate_per_s = rate_per_s
        self.mix = mix
        self.recorder = recorder
        self.tally = Tally()
        self.shoppers: list[Shopper] = []
        self.followers: list[Callable[[], None]] = []
        """Make a generator take notice of a new dial now, rather than within TICK_S."""
        self.waiting: set[tuple[str, int]] = set()
        """Arrivals without a record yet, (operation, intended start)."""
        self.in_flight_max = in_flight_max
        self.ready_within_s = ready_within_s
        self.primed = Event()
        """Set when a generator has begun, or has given up: then `failure` says why."""
        self.failure: str | None = None
        self.closed = False
        """True: nobody comes any more. Set it before Locust is told to stop, which is slow about it."""
        self.house: Any = None
        """The greenlet that runs `keep_house`, where somebody is to end it."""
        self.cpu_share = 0.0
        self._generators = generators
        self._enrolled = 0

    def enrol(self) -> str:
        """A name for one more generator, unique in this run id; '' for the only one of the only process."""
        self._enrolled += 1
        return f"-{self.worker}{self._enrolled}" if self.worker or self._enrolled > 1 else ""

    def dial(self) -> Dial:
        return Dial(self.rate_per_s / max(1, self._generators()), self.mix)

    def turn(self, *, rate_per_s: float | None = None, mix: Mapping[str, int] | None = None) -> None:
        """Another total rate, another mix: every arrival due after this follows."""
        self.rate_per_s = rate_per_s or self.rate_per_s
        self.mix = mix or self.mix
        for follow in self.followers:
            follow()

    def phase(self, name: str) -> int:
        """Mark a phase in the history at once; returns its CLOCK_MONOTONIC time, nanoseconds."""
        mark = Phase(name=name, at_ns=time.monotonic_ns())
        self.recorder.add(mark)
        self.recorder.flush()
        self.tally.phase(name)
        return mark.at_ns

    def unsent(self, operation: str, intended_ns: int, reason: str) -> None:
        self.tally.unsent[reason] += 1
        self.recorder.add(Unsent(operation=operation, intended_ns=intended_ns, reason=reason))

    def ended(self, invocation: Invocation) -> None:
        self.tally.add(invocation)
        self.recorder.add(invocation)

    def outstanding(self) -> list[tuple[str, int]]:
        """Everything due that is not on file: what is has been flushed before this was read."""
        self.recorder.flush()
        return sorted(self.waiting, key=lambda waiting: waiting[1])

    def settle(self) -> None:
        """When all generators have stopped: record what was cut off before its first step, and flush."""
        for operation, intended_ns in self.outstanding():
            self.unsent(operation, intended_ns, "generator stopped")
        self.waiting.clear()
        self.recorder.flush()

    def figures(self) -> dict[str, Any]:
        """JSON-ready: the fields of `loadtests.driver.LoadStats`."""
        stock = sum(shopper.cancellable for shopper in self.shoppers)
        return {**self.tally.figures(), "stock": stock, "in_flight": len(self.waiting), "cpu_share": self.cpu_share}

    def keep_house(self) -> None:
        """Flush the records every FLUSH_S and note this process's own usage every second, for ever."""
        before_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        while True:
            gevent.sleep(FLUSH_S)
            now_ns = time.monotonic_ns()
            if now_ns - before_ns >= USAGE_S * 1e9:
                used_ns = time.process_time_ns() - cpu_ns
                self.cpu_share = round(used_ns / (now_ns - before_ns), 4)
                self.recorder.add(Usage(at_ns=now_ns, cpu_share=self.cpu_share, in_flight=len(self.waiting)))
                before_ns, cpu_ns = now_ns, cpu_ns + used_ns
            self.recorder.flush()


class OpenLoopUser(FastHttpUser):  # type: ignore[misc]  # locust's types are not followed, see pyproject.toml
    """One generator. Needs `environment.open_loop`; subclass it in a locustfile of your own."""

    abstract = True
    network_timeout = CLIENT_TIMEOUT_S
    connection_timeout = CLIENT_TIMEOUT_S
    concurrency = 4000  # FastHttpUser's default of 10 would close the loop; `in_flight_max` is the bound that counts
    _pool: Pool | None = None

    def on_start(self) -> None:
        """Read the home document and the catalogue, then start the timetable."""
        if self.environment.open_loop is None:
            raise RuntimeError("no load to drive: the log says what is wrong with it")
        self._loop: OpenLoop = self.environment.open_loop
        name = self._loop.enrol()
        seed = f"{self._loop.seed}{name}"
        self._shopper = Shopper(random.Random(f"{seed}/shopper"), f"{self._loop.run_id}{name}")
        self._loop.shoppers.append(self._shopper)
        self._transport = Transport(self.client.client.clientpool.get_client(self.host))
        self._pool = Pool(self._loop.in_flight_max)
        self._prime()
        self._dial = self._loop.dial()
        self._arrivals = Arrivals(rate_per_s=self._dial.rate_per_s, mix=self._dial.mix, seed=seed)
        self._epoch_ns = self._wake_ns = time.monotonic_ns()
        self._next = next(self._arrivals)
        self._loop.followers.append(self._follow_dial)
        self._loop.primed.set()

    def on_stop(self) -> None:
        """Wait for the answers still due; what is left then is recorded as unknown."""
        if self._pool is not None:
            self._pool.join(timeout=STOP_TIMEOUT_S - 1.0)
            self._pool.kill()

    def wait_time(self) -> float:
        """Seconds until the next arrival is due, at most TICK_S: Locust calls this after each `dispatch`."""
        now_ns = time.monotonic_ns()
        wait_s = TICK_S if self._loop.closed else min(max(0.0, (self._due_ns - now_ns) / 1e9), TICK_S)
        self._wake_ns = now_ns + round(wait_s * 1e9)
        return wait_s

    @task  # type: ignore[untyped-decorator]  # as above
    def dispatch(self) -> None:
        """Start every arrival that is due, late ones included."""
        now_ns = time.monotonic_ns()
        if now_ns - self._wake_ns > STALL_S * 1e9:
            self._loop.recorder.add(Stall(source="generator", start_ns=self._wake_ns, end_ns=now_ns))
        for _ in range(BATCH):
            if self._loop.closed:
                return
            if self._due_ns > now_ns:
                self._follow_dial()
                return
            self._launch(self._next.operation, self._due_ns)
            self._next = next(self._arrivals)

    @property
    def _due_ns(self) -> int:
        return self._epoch_ns + self._next.offset_ns

    def _follow_dial(self) -> None:
        """Arrivals that are overdue keep their operation; all later ones follow the new rate and mix."""
        dial, now_ns = self._loop.dial(), time.monotonic_ns()
        if dial == self._dial or self._due_ns <= now_ns:
            return
        mix = dial.mix if dial.mix != self._dial.mix else None
        self._arrivals.change(at_ns=now_ns - self._epoch_ns, rate_per_s=dial.rate_per_s, mix=mix)
        self._next = next(self._arrivals)
        self._dial = dial

    def _launch(self, operation: str, intended_ns: int) -> None:
        self._loop.tally.offered += 1
        assert self._pool is not None  # on_start came first
        if self._pool.full():  # Pool.spawn would wait: that closes the loop
            self._unsent(operation, intended_ns, "pool full")
        else:
            self._loop.waiting.add((operation, intended_ns))
            self._pool.spawn(self._attend, operation, intended_ns)

    def _unsent(self, operation: str, intended_ns: int, reason: str) -> None:
        """The generator's own failure: Locust's user is to see it too."""
        self._loop.unsent(operation, intended_ns, reason)
        self._report(operation, "unsent", None, RequestFailed(f"unsent: {reason}"))

    def _attend(self, operation: str, intended_ns: int) -> None:
        try:
            self._perform(operation, intended_ns)
        finally:
            self._loop.waiting.discard((operation, intended_ns))

    def _perform(self, operation: str, intended_ns: int) -> None:
        request = self._shopper.next(operation)
        if isinstance(request, NotReady):
            self._loop.unsent(operation, intended_ns, request.reason)
            return
        started_ns = time.monotonic_ns()
        try:
            reply = self._transport.exchange(request)
        except NoSocket as error:
            self._shopper.take(request, Trouble(kind="unsent", definite=True))
            self._unsent(operation, intended_ns, str(error))
            return
        except gevent.GreenletExit:
            reply = Reply(Trouble(kind="generator stopped", definite=False), 1)
        self._conclude(request, reply, intended_ns=intended_ns, started_ns=started_ns)

    def _conclude(self, request: Request, reply: Reply, *, intended_ns: int, started_ns: int) -> None:
        ended_ns = time.monotonic_ns()
        result = self._judge(request, reply)
        invocation = Invocation(
            operation=request.operation,
            key=request.key,
            intended_ns=intended_ns,
            started_ns=started_ns,
            ended_ns=ended_ns,
            outcome=outcome_of(request, reply, result),
            degraded=result.degraded,
            status=result.status,
            subject=result.subject,
            error=f"{result.error}: {result.detail}" if result.detail else result.error,
        )
        self._loop.ended(invocation)
        ok = invocation.outcome is Outcome.OK
        why = None if ok else RequestFailed(f"{invocation.outcome}: {result.error} (status {result.status})")
        self._report(request.operation, request.method, invocation.latency_ms, why)

    def _report(self, operation: str, method: str, latency_ms: float | None, error: RequestFailed | None) -> None:
        """Tell Locust, whose figures then are the corrected ones. Without a latency only the failure counts."""
        self.environment.events.request.fire(
            request_type=method,
            name=operation,
            response_time=latency_ms,
            response_length=0,
            response=None,
            context={},
            exception=error,
            start_time=time.time() - (latency_ms or 0.0) / 1e3,
            url=self.host,
        )

    def _judge(self, request: Request, reply: Reply) -> Result:
        try:
            return self._shopper.take(request, reply.content)
        except Exception as error:  # the worker's border: an answer nobody foresaw must not cost the record
            self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
            return Result(outcome="unknown", error=f"client: {type(error).__name__}: {error}")

    def _prime(self) -> None:
        """Read what the shopper has to know before its first operation, retrying until the deadline."""
        deadline = time.monotonic() + self._loop.ready_within_s
        while requests := self._shopper.start():
            for request in requests:
                result = self._shopper.take(request, self._transport.exchange(request).content)
                if result.outcome == "ok":
                    continue
                if time.monotonic() > deadline:
                    self._give_up(f"{request.method} {self.host}{request.path}: {result.error}")
                gevent.sleep(PRIME_RETRY_S)

    def _give_up(self, last: str) -> None:
        self._loop.failure = (
            f"the shop did not answer its home document and catalogue within {self._loop.ready_within_s:g} s; "
            f"last try: {last}"
        )
        self._loop.primed.set()
        self.environment.events.user_error.fire(
            user_instance=self, exception=RequestFailed(self._loop.failure), tb=None
        )
        raise StopUser


def outcome_of(request: Request, reply: Reply, result: Result) -> Outcome:
    """The result's outcome, but a write that was sent twice and failed may have been applied by its first sending."""
    outcome = Outcome(result.outcome)
    if outcome is Outcome.FAIL and reply.sends > 1 and request.method != "GET":
        return Outcome.UNKNOWN
    return outcome
