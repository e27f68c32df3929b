"""How does the SDK speak plain HTTP with little work? A session of its own kind, for endpoints without TLS and proxy.

The SDK takes any class of this shape (`AioConfig(http_session_cls=...)`). A broker's calls are small POSTs to one
address, answered whole: that needs no more than a socket, a parser and a pool, at a third of what a general
HTTP client costs per call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
from aiobotocore.awsrequest import AioAWSResponse
from botocore.httpsession import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

ANSWER_MAX = 16 * 1024 * 1024
"""Bytes of an answer; ten messages are a quarter of a megabyte."""


class _Answer:
    """What came back, in the shape that the SDK reads."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def read(self) -> bytes:
        return self.body


class _Connection(asyncio.Protocol):
    """One socket: one exchange at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.reusable = True
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer = _Answer()
        self._size = 0
        self._waiter: asyncio.Future[_Answer] | None = None

    async def exchange(self, request: bytes) -> _Answer:
        """Send and wait for the whole answer. Raise ConnectionError if the other side closes before that."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("closed while idle")
        self._answer, self._size = _Answer(), 0
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # --- called by the loop -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # a stream's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError(str(exc or "closed by the other side")))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # --- called by the parser ---------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > ANSWER_MAX:
            self._fail(ConnectionError(f"an answer of more than {ANSWER_MAX} bytes"))
        self._answer.body += body

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self.reusable = self.reusable and self._parser.should_keep_alive()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)


class PlainSession:
    """Connections to one http:// endpoint."""

    def __init__(self, *, timeout: tuple[float, float], connector_args: Mapping[str, Any], **_: object) -> None:
        """What the SDK says of proxies, certificates and sockets does not apply. Timeouts in seconds."""
        self._connect_timeout_s, self._read_timeout_s = timeout
        self._keep_alive_s = float(connector_args["keepalive_timeout"])
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._address: tuple[str, int] | None = None
        self._target = b""

    async def __aenter__(self) -> PlainSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()

    async def send(self, request: Any) -> AioAWSResponse:
        """One exchange. Raise what the SDK's retries understand."""
        connection = await self._connected(request.url)
        self._busy.add(connection)
        answer: _Answer | None = None
        try:
            async with asyncio.timeout(self._read_timeout_s):
                answer = await connection.exchange(_written(request, self._target))
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except ConnectionError as error:
            raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        finally:
            self._busy.discard(connection)
            if answer is None or not connection.reusable:
                connection.close()
        if connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        return AioAWSResponse(request.url, answer.status, answer.headers, answer)

    async def _connected(self, url: str) -> _Connection:
        """A connection that was used lately, or a new one."""
        oldest = asyncio.get_running_loop().time() - self._keep_alive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        if self._address is None:
            parts = urlsplit(url)
            self._address = (parts.hostname or "", parts.port or 80)
            self._target = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, made = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=url, error=error) from error
        return made


def _written(request: Any, target: bytes) -> bytes:
    """A request as bytes. Its headers are the SDK's and ours: none is made of what a user wrote."""
    body = request.body
    body = body.encode() if isinstance(body, str) else body or b""
    headers = [
        b"%s: %s\r\n" % (name.encode(), value if isinstance(value, bytes) else str(value).encode())
        for name, value in request.headers.items()
        if name.lower() != "content-length"
    ]
    return b"".join([target, *headers, b"Content-Length: %d\r\n\r\n" % len(body), body])
