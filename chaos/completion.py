"""Is what was accepted also done? An answered order is followed by its own link until its state says so.

Users see two of the completions that a stage promises, in the order itself: 'order-completed' and 'order-cancelled'.
A stage that answers only once all is done is no exception: its first document already says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.blast_radius import Effect
from stages.model import Operation
from workloads.client import HAL_FORMS, Answer, Request, Trouble

POLL_S = 0.05
"""Between two looks at an order."""

Send = Callable[[Request], Answer | Trouble]
"""Sends one request to the edge and waits for what comes back; never raises what a network does."""

_DONE = {"place-order": ("order-completed", "confirmed"), "cancel-order": ("order-cancelled", "cancelled")}
"""Operation -> its completion and the state that shows it."""

_ENDED = {"place-order": {"rejected", "cancelled"}, "cancel-order": {"rejected"}}
"""States from which it will not come to that any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What became of one accepted request."""

    state: str
    """Of the order, as last seen; '' if it was never seen."""
    after_ms: float
    """From the request's start to the look that saw this state."""
    effect: Effect
    """Unaffected (done in time), delayed (not yet) or failing (it never will be)."""


def within_ms(operation: Operation) -> int | None:
    """How soon users are to see it done; None for an operation whose completion they do not see."""
    name, _ = _DONE.get(operation.name, ("", ""))
    return next((c.within_ms for c in operation.completions if c.name == name), None)


def follow(
    operation: str,
    answer: Answer,
    send: Send,
    *,
    started_ns: int,
    limit_ms: float,
    meanwhile: Callable[[], None] = lambda: None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Followed:
    """Look at an accepted order again and again, until it is done or `limit_ms` after `started_ns`.

    Looking changes nothing. `meanwhile` is called at each look, to keep a lease alive.
    """
    wanted, ended = _DONE[operation][1], _ENDED[operation]
    document, state = _read(answer), ""
    look = Request(
        operation="track-order", method="GET", path=_href(document), headers={"Accept": HAL_FORMS}, body=None, key=""
    )
    while True:
        state = str(document.get("state", state))
        after_ms = (clock_ns() - started_ns) / 1e6
        if state == wanted and after_ms <= limit_ms:
            return Followed(state=state, after_ms=after_ms, effect=Effect.UNAFFECTED)
        if state in ended:
            return Followed(state=state, after_ms=after_ms, effect=Effect.FAILING)
        if after_ms > limit_ms:
            return Followed(state=state, after_ms=after_ms, effect=Effect.DELAYED)
        meanwhile()
        sleep(POLL_S)
        document = _read(send(look))


def _read(answer: Answer | Trouble) -> Mapping[str, Any]:
    """The document of a good answer; an empty one for anything else, which says nothing about the order."""
    if isinstance(answer, Trouble) or not 200 <= answer.status < 300:
        return {}
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _href(document: Mapping[str, Any]) -> str:
    links = document.get("_links") or {}
    return str((links.get("self") or {}).get("href") or "/")
