"""Every port's suite, on its fake and on every real adapter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn

from workloads.adapters.fan_out import FanOutPublisher
from workloads.adapters.memory import MemoryCaller, MemoryRepository
from workloads.adapters.routes import RECEIVERS
from workloads.adapters.sql import SqlRepository
from workloads.adapters.sql_outbox import Outbox, StoredOutbox, VolatileOutbox
from workloads.bootstrap import Service, build
from workloads.domain import Record
from workloads.handlers.inbox import TransactionalInbox
from workloads.handlers.leaves import HANDLERS
from workloads.messages import ReleaseStock
from workloads.ports import Caller, CallFailed, Inbox, Publisher, Repository
from workloads.server import DrainingServer
from workloads.settings import Peer, Settings
from workloads.testing import MemoryShop, check_caller, check_inbox, check_publisher, check_repository


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteMaker:
    return SqliteMaker(tmp_path)


class SqliteMaker:
    """Makes repositories on new SQLite files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def url(self) -> str:
        self._count += 1
        return f"sqlite:///{self._folder}/{self._count}.db"

    @asynccontextmanager
    async def repository(self, outbox: Outbox | None = None) -> AsyncIterator[Repository]:
        repository = SqlRepository(self.url(), outbox)
        await repository.open()
        try:
            yield repository
        finally:
            await repository.close()


@asynccontextmanager
async def memory_repository() -> AsyncIterator[Repository]:
    yield MemoryRepository()


async def test_repository_in_memory() -> None:
    await check_repository(memory_repository)


async def test_repository_on_sqlite(sqlite: SqliteMaker) -> None:
    await check_repository(sqlite.repository)


async def test_repository_with_an_outbox_in_memory_keeps_its_promises_while_it_lives(sqlite: SqliteMaker) -> None:
    await check_repository(lambda: sqlite.repository(VolatileOutbox()))


async def test_what_is_enqueued_outlives_the_process_with_the_stored_outbox_alone(sqlite: SqliteMaker) -> None:
    left = []
    for outbox in (StoredOutbox(), VolatileOutbox()):
        url = sqlite.url()
        first = SqlRepository(url, outbox)
        await first.open()
        await first.write(lambda unit: unit.enqueue(ReleaseStock(order_id="o-1", key="k"), subject="o-1"))
        await first.close()
        second = SqlRepository(url)
        await second.open()
        left.append([outgoing.message for outgoing in await second.waiting(10)])
        await second.close()
    assert left == [[ReleaseStock(order_id="o-1", key="k")], []]


async def test_inbox_in_memory() -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[Inbox]:
        yield TransactionalInbox(MemoryRepository(), HANDLERS["payments"], lambda: 0)

    await check_inbox(make)


async def test_inbox_on_sqlite(sqlite: SqliteMaker) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[Inbox]:
        async with sqlite.repository() as repository:
            yield TransactionalInbox(repository, HANDLERS["payments"], lambda: 0)

    await check_inbox(make)


class MemoryBench:
    """The whole shop in memory."""

    def __init__(self) -> None:
        self._shop = MemoryShop()
        self.caller: MemoryCaller = self._shop.caller
        self.publisher: Publisher = FanOutPublisher(self.caller.send)

    async def lose_answers(self) -> None:
        self.caller.broken["payments"] = "timeout"

    async def stop(self) -> None:
        self.caller.broken["payments"] = "refused"

    async def break_consumer(self) -> None:
        self.caller.broken["analytics"] = "refused"

    async def captures(self) -> list[Record]:
        return self._shop.records("payments", "capture")

    async def heard(self) -> dict[str, list[str]]:
        kinds = {"email": "mail", "analytics": "event", "cache": "entry"}
        return {name: [r.state for r in self._shop.records(name, kind)] for name, kind in kinds.items()}


@asynccontextmanager
async def memory_bench() -> AsyncIterator[MemoryBench]:
    yield MemoryBench()


class RestBench:
    """Leaf services on sockets of this process, and a caller that reaches them over HTTP."""

    caller: Caller
    publisher: Publisher

    def __init__(self, maker: SqliteMaker, names: tuple[str, ...]) -> None:
        self._maker = maker
        self._names = names
        self._running: dict[str, tuple[Service, DrainingServer, asyncio.Task[None]]] = {}

    async def open(self) -> None:
        peers = {}
        for name in self._names:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            peers[name] = Peer(url=f"http://127.0.0.1:{sock.getsockname()[1]}")
            await self._run(name, sock)
        self._client = build(Settings(service="storefront", peers=peers))
        self._client.start()
        self.caller = self._client.caller
        self.publisher = FanOutPublisher(self._client.caller.send)

    async def _run(self, name: str, sock: socket.socket) -> None:
        service = build(Settings(service=name, database_url=self._maker.url()))
        config = uvicorn.Config(service.shell, lifespan="off", ws="none", access_log=False, log_config=None)
        server = DrainingServer(config)
        service.start()
        self._running[name] = (service, server, asyncio.ensure_future(server.serve([sock])))
        async with asyncio.timeout(10):
            while not (server.started and service.state.opened):  # noqa: ASYNC110  # neither says when
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self._client.stop()
        for name in self._names:
            await self._end(name)

    async def _end(self, name: str) -> None:
        service, server, serving = self._running[name]
        if not serving.done():
            server.stop_now()
            await serving
            await service.stop()

    async def lose_answers(self) -> None:
        service, _, _ = self._running["payments"]
        inner = service.shell._app

        async def silent(scope: object, receive: object, send: object) -> None:
            async def swallow(_message: object) -> None:
                await asyncio.Event().wait()

            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await inner(scope, receive, swallow)  # type: ignore[arg-type]

        service.shell._app = silent  # type: ignore[assignment]

    async def stop(self) -> None:
        self._captured = await self.captures()
        await self._end("payments")

    async def break_consumer(self) -> None:
        await self._end("analytics")

    async def captures(self) -> list[Record]:
        service, _, serving = self._running["payments"]
        if serving.done():
            return self._captured
        return await self._records(service, "capture")

    async def heard(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, kind in {"email": "mail", "analytics": "event", "cache": "entry"}.items():
            service, _, serving = self._running[name]
            found[name] = [] if serving.done() else [r.state for r in await self._records(service, kind)]
        return found

    async def _records(self, service: Service, kind: str) -> list[Record]:
        assert service.repository is not None
        return await service.repository.read(lambda unit: unit.page((kind,), ("", ""), 100))


async def test_caller_in_memory() -> None:
    await check_caller(memory_bench)


async def test_caller_over_rest(sqlite: SqliteMaker) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[RestBench]:
        bench = RestBench(sqlite, ("payments", "inventory"))
        await bench.open()
        try:
            yield bench
        finally:
            await bench.close()

    await check_caller(make)


async def test_publisher_in_memory() -> None:
    await check_publisher(memory_bench)


async def test_publisher_over_rest(sqlite: SqliteMaker) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[RestBench]:
        bench = RestBench(sqlite, ("email", "analytics", "cache"))
        await bench.open()
        try:
            yield bench
        finally:
            await bench.close()

    await check_publisher(make)


def test_every_message_with_one_receiver_is_handled_by_it() -> None:
    chains = {"orders", "accounts"}
    assert all(kind in HANDLERS[name] for kind, name in RECEIVERS.items() if name not in chains)


async def test_a_call_cut_off_in_mid_answer_is_in_doubt_and_one_nobody_took_is_not() -> None:
    async def cut_off(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(cut_off, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    peers = {"inventory": Peer(url=f"http://127.0.0.1:{port}", breaker=False)}
    client = build(Settings(service="storefront", peers=peers))
    client.start()
    with pytest.raises(CallFailed) as caught:
        await client.caller.call(ReleaseStock(order_id="o-1", key="k"))
    assert not caught.value.definite
    server.close()
    await server.wait_closed()
    with pytest.raises(CallFailed) as caught:
        await client.caller.call(ReleaseStock(order_id="o-1", key="k"))
    assert (caught.value.definite, caught.value.reason) == (True, "refused")
    await client.stop()
