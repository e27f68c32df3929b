"""What does every service do with an HTTP request before and after its own code? One shell around one framework app.

    uvicorn -> Shell: body limit, JSON check, bulkhead, deadline, span, metrics, draining -> FastAPI app -> endpoint

The shell is a single ASGI callable, because each layer of middleware costs every request. Probes pass it
by: a service that is full, or whose database is locked, still says that it lives.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workloads import deadline, problems
from workloads.adapters.rest import DEADLINE_HEADER
from workloads.defect import Defect
from workloads.ports import CallFailed, CallRefused
from workloads.problems import ProblemError
from workloads.telemetry import CARRIED, Telemetry

log = structlog.get_logger()

PROBES = frozenset({"/live", "/ready", "/metrics", "/audit", "/backlog", "/openapi.json"})
BODY_MAX_BYTES = 16 * 1024
"""Every message of the shop is far smaller; the largest, the catalogue on its way to the cache, has 2 KB."""
DEADLINE_MAX_MS = 60_000
_DEADLINE = DEADLINE_HEADER.lower().encode()
_CLOSE = (b"connection", b"close")


def answer(
    document: Any, status: int = 200, *, media_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON response; the document is final, so no model looks at it again."""
    return Response(
        json.dumps(document, separators=(",", ":"), allow_nan=False).encode(),
        status_code=status,
        media_type=media_type,
        headers=headers,
    )


def refusal(problem: ProblemError, headers: Mapping[str, str] | None = None) -> Response:
    """The problem document of an error, with its status."""
    document = problem.document()
    if document["status"] == 503:
        headers = {**(headers or {}), "Retry-After": "1"}
    return answer(document, document["status"], media_type=problems.MEDIA_TYPE, headers=headers)


def new_app(title: str) -> FastAPI:
    """An app that answers every error with a problem document."""
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_RESPONSES,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # the shell does it, once per request
    )
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(CallRefused, _on_refused)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)
    return app


_RESPONSES: dict[int | str, dict[str, Any]] = {
    422: {
        "description": "Refused; like every 4xx and 5xx a problem document (RFC 9457)",
        "content": {
            problems.MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "definite"],
                    "properties": {
                        "type": {"type": "string", "enum": sorted(kind.urn for kind in problems.TYPES.values())},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "definite": {"type": "boolean", "description": "Surely nothing was or will be applied."},
                    },
                }
            }
        },
    }
}


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return refusal(_passed_on(error) if isinstance(error, CallFailed) else error)


def _passed_on(error: CallFailed) -> ProblemError:
    """What the callee said, where it said it and nothing of an earlier attempt contradicts it."""
    said = error.problem
    if said is None or said.kind.status != 503 or said.kind.definite != error.definite:
        return error
    return said


async def _on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CallRefused)
    return refusal(error.problem)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{"where": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors()]
    found = "; ".join(f"{e['where']}: {e['what']}" for e in errors)
    if any(e["where"] == "header.Idempotency-Key" for e in errors):
        return refusal(ProblemError(problems.KEY_REQUIRED, found))
    return refusal(ProblemError(problems.INVALID, found, errors=errors))


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: problems.NOT_FOUND, 405: problems.METHOD_NOT_ALLOWED}.get(error.status_code, problems.HTTP_REFUSED)
    return refusal(ProblemError(kind, str(error.detail), status=error.status_code), error.headers)


async def _on_defect(_request: Request, error: Exception) -> Response:
    return refusal(ProblemError(problems.INTERNAL, type(error).__name__))


class Shell:
    """The ASGI application that the server runs."""

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        *,
        max_in_flight: int,
        deadlines: bool = True,
        default_deadline_s: float | None = None,
        defect: Defect | None = None,
    ) -> None:
        """`deadlines`: whether callers' deadlines are heeded; `default_deadline_s` holds for callers that name none.

        `defect`: what is wrong with this version on purpose, None for nothing.
        """
        self._app = app
        self._telemetry = telemetry
        self._max_in_flight = max_in_flight
        self._deadlines = deadlines
        self._default_deadline_s = default_deadline_s if deadlines else None
        self._defect = defect or Defect("", random.Random())
        self._version = (b"x-version", telemetry.version.encode())
        self._in_hand: dict[object, float] = {}
        """When each request that is being worked on began, oldest first."""
        self.draining = False
        """While True every answer asks the client to close its connection and go elsewhere."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that goes wrong in it reaches the server."""
        if scope["type"] != "http":
            return
        if self.draining:
            send = _closing(send)
        if scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), self._version]}
            await send(message)

        carrier = {name: headers.get(name.encode(), b"").decode("latin-1") for name in CARRIED}
        with self._telemetry.serving(scope["method"], carrier) as span:
            try:
                await self._admit(scope, receive, watched, headers)
            except ProblemError as problem:
                await refusal(problem)(scope, receive, watched)
            except Exception:
                log.exception("request-crashed", method=scope["method"], path=scope["path"])
                if not status:
                    await refusal(ProblemError(problems.INTERNAL, "see the log"))(scope, receive, watched)
            route = getattr(scope.get("route"), "path", "unmatched")
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.response.status_code", status)
        self._telemetry.answered(scope["method"], route, status, time.perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]) -> None:
        until_s = self._deadline_s(headers)
        body = await _read(receive, headers)
        if body and scope["method"] in {"POST", "PUT", "PATCH"}:
            _check_json(body, headers)
        if len(self._in_hand) >= self._max_in_flight:
            raise ProblemError(problems.OVERLOADED, self._burden())
        request = object()
        self._in_hand[request] = time.perf_counter()
        self._telemetry.in_flight.set(len(self._in_hand))
        try:
            with deadline.within(until_s):
                await self._defect.strike()
                await self._app(scope, _replay(body, receive), send)
        finally:
            del self._in_hand[request]
            self._telemetry.in_flight.set(len(self._in_hand))

    def _burden(self) -> str:
        """What keeps this service busy: requests that are stuck show by their age."""
        oldest_s = time.perf_counter() - next(iter(self._in_hand.values()))
        return f"{self._telemetry.service} has {len(self._in_hand)} requests in hand, the oldest for {oldest_s:.1f} s"

    def _deadline_s(self, headers: Mapping[bytes, bytes]) -> float | None:
        value = headers.get(_DEADLINE)
        if value is None or not self._deadlines:
            return self._default_deadline_s
        if not value.isdigit() or len(value) > 9:
            raise ProblemError(problems.MALFORMED, f"{DEADLINE_HEADER} is {value!r}, not a number of milliseconds")
        return min(int(value), DEADLINE_MAX_MS) / 1000


async def _read(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body. Raise ProblemError(TOO_LARGE) as soon as it is known to be too large."""
    length = headers.get(b"content-length", b"0")
    if int(length) > BODY_MAX_BYTES:  # the HTTP parser has made sure that it is a number
        raise ProblemError(problems.TOO_LARGE, f"{int(length)} bytes announced, {BODY_MAX_BYTES} allowed")
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(problems.MALFORMED, "the client went away before the end of the body")
        body += bytes(message.get("body", b""))
        if len(body) > BODY_MAX_BYTES:
            raise ProblemError(problems.TOO_LARGE, f"more than the {BODY_MAX_BYTES} bytes allowed")
        if not message.get("more_body"):
            return body


def _check_json(body: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Raise ProblemError unless the body is JSON by RFC 8259, in UTF-8, and says so."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise ProblemError(problems.UNSUPPORTED_MEDIA_TYPE, f"Content-Type is {media_type.decode('latin-1')!r}")
    try:
        json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ProblemError(problems.MALFORMED, f"the body is not JSON: {str(error)[:200]}") from error


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that has been read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await send(message)

    return closing
