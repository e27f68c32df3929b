"""Does something answer at an address? The smallest HTTP client that can say so, and a bare connection attempt."""

from __future__ import annotations

import asyncio
import http.client


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
    """The body of one good answer on loopback, '' if there was none in time. Does not hold up the loop."""
    return await asyncio.to_thread(_text, port, path, timeout_s)


def _text(port: int, path: str, timeout_s: float) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
        return body if response.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


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
