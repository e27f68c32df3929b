"""Does something answer at an address? The smallest HTTP client that can say so, and a bare connection attempt."""

from __future__ import annotations

import asyncio


async def http_status(host: str, port: int, path: str, timeout_s: float) -> int | None:
    """The status of one GET over a connection of its own; None if nothing answered in time."""
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            return int(line.split(b" ", 2)[1])
    except (OSError, TimeoutError, ValueError, IndexError):
        return None
    finally:
        if writer is not None:
            writer.close()


async def http_text(port: int, path: str, timeout_s: float = 2.0) -> str:
    """The body of one GET on loopback, '' if nothing good came in time."""
    writer = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            return body.decode(errors="replace") if head.split(b" ", 2)[1] == b"200" else ""
    except (OSError, TimeoutError, IndexError):
        return ""
    finally:
        if writer is not None:
            writer.close()


async def refuses(host: str, port: int) -> bool:
    """Whether a connection attempt is refused."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
