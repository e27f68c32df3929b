"""What does a user of the shop do next? A client without I/O: it decides and learns, somebody else sends.

A Shopper is given an answer for every request it makes and follows links and templates only: the one
URL it knows is "/". Load generators, steady-state probes and tests share it, each with its own transport.

    shopper = Shopper(random.Random(7), "run-1")
    while requests := shopper.start():            # first the home document, then the catalogue
        for request in requests:
            shopper.take(request, send(request))
    request = shopper.next("place-order")         # Request, or NotReady: nothing to cancel yet
    result = shopper.take(request, send(request)) # Result(outcome="ok", subject="o-...", ...)

It makes no difference to it whether the shop answers once all is done (201, 200) or accepts and completes later (202):
an order that offers a cancel form can be cancelled, and one that has come to nothing meanwhile is forgotten.

Requests may be in flight side by side; `start`, `next` and `take` never wait. Not safe for threads.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

OPERATIONS = ("browse", "register", "place-order", "track-order", "cancel-order", "insights")
"""What `Shopper.next` accepts."""

HAL_FORMS = "application/prs.hal-forms+json"
DETAIL_MAX = 160
"""Of a problem's detail, characters: histories hold thousands of them."""

KNOWN_ORDERS_MAX = 2000
"""Orders remembered for tracking; the oldest are forgotten first, so that memory stays bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send to the shop's edge."""

    operation: str
    """One of OPERATIONS, or 'home' / 'catalogue' for what `start` returned."""
    method: str
    path: str
    """Relative to the edge, begins with '/'."""
    headers: Mapping[str, str]
    body: bytes | None
    key: str
    """Unique per request, '<run id>-<n>'; an operation that writes carries it as Idempotency-Key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """No answer came back."""

    kind: str
    """'refused', 'timeout', 'broken' or another short word."""
    definite: bool
    """Whether the request surely had no effect: True only if no byte of it can have been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one request came to."""

    outcome: str
    """'ok', 'fail' (surely not applied) or 'unknown'."""
    degraded: bool = False
    """The answer came from a fallback."""
    subject: str | None = None
    """Id of the order or account it is about, where known."""
    status: int | None = None
    """HTTP status; None without an answer."""
    error: str | None = None
    """A problem type's last word such as 'out-of-stock', or the trouble's kind; None when ok."""
    detail: str | None = None
    """What the problem says beyond its type, at most DETAIL_MAX characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReady:
    """The operation cannot be asked for yet."""

    reason: str


@dataclass(slots=True)
class _Order:
    """An order the shopper placed: how to follow it, and how to cancel it."""

    id: str
    href: str
    cancel: Mapping[str, Any] | None


@dataclass(slots=True)
class _Pools:
    """Orders that offered a cancel form, by what can still be done with them."""

    fresh: deque[_Order] = field(default_factory=deque)
    tried: deque[_Order] = field(default_factory=deque)
    """A cancellation was asked for and its outcome is unknown; it may have completed meanwhile."""
    known: deque[_Order] = field(default_factory=lambda: deque(maxlen=KNOWN_ORDERS_MAX))


class Shopper:
    """A population of users with one memory: the home document, the catalogue and the orders placed so far."""

    def __init__(self, rng: random.Random, run_id: str) -> None:
        """Every choice comes from `rng`; keys begin with `run_id`, so they never meet those of another run."""
        self._rng = rng
        self._run_id = run_id
        self._count = 0
        self._home: Mapping[str, Any] | None = None
        self._order_form: Mapping[str, Any] | None = None
        self._products: list[str] = []
        self._pools = _Pools()
        self._cancelling: dict[str, _Order] = {}
        self._asking: dict[str, Callable[[], Request | NotReady]] = {
            "browse": lambda: self._follow("browse", "products"),
            "register": self._register,
            "place-order": self._place_order,
            "track-order": self._track_order,
            "cancel-order": self._cancel_order,
            "insights": lambda: self._follow("insights", "insights"),
        }

    @property
    def cancellable(self) -> int:
        """Orders, confirmed or accepted for later, that nobody has tried to cancel yet."""
        return len(self._pools.fresh)

    def start(self) -> list[Request]:
        """What must be answered next before `next` works; [] once ready. Ask again after each `take`."""
        if self._home is None:
            return [self._get("home", "/")]
        if self._order_form is None:
            return [self._get("catalogue", self._home["_links"]["products"]["href"])]
        return []

    def next(self, operation: str) -> Request | NotReady:
        """The next request of an operation. Raise KeyError for a word that is not in OPERATIONS."""
        ask = self._asking[operation]
        if self._order_form is None:
            return NotReady(reason="the home document and the catalogue have not been read yet")
        return ask()

    def take(self, request: Request, answer: Answer | Trouble) -> Result:
        """Learn from what came back, and say what it means. To be called exactly once per request."""
        result = _result(request, answer)
        if request.operation == "cancel-order":
            return self._cancelled(request, result)
        if result.outcome == "ok" and isinstance(answer, Answer):
            result = self._learn(request, answer, result)
        return result

    def _learn(self, request: Request, answer: Answer, result: Result) -> Result:
        if request.operation not in {"home", "catalogue", "place-order", "register"}:
            return result
        try:
            document = json.loads(answer.body)
            if request.operation == "home":
                self._home = {"_links": document["_links"], "register": document["_templates"]["register"]}
            elif request.operation == "catalogue":
                self._products = [product["id"] for product in document["_embedded"]["products"]]
                self._order_form = document["_templates"]["order"]
            elif request.operation == "place-order":
                self._placed(document)
            return Result(
                outcome="ok", degraded=result.degraded, subject=document.get("id"), status=answer.status, error=None
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return Result(outcome="unknown", status=answer.status, error="unreadable-answer")

    def _placed(self, document: Mapping[str, Any]) -> None:
        cancel = document.get("_templates", {}).get("cancel")
        order = _Order(document["id"], document["_links"]["self"]["href"], cancel)
        self._pools.known.append(order)
        if cancel is not None:
            self._pools.fresh.append(order)

    def _cancelled(self, request: Request, result: Result) -> Result:
        order = self._cancelling.pop(request.key)
        if result.outcome == "unknown":
            self._pools.tried.append(order)
        elif result.outcome == "fail" and result.status not in {404, 409, 410}:
            self._pools.fresh.append(order)  # surely not applied, so it is as good as new
        return replace(result, subject=order.id)

    def _register(self) -> Request | NotReady:
        assert self._home is not None  # next() asks only when ready
        number = self._rng.randrange(10**9)
        values = {"name": f"User {number}", "email": f"user{number}@shop.example"}
        return self._submit("register", self._home["register"], values)

    def _place_order(self) -> Request | NotReady:
        assert self._order_form is not None
        if not self._products:
            return NotReady(reason="the catalogue is empty")
        values = {
            "product": self._rng.choice(self._products),
            "quantity": self._rng.randint(1, 3),
            "email": f"user{self._rng.randrange(10**9)}@shop.example",
        }
        return self._submit("place-order", self._order_form, values)

    def _track_order(self) -> Request | NotReady:
        if not self._pools.known:
            return NotReady(reason="no order to track")
        return self._get("track-order", self._rng.choice(self._pools.known).href)

    def _cancel_order(self) -> Request | NotReady:
        pools = self._pools
        if not pools.fresh and not pools.tried:
            return NotReady(reason="no order to cancel")
        # the one tried last is the least likely to have completed meanwhile, and the most telling to try again
        order = pools.fresh.popleft() if pools.fresh else pools.tried.pop()
        assert order.cancel is not None  # only orders that can be cancelled enter a pool
        request = self._submit("cancel-order", order.cancel, {})
        self._cancelling[request.key] = order
        return request

    def _follow(self, operation: str, relation: str) -> Request | NotReady:
        assert self._home is not None
        return self._get(operation, self._home["_links"][relation]["href"])

    def _get(self, operation: str, path: str) -> Request:
        return Request(
            operation=operation, method="GET", path=path, headers={"Accept": HAL_FORMS}, body=None, key=self._key()
        )

    def _submit(self, operation: str, template: Mapping[str, Any], values: Mapping[str, object]) -> Request:
        """Fill in a HAL-FORMS template: only the properties it asks for are sent."""
        key = self._key()
        asked = {p["name"]: values[p["name"]] for p in template.get("properties", ()) if p["name"] in values}
        return Request(
            operation=operation,
            method=template["method"],
            path=template["target"],
            headers={"Accept": HAL_FORMS, "Content-Type": "application/json", "Idempotency-Key": key},
            body=json.dumps(asked, separators=(",", ":")).encode(),
            key=key,
        )

    def _key(self) -> str:
        self._count += 1
        return f"{self._run_id}-{self._count}"


def _result(request: Request, answer: Answer | Trouble) -> Result:
    if isinstance(answer, Trouble):
        return Result(outcome="fail" if answer.definite else "unknown", error=answer.kind)
    if 200 <= answer.status < 300:
        # RFC 7234, 5.5: warning 110 marks an answer that its giver knows to be stale
        return Result(outcome="ok", degraded=answer.headers.get("warning", "").startswith("110"), status=answer.status)
    problem = _problem(answer)
    definite = problem.get("definite", 400 <= answer.status < 500)
    return Result(
        outcome="fail" if definite is True else "unknown",
        subject=problem.get("subject"),
        status=answer.status,
        error=str(problem.get("type", f"status-{answer.status}")).rpartition(":")[2],
        detail=str(problem.get("detail", ""))[:DETAIL_MAX] or None,
    )


def _problem(answer: Answer) -> Mapping[str, Any]:
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
