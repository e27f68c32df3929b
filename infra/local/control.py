"""How does the daemon talk to its host processes?

One JSON line each way over a unix socket, one connection per question: nothing has to be restored
after either side was killed. A host that is stopped or dead is a HostError after the timeout.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

LINE_BYTES = 1 << 20
"""Longest message, bytes."""

Message = dict[str, Any]

Handler = Callable[[Message], Awaitable[Message]]
"""Answers a question."""


class HostError(Exception):
    """A host process refused, failed or did not answer in time: whether it acted is then not known."""


async def ask(path: Path, message: Mapping[str, object], timeout_s: float = 5.0) -> Message:
    """Send one message to a host and return its answer; raise HostError."""
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _exchange(path, message)
    except (TimeoutError, OSError, ValueError) as error:
        reason = str(error) or f"no answer within {timeout_s:g} s"
        raise HostError(f"host at {path}, {message.get('cmd')}: {reason}") from error
    if "error" in answer:
        raise HostError(str(answer["error"]))
    return answer


async def _exchange(path: Path, message: Mapping[str, object]) -> Message:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_BYTES)
    try:
        writer.write(json.dumps(message).encode() + b"\n")
        line = await reader.readline()
        if not line:
            raise ConnectionResetError("it closed the connection without an answer")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError(f"not an object: {line[:80]!r}")
        return answer
    finally:
        writer.close()


async def serve(path: Path, handle: Handler) -> asyncio.Server:
    """Answer questions on a unix socket; an exception in `handle` becomes the answer's error."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await _answer(handle, line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the asker is gone, or sent no line: there is nobody to tell
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(connected, str(path), limit=LINE_BYTES)


async def _answer(handle: Handler, line: bytes) -> Message:
    try:
        return await handle(json.loads(line))
    except Exception as error:  # the border of the host: one bad question must not end it
        return {"error": f"{type(error).__name__}: {error}"}
