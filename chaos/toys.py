"""Toy services and wires for tests: real sockets on loopback that can be broken in every way a fault breaks.

A toy answers any GET or POST. `mode` says how: 'well', 'gone' (nobody listens), 'silent', 'reset', 'late'
(by delay_s), 'trickle' (bytes_per_s), 'throttled' (every third answer is a refusal), 'rejecting' and
'disbelieving' (its figures say that it refused something). It lives on the event loop of whoever starts it. Toys that
greet instead stand in `chaos.toy_tls`.
"""

from __future__ import annotations

import asyncio
import socket
import struct

PAGE = b"x" * 8000
"""The answer: long enough to be watched trickling."""

REJECTED = b"http.egress.rds.update_rejected: 2\ncluster.orders.update_failure: 0\n"

DISBELIEVED = b'{"rejected": 3}'

THROTTLED = b'{"__type":"com.amazonaws.sqs#RequestThrottled","message":"Request is throttled."}'


class Toy:
    """One listening address."""

    def __init__(self) -> None:
        self.mode = "well"
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        """Keeps the port while nobody listens, so that no other process is given it."""
        self._held: set[asyncio.StreamWriter] = set()
        self._answered = 0

    @property
    def address(self) -> str:
        """host:port, the same over every change of mode."""
        return f"127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Start to listen, again at the same port after 'gone'."""
        self._free()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def change(self, mode: str, *, delay_s: float = 0.0, bytes_per_s: int = 0) -> None:
        """From now on answer like this."""
        self.mode, self.delay_s, self.bytes_per_s = mode, delay_s, bytes_per_s
        if mode == "gone" and self._server is not None:
            await self.close()
            self._reserved = socket.socket()
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind(("127.0.0.1", self.port))
        elif mode != "gone" and self._server is None:
            await self.listen()
        if mode == "well":
            self._let_go()

    async def close(self) -> None:
        """Listen no more; connections that are held are closed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._free()
        self._let_go()

    def _free(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _let_go(self) -> None:
        for writer in self._held:
            writer.close()
        self._held.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard = await self._hear(reader)
            if self.mode == "silent":
                self._held.add(writer)
            elif self.mode == "reset":
                _reset(writer)
            else:
                await asyncio.sleep(self.delay_s)
                await self._write(writer, *self._say(heard))
        except (OSError, asyncio.IncompleteReadError):
            return  # the caller went away, which is the caller's business
        finally:
            if writer not in self._held:
                writer.close()

    async def _hear(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readuntil(b"\r\n\r\n")

    def _say(self, heard: bytes) -> tuple[bytes, bytes]:
        """What is answered at once, and what may come slowly."""
        self._answered += 1
        head = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        if self.mode == "throttled" and self._answered % 3 == 0:
            return head % (b"400 Bad Request", len(THROTTLED)), THROTTLED
        page = {"rejecting": REJECTED, "disbelieving": DISBELIEVED}.get(self.mode, PAGE)
        return head % (b"200 OK", len(page)), page

    async def _write(self, writer: asyncio.StreamWriter, at_once: bytes, page: bytes) -> None:
        writer.write(at_once)
        if self.mode != "trickle":
            writer.write(page)
            await writer.drain()
            return
        for n in range(0, len(page), self.bytes_per_s // 10):
            writer.write(page[n : n + self.bytes_per_s // 10])
            await writer.drain()
            await asyncio.sleep(0.1)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: a linger time of zero."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
