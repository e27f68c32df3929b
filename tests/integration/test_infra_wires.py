"""What does a wire do to real connections, calm and under each of its faults?"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from infra.local.faultspec import Fault
from infra.local.ports import Ports, port_range
from infra.local.wires import Wire

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bench:
    """A wire with an echo server behind it; every connection of the server is told apart by a letter."""

    def __init__(self, wire: Wire, servers: dict[str, tuple[str, int]]) -> None:
        self.wire = wire
        self.servers = servers
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.wire.port)
        self._writers.append(writer)
        return reader, writer

    async def under(self, kind: str, **numbers: float) -> None:
        await self.wire.put_on([Fault.from_json({"kind": kind, "wire": "w", **numbers})])

    async def calm(self) -> None:
        await self.wire.put_on([])

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def ask(streams: Streams, line: bytes) -> bytes:
    """Send a line and return the echo; a second is long for a loopback."""
    reader, writer = streams
    writer.write(line + b"\n")
    async with asyncio.timeout(1):
        return (await reader.readline()).rstrip(b"\n")


async def fastest(streams: Streams) -> float:
    """The shortest of five round trips, seconds: what the machine's other work adds is left out."""
    seen = []
    for _ in range(5):
        began = time.monotonic()
        await ask(streams, b"x")
        seen.append(time.monotonic() - began)
    return min(seen)


async def echo(name: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk.replace(b"?", name))
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    loop = asyncio.get_running_loop()
    servers = {}
    running = []
    for name in ("a", "b"):
        server = await asyncio.start_server(lambda r, w, n=name: echo(n.encode(), r, w), "127.0.0.1", 0)
        running.append(server)
        servers[name] = server.sockets[0].getsockname()
    ports = Ports(port_range({}))
    wire = Wire("w", port := ports.reserve())
    ports.release(port)
    await wire.point(servers["a"])
    there = Bench(wire, servers)
    try:
        yield there
    finally:
        there.close()
        await wire.close()
        for server in running:
            server.close()
        await loop.shutdown_default_executor()


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with bench() as there:
            async with asyncio.timeout(20):
                await scenario(there)

    uvloop.run(main())


def test_a_calm_wire_carries_megabytes_both_ways_unchanged() -> None:
    async def scenario(there: Bench) -> None:
        data = random.Random(7).randbytes(5_000_000).replace(b"?", b"!")
        reader, writer = await there.connect()

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        got = await reader.read(-1)
        await sending
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()

    run(scenario)


def test_a_reader_that_stops_stops_the_sender_instead_of_filling_the_wire() -> None:
    async def scenario(there: Bench) -> None:
        _, writer = await there.connect()
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while sent < 200_000_000:
                    writer.write(b"x" * 100_000)
                    await writer.drain()
                    sent += 100_000
        assert sent < 100_000_000, "nobody reads, so the buffers of four sockets are all there is"

    run(scenario)


def test_half_close_reaches_the_callee_and_its_answer_still_arrives() -> None:
    async def scenario(there: Bench) -> None:
        reader, writer = await there.connect()
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read(-1) == b"last words"

    run(scenario)


def test_hundreds_of_connections_at_once_are_served() -> None:
    async def scenario(there: Bench) -> None:
        many = await asyncio.gather(*(there.connect() for _ in range(400)))
        answers = await asyncio.gather(*(ask(streams, b"%d" % n) for n, streams in enumerate(many)))
        assert answers == [b"%d" % n for n in range(400)]

    run(scenario)


def test_latency_delays_both_directions_of_a_live_connection_and_is_undone() -> None:
    async def scenario(there: Bench) -> None:
        streams = await there.connect()
        await ask(streams, b"before")
        await there.under("latency", delay_ms=60)
        began = time.monotonic()
        assert await ask(streams, b"slow") == b"slow"
        took = time.monotonic() - began
        assert took >= 0.115, f"a round trip takes twice the delay, took {took:.3f} s"
        assert there.wire.counters.pieces_delayed >= 2
        await there.calm()
        assert await fastest(streams) < 0.1

    run(scenario)


def test_jitter_keeps_the_order_and_loses_nothing_when_it_is_undone() -> None:
    async def scenario(there: Bench) -> None:
        reader, writer = await there.connect()
        await there.under("latency", delay_ms=40, jitter_ms=40, seed=3)
        for n in range(100):
            writer.write(b"%d\n" % n)
            await asyncio.sleep(0.001)
        await there.calm()
        lines = [await reader.readline() for _ in range(100)]
        assert lines == [b"%d\n" % n for n in range(100)], "seed 3"

    run(scenario)


def test_blackhole_swallows_on_old_and_new_connections_and_resets_the_torn_ones_when_undone() -> None:
    async def scenario(there: Bench) -> None:
        talker, idle = await there.connect(), await there.connect()
        await ask(talker, b"1")
        await ask(idle, b"1")
        await there.under("blackhole")
        newcomer = await there.connect()
        for streams in (talker, newcomer):
            with pytest.raises(TimeoutError):
                await ask(streams, b"lost")
        assert there.wire.counters.bytes_swallowed == 10
        await there.calm()
        for torn in (talker, newcomer):
            with pytest.raises(ConnectionResetError):
                await torn[0].read(1)
        assert await ask(idle, b"2") == b"2"
        assert await ask(await there.connect(), b"3") == b"3"

    run(scenario)


def test_a_connection_opened_into_a_blackhole_that_said_nothing_is_served_afterwards() -> None:
    async def scenario(there: Bench) -> None:
        await there.under("blackhole")
        silent = await there.connect()
        await asyncio.sleep(0)
        await there.calm()
        assert await ask(silent, b"hello") == b"hello"

    run(scenario)


def test_reset_ends_old_and_new_connections_by_rst_and_is_undone() -> None:
    async def scenario(there: Bench) -> None:
        old = await there.connect()
        await ask(old, b"1")
        await there.under("reset")
        with pytest.raises(ConnectionResetError):
            await old[0].read(1)
        with pytest.raises(ConnectionResetError):
            await (await there.connect())[0].read(1)
        assert there.wire.counters.resets == 2
        await there.calm()
        assert await ask(await there.connect(), b"2") == b"2"

    run(scenario)


def test_refuse_refuses_resets_and_keeps_the_port_for_itself() -> None:
    async def scenario(there: Bench) -> None:
        old = await there.connect()
        await ask(old, b"1")
        await there.under("refuse")
        with pytest.raises(ConnectionRefusedError):
            await there.connect()
        with pytest.raises(ConnectionResetError):
            await old[0].read(1)
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", there.wire.port))
        await there.calm()
        assert await ask(await there.connect(), b"2") == b"2"

    run(scenario)


def test_bandwidth_is_shared_by_all_connections_and_what_is_held_is_delivered_when_undone() -> None:
    async def scenario(there: Bench) -> None:
        one, two = await there.connect(), await there.connect()
        await there.under("bandwidth", bytes_per_s=100_000)
        began = time.monotonic()
        for _, writer in (one, two):
            writer.write(b"x" * 20_000 + b"\n")
        await asyncio.gather(one[0].readline(), two[0].readline())
        took = time.monotonic() - began
        assert took > 0.35, f"40 kB at 100 kB/s, took {took:.2f} s"
        await there.under("bandwidth", bytes_per_s=10)
        one[1].write(b"y" * 500 + b"\n")
        await asyncio.sleep(0.05)
        await there.calm()
        async with asyncio.timeout(1):
            assert await one[0].readline() == b"y" * 500 + b"\n"

    run(scenario)


def test_a_wire_without_a_callee_refuses_and_one_whose_callee_is_dead_resets() -> None:
    async def scenario(there: Bench) -> None:
        await there.wire.point(None)
        with pytest.raises(ConnectionRefusedError):
            await there.connect()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            await there.wire.point(nobody.getsockname())
            with pytest.raises(ConnectionResetError):
                await (await there.connect())[0].read(1)
        assert there.wire.counters.unreachable == 1

    run(scenario)


def test_switching_the_endpoint_moves_a_live_connection_with_its_next_request() -> None:
    async def scenario(there: Bench) -> None:
        streams = await there.connect()
        assert await ask(streams, b"?") == b"a"
        await there.wire.point(there.servers["b"])
        assert await ask(streams, b"?") == b"b"
        assert await ask(await there.connect(), b"?") == b"b"
        assert there.wire.counters.resets == 0

    run(scenario)


def test_a_request_under_way_stays_with_the_instance_that_has_it() -> None:
    async def scenario(there: Bench) -> None:
        received, release = asyncio.Event(), asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            received.set()
            await release.wait()
            writer.write(b"slow but sure\n")
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await there.wire.point(address)
        reader, writer = await there.connect()
        writer.write(b"work\n")
        await received.wait()
        await there.wire.point(there.servers["b"])
        assert there.wire.busy(address) == 1
        release.set()
        assert await reader.readline() == b"slow but sure\n"
        assert there.wire.busy(address) == 0
        assert await ask((reader, writer), b"?") == b"b"
        server.close()

    run(scenario)


def test_the_old_instance_may_close_an_idle_connection_without_the_caller_noticing() -> None:
    async def scenario(there: Bench) -> None:
        seen: list[asyncio.StreamWriter] = []

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(writer)
            writer.write(await reader.readline())

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        await there.wire.point(server.sockets[0].getsockname())
        streams = await there.connect()
        await ask(streams, b"1")
        await there.wire.point(there.servers["b"])
        seen[0].close()
        await seen[0].wait_closed()
        assert await ask(streams, b"?") == b"b"
        server.close()

    run(scenario)


def test_two_faults_on_a_wire_add_up_and_end_one_by_one() -> None:
    async def scenario(there: Bench) -> None:
        slow = Fault.from_json({"kind": "latency", "wire": "w", "delay_ms": 50})
        await there.wire.put_on([slow, slow])
        streams = await there.connect()
        began = time.monotonic()
        await ask(streams, b"1")
        assert time.monotonic() - began >= 0.19
        await there.wire.put_on([slow])
        assert 0.09 <= await fastest(streams) < 0.19

    run(scenario)
