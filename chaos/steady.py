"""Do all operations work as users know them? The steady state of the shop, operation by operation.

Each operation is tried until two answers in a row agree, so that one stall of the machine decides
nothing; every one of them is looked at, whatever the others do. What is seen of an operation is one of
the model's own words: unaffected (answered well, and done in time where users see that), degraded (a
fallback answered), delayed (accepted, but not done in time) or failing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from chaos import completion
from chaos.completion import Followed, Send
from stages.blast_radius import Effect, Prediction
from stages.model import Operation, Stage
from workloads.client import Answer, NotReady, Request, Result, Trouble

TRIES_MAX = 5
"""Per operation, orders for later apart; a machine that stalls in more than every other try is no place to measure."""

ORDERS = 4
"""So many are placed where that works: a later look, under a fault, needs some to track and to cancel."""

FIRST = ("place-order", "browse", "register", "insights", "track-order", "cancel-order")
"""Orders come first: the others need one to track and to cancel."""


class Client(Protocol):
    """What is used of `workloads.client.Shopper`."""

    def start(self) -> list[Request]: ...

    def next(self, operation: str) -> Request | NotReady: ...

    def take(self, request: Request, answer: Answer | Trouble) -> Result: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One request and what came of it."""

    request: Request
    result: Result
    started_ns: int
    ended_ns: int
    followed: Followed | None = None
    """What became of it, if that was asked."""

    def effect(self, slo_ms: int) -> Effect:
        """What its user noticed."""
        if self.result.outcome != "ok" or (self.ended_ns - self.started_ns) / 1e6 > slo_ms:
            return Effect.FAILING
        answered = Effect.DEGRADED if self.result.degraded else Effect.UNAFFECTED
        return max(answered, self.followed.effect) if self.followed else answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Looker:
    """How one looks: who asks, over which way, and who is told."""

    client: Client
    send: Send
    tried: Callable[[Try], None] = lambda _: None
    """Told of each request that may have an effect, to write it down."""
    meanwhile: Callable[[], None] = lambda: None
    """Called every now and then, to keep a lease alive."""


def look(
    stage: Stage, looker: Looker, *, skip: frozenset[str] = frozenset(), unfollowed: frozenset[str] = frozenset()
) -> dict[str, dict[str, Any]]:
    """Every operation of the stage but those in `skip`, as JSON: effect (None if it could not be tried) and figures.

    Of those in `unfollowed` only the answer is looked at, not whether it is done in time.
    """
    if trouble := _begin(looker.client, looker.send):
        return {o.name: {"effect": str(Effect.FAILING), "tries": 1, "error": trouble} for o in stage.operations}
    order = sorted((o for o in stage.operations if o.name not in skip), key=lambda o: FIRST.index(o.name))
    return {o.name: _look_at(o, looker, None if o.name in unfollowed else completion.within_ms(o)) for o in order}


def try_once(looker: Looker, operation: str, follow_ms: float | None = None) -> Try:
    """One request of an operation that can always be asked for, followed for `follow_ms` if that is given.

    Raises RuntimeError if the shop cannot be entered.
    """
    if trouble := _begin(looker.client, looker.send):
        raise RuntimeError(trouble)
    request = looker.client.next(operation)
    if isinstance(request, NotReady):
        raise RuntimeError(f"{operation}: {request.reason}")
    return _try(request, looker, follow_ms)


def not_steady(stage: Stage, seen: Mapping[str, Mapping[str, Any]], allowed: Mapping[str, Prediction]) -> list[str]:
    """Every operation that is worse than allowed (unaffected, if `allowed` does not name it), as sentences."""
    findings = []
    for operation in stage.operations:
        look_at = seen.get(operation.name, {})
        prediction = allowed.get(operation.name)
        limit = prediction.effect if prediction else Effect.UNAFFECTED
        if look_at.get("effect") is None or Effect(look_at["effect"]) <= limit:
            continue
        said = ", ".join(f"{k}={v}" for k, v in look_at.items() if k != "effect")
        findings.append(f"{operation.name} is {look_at['effect']}, at most {limit} was expected ({said})")
    return findings


def _begin(client: Client, send: Send) -> str:
    """Read what the client needs to know first; '' or why that did not work."""
    for _ in range(2 * TRIES_MAX):
        requests = client.start()
        if not requests:
            return ""
        results = [client.take(request, send(request)) for request in requests]
        trouble = "; ".join(f"{r.error}" for r in results if r.outcome != "ok")
    return f"the home document and the catalogue cannot be read: {trouble}"


def _look_at(operation: Operation, looker: Looker, within_ms: int | None) -> dict[str, Any]:
    slo_ms = operation.latency_slo_ms
    tries: list[Try] = []
    wanted = ORDERS if operation.name == "place-order" else 2
    while len(tries) < wanted + TRIES_MAX - 2 and not _agree(tries, slo_ms, wanted):
        request = looker.client.next(operation.name)
        if isinstance(request, NotReady):
            if tries:
                break
            return {"effect": None, "tries": 0, "error": request.reason}
        # Only the last ones are followed: each may take as long as its completion is allowed to.
        follow_ms = within_ms if len(tries) >= wanted - 2 else None
        tries.append(_try(request, looker, follow_ms))
        looker.meanwhile()
    return _summed_up(tries, slo_ms)


def _try(request: Request, looker: Looker, follow_ms: float | None) -> Try:
    started_ns = time.monotonic_ns()
    answer = looker.send(request)
    ended_ns = time.monotonic_ns()
    result = looker.client.take(request, answer)
    one = Try(request=request, result=result, started_ns=started_ns, ended_ns=ended_ns)
    looker.tried(one)
    if follow_ms is None or result.outcome != "ok" or not isinstance(answer, Answer):
        return one
    followed = completion.follow(
        request.operation, answer, looker.send, started_ns=started_ns, limit_ms=follow_ms, meanwhile=looker.meanwhile
    )
    return replace(one, followed=followed)


def _agree(tries: list[Try], slo_ms: int, wanted: int) -> bool:
    return len(tries) >= wanted and tries[-1].effect(slo_ms) is tries[-2].effect(slo_ms) is not Effect.FAILING


def _summed_up(tries: list[Try], slo_ms: int) -> dict[str, Any]:
    """The better of the last two, or the only one: failing needs two in a row as well."""
    effect = min((one.effect(slo_ms) for one in tries[-2:]), key=lambda e: e.rank)
    errors = sorted({f"{one.result.error}" for one in tries if one.result.error})
    summary = {
        "effect": str(effect),
        "tries": len(tries),
        "slowest_ms": round(max((one.ended_ns - one.started_ns) / 1e6 for one in tries), 1),
        "error": ", ".join(errors) or None,
    }
    followed = [one.followed for one in tries if one.followed]
    if followed:
        summary["state"] = followed[-1].state
        summary["done_ms"] = round(max(one.after_ms for one in followed), 1)
    return summary
