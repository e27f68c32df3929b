"""A stand-in for a workload, for tests of the local cloud itself: what does it do to something that just answers?

    python -m infra.local.standin [--die STATUS] [--deaf] [--slow-start SECONDS]

listens on the address in STAND_IN_LISTEN and speaks HTTP/1.1 with keep-alive. Every path answers 200 with
the instance's pid and word; `/slow?ms=N` waits first; `/db` writes the SQLite file STAND_IN_DATABASE and
answers 503 when it is locked; `/big?bytes=N` answers N bytes; `/send?port=N&queue=URL&text=T` says SendMessage to
a broker at that port and answers without waiting for the broker. SIGTERM drains: open requests are finished,
idle connections closed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit


class StandIn:
    """One instance. It keeps nothing in memory but its open connections."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._host, _, port = env["STAND_IN_LISTEN"].rpartition(":")
        self._port = int(port)
        self._database = env.get("STAND_IN_DATABASE", "").removeprefix("sqlite:///")
        self._word = env.get("STAND_IN_WORD", "")
        self._idle: set[asyncio.StreamWriter] = set()
        self._sent: list[asyncio.StreamWriter] = []
        self._busy = 0
        self._draining = asyncio.Event()
        self._quiet = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._draining.set)
        server = await asyncio.start_server(self._connected, self._host, self._port)
        await self._draining.wait()
        server.close()
        for writer in self._idle:
            writer.close()
        if self._busy:
            await self._quiet.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not self._draining.is_set():
                self._idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(writer)
                self._busy += 1
                self._quiet.clear()
                try:
                    status, body = await self._answer(head.split(b" ", 2)[1].decode())
                    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                    await writer.drain()
                finally:
                    self._busy -= 1
                    if not self._busy:
                        self._quiet.set()
        self._idle.discard(writer)
        writer.close()

    async def _answer(self, target: str) -> tuple[int, bytes]:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/slow":
            await asyncio.sleep(int(query["ms"]) / 1000)
        if parts.path == "/big":
            return 200, b"x" * int(query["bytes"])
        if parts.path == "/db":
            return self._touch()
        if parts.path == "/send":
            return await self._send(int(query["port"]), query["queue"], query["text"])
        return 200, f"{os.getpid()} {self._word}".encode()

    async def _send(self, port: int, queue: str, text: str) -> tuple[int, bytes]:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        self._sent.append(writer)  # it stays open: a connection that is closed takes its bytes along politely
        body = json.dumps({"QueueUrl": queue, "MessageBody": text})
        head = (
            f"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.SendMessage\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        await writer.drain()
        return 200, b"said"

    def _touch(self) -> tuple[int, bytes]:
        try:
            with contextlib.closing(sqlite3.connect(self._database, timeout=0.05)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS seen (at REAL)")
                connection.execute("INSERT INTO seen VALUES (?)", (time.time(),))
        except sqlite3.OperationalError as error:
            return 503, str(error).encode()
        return 200, b"written"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--die", type=int, help="end with this status instead of listening")
    parser.add_argument("--deaf", action="store_true", help="live, but never listen")
    parser.add_argument("--slow-start", type=float, default=0.0)
    options = parser.parse_args()
    if options.die is not None:
        print(f"stand-in was told to die with {options.die}", file=sys.stderr)
        return int(options.die)
    time.sleep(options.slow_start)
    if options.deaf:
        signal.sigwait([signal.SIGTERM])
        return 0
    asyncio.run(StandIn(os.environ).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
