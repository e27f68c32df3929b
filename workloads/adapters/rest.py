"""How does a message travel over REST? One HTTP request per attempt, through the guard of its callee."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
from opentelemetry.trace import SpanKind
from yarl import URL

from workloads import problems
from workloads.adapters.routes import RECEIVERS, ROUTES, Route, body_of, path_of
from workloads.messages import Message
from workloads.ports import CallFailed, CallRefused
from workloads.resilience import TIMEOUT, AttemptFailed, Guard
from workloads.settings import Peer
from workloads.telemetry import Telemetry

DEADLINE_HEADER = "Deadline-Ms"
"""Milliseconds the caller will still wait when it sends the request."""
KEEP_ALIVE_S = 15.0
"""Shorter than the server's: it is the client who closes an idle connection, so no request meets a closing one."""
COUNTED = frozenset({500, 502, 504})
"""Answers that a breaker takes as the callee's own failure. A 503 says that the callee lives."""
WORTH_A_RETRY = frozenset({500, 502, 503, 504})
NOT_WORTH_A_RETRY = frozenset({problems.DEPENDENCY_UNAVAILABLE.name, problems.COMPLETION_PENDING.name})
"""The callee has already tried for itself."""


class RestCaller:
    """The Caller port over HTTP. `open` in the loop that uses it, `close` at the end."""

    def __init__(
        self, peers: Mapping[str, Peer], guards: Mapping[str, Guard], telemetry: Telemetry, *, deadlines: bool = True
    ) -> None:
        """A peer and a guard per callee. `deadlines`: whether callees are told how long the caller waits."""
        self._peers = peers
        self._guards = guards
        self._telemetry = telemetry
        self._deadlines = deadlines
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the connection pool; connects to nobody yet."""
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_sent)
        trace.on_connection_reuseconn.append(_mark_reused)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        if self._session is not None:
            await self._session.close()

    async def call(self, message: Message) -> dict[str, Any]:
        """See ports.Caller."""
        return await self.send(RECEIVERS[type(message)], message)

    async def send(self, callee: str, message: Message) -> dict[str, Any]:
        """Deliver to one named receiver; otherwise as `call`."""
        if callee not in self._peers:
            raise CallFailed(callee, "not among the peers of this service (SHOP_PEERS)", definite=True)
        route = ROUTES[type(message)]
        key = getattr(message, "key", None)
        body = body_of(message)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        url = URL(self._peers[callee].url + path_of(message), encoded=True)

        async def attempt(limit_s: float | None) -> dict[str, Any]:
            return await self._attempt(callee, route, url, headers, data, limit_s)

        return await self._guards[callee].run(attempt, repeatable=route.method != "POST" or key is not None)

    async def _attempt(
        self, callee: str, route: Route, url: URL, headers: Mapping[str, str], data: bytes | None, limit_s: float | None
    ) -> dict[str, Any]:
        with self._telemetry.span(f"{route.method} {route.path}", SpanKind.CLIENT, {"peer.service": callee}) as span:
            sent = dict(headers)
            self._telemetry.inject(sent)
            if limit_s is not None and self._deadlines:
                sent[DEADLINE_HEADER] = str(max(1, int(limit_s * 1000)))
            try:
                status, answer = await self._exchange(route, url, sent, data, limit_s)
                span.set_attribute("http.response.status_code", status)
                found = _understood(callee, route, status, answer)
            except AttemptFailed as failure:
                span.set_attribute("error.type", failure.reason)
                self._telemetry.called(callee, failure.reason)
                raise
            except CallRefused:
                self._telemetry.called(callee, "refused")
                raise
            self._telemetry.called(callee, "ok")
            return found

    async def _exchange(
        self, route: Route, url: URL, headers: Mapping[str, str], data: bytes | None, limit_s: float | None
    ) -> tuple[int, bytes]:
        """One request, and another one right away if a kept-alive connection turned out to be closed."""
        assert self._session is not None, "open() was not called"
        progress = SimpleNamespace(sent=False, reused=False)
        timeout = aiohttp.ClientTimeout(total=limit_s)

        def failed(word: str) -> AttemptFailed:
            return AttemptFailed(word, definite=route.reads or not progress.sent, counts=True)

        for last in (False, True):
            try:
                async with self._session.request(
                    route.method, url, data=data, headers=headers, timeout=timeout, trace_request_ctx=progress
                ) as response:
                    return response.status, await response.read()
            except TimeoutError:
                raise failed(TIMEOUT) from None
            except aiohttp.ServerDisconnectedError as error:
                # RFC 9112, 9.3.1: a client may repeat an idempotent request on a closed persistent connection
                if last or not progress.reused:
                    raise failed(_word(error)) from error
            except (aiohttp.ClientError, OSError) as error:
                raise failed(_word(error)) from error
            progress.reused = False
        raise AssertionError("the second round returns or raises")


def _understood(callee: str, route: Route, status: int, answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer) if answer else {}
    except ValueError:
        raise AttemptFailed(f"status-{status}-unreadable", definite=route.reads, counts=True) from None
    if status < 300:
        found: dict[str, Any] = document
        return found
    problem = problems.parse(document, status)
    if status < 500:
        raise CallRefused(callee, problem, definite=problem.kind.definite)
    definite = route.reads or (problems.is_one(document) and document.get("definite") is True)
    raise AttemptFailed(
        f"status-{status}:{problem.kind.name}",
        definite=definite,
        counts=status in COUNTED,
        again=status in WORTH_A_RETRY and problem.kind.name not in NOT_WORTH_A_RETRY,
        problem=problem,
    )


async def _mark_sent(_session: Any, context: Any, _params: Any) -> None:
    context.trace_request_ctx.sent = True


async def _mark_reused(_session: Any, context: Any, _params: Any) -> None:
    context.trace_request_ctx.reused = True


def _word(error: BaseException) -> str:
    refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)
    return "refused" if refused else "broken"
