"""The SDK's plain HTTP session, against servers that answer in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from workloads.broker.plain_http import PlainSession

KEEP_ALIVE_S = 0.2
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[tuple[PlainSession, str]]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"timeout": (0.5, 0.5), "connector_args": {"keepalive_timeout": KEEP_ALIVE_S}, "proxies": None}
    async with PlainSession(**options) as session:  # type: ignore[arg-type]
        yield session, f"http://127.0.0.1:{port}/"
    server.close()


def request(url: str, body: bytes = b"{}") -> Any:
    return AWSRequest("POST", url, {"X-Amz-Target": "T", "Content-Length": "99"}, body).prepare()


async def asked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(
        next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    )
    return head, await reader.readexactly(length)


def always(answer: bytes, seen: list[Any] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if seen is not None:
            seen.append("connected")
        while True:
            found = await asked(reader)
            if seen is not None:
                seen.append(found)
            writer.write(answer)

    return serve


OK = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    "answer",
    [OK, b"HTTP/1.1 200 OK\r\ncontent-TYPE: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"],
)
async def test_an_answer_is_read_whole(answer: bytes) -> None:
    async with served(always(answer)) as (session, url):
        found = await session.send(request(url))
        assert (found.status_code, await found.content, found.headers["content-type"]) == (200, b"hello", "x")


async def test_a_request_says_where_and_how_long_it_is() -> None:
    seen: list[Any] = []
    async with served(always(OK, seen)) as (session, url):
        await session.send(request(url, "ä".encode()))
        head, body = seen[1]
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST / HTTP/1.1"
        assert f"Host: {url.removeprefix('http://').rstrip('/')}".encode() in lines
        assert [line for line in lines if line.lower().startswith(b"content-length")] == [b"Content-Length: 2"]
        assert body == "ä".encode()


async def test_a_connection_is_used_again_while_it_is_fresh() -> None:
    seen: list[Any] = []
    async with served(always(OK, seen)) as (session, url):
        for _ in range(3):
            await session.send(request(url))
        assert seen.count("connected") == 1
        await asyncio.sleep(KEEP_ALIVE_S * 1.5)
        await session.send(request(url))
        assert seen.count("connected") == 2


async def test_calls_at_once_have_connections_of_their_own() -> None:
    seen: list[Any] = []
    async with served(always(OK, seen)) as (session, url):
        await asyncio.gather(*(session.send(request(url)) for _ in range(5)))
        assert seen.count("connected") == 5


async def test_a_connection_closed_by_the_answer_is_not_used_again() -> None:
    answer = OK.replace(b"Content-Type: x", b"Connection: close")
    seen: list[Any] = []
    async with served(always(answer, seen)) as (session, url):
        for _ in range(2):
            assert (await session.send(request(url))).status_code == 200
        assert seen.count("connected") == 2


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)

    async with served(once) as (session, url):
        for _ in range(3):
            assert (await session.send(request(url))).status_code == 200
            await asyncio.sleep(0.02)  # the loop reads that it was closed


async def test_an_error_of_the_broker_is_an_answer() -> None:
    async with served(always(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}")) as (session, url):
        found = await session.send(request(url))
        assert (found.status_code, await found.content) == (400, b"{}")


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", b"SSH-2.0-no\r\n\r\n"])
async def test_a_broken_answer_is_a_closed_connection(part: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(part)

    async with served(serve) as (session, url):
        with pytest.raises(ConnectionClosedError):
            await session.send(request(url))


async def test_silence_ends_with_a_timeout_and_the_connection_is_given_up() -> None:
    silent = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        if silent:
            await asyncio.sleep(0.8)
        writer.write(OK.replace(b"hello", b"later" if silent else b"fresh"))

    async with served(serve) as (session, url):
        with pytest.raises(ReadTimeoutError):
            await session.send(request(url))
        silent = False
        assert await (await session.send(request(url))).content == b"fresh"


async def test_nobody_there_is_said_at_once() -> None:
    async with served(always(OK)) as (session, _):
        with pytest.raises(EndpointConnectionError):
            await session.send(request("http://127.0.0.1:9/"))


async def test_closing_fails_what_is_under_way() -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asked(reader)
        await reader.read()

    async with served(serve) as (session, url):
        call = asyncio.ensure_future(session.send(request(url)))
        await asyncio.sleep(0.05)
        await session.close()
        with pytest.raises(ConnectionClosedError):
            await call


def test_both_kinds_of_timeout_are_told_apart() -> None:
    assert not issubclass(ConnectTimeoutError, ReadTimeoutError)
