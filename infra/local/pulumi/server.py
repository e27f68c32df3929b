"""How does the engine reach the provider? A gRPC server on loopback whose port is the first line on stdout.

The SDK's own server answers an error with a traceback; a user of the local cloud gets the sentence that it said.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2_grpc

from infra.local.errors import CloudError, CloudUnreachable
from infra.local.pulumi.provider import LocalProvider
from infra.local.target import LocalTarget

VERSION = "0.1.0"
MESSAGE_MAX = 400 * 1024 * 1024
"""What the engine itself allows, bytes."""

Method = Callable[[Any, Any], Awaitable[Any]]


class Servicer(ProviderServicer):
    """As the SDK's, but for how errors are told."""

    async def Check(self, request: Any, context: Any) -> Any:
        return await _told(super().Check, request, context)

    async def Diff(self, request: Any, context: Any) -> Any:
        return await _told(super().Diff, request, context)

    async def Create(self, request: Any, context: Any) -> Any:
        return await _told(super().Create, request, context)

    async def Read(self, request: Any, context: Any) -> Any:
        return await _told(super().Read, request, context)

    async def Update(self, request: Any, context: Any) -> Any:
        return await _told(super().Update, request, context)

    async def Delete(self, request: Any, context: Any) -> Any:
        return await _told(super().Delete, request, context)


async def _told(method: Method, request: Any, context: Any) -> Any:
    """Answer with a CloudError's own sentence; anything else is a defect, and keeps its traceback."""
    try:
        return await method(request, context)
    except Exception as error:  # a border: the engine gets every error as a status
        cause = error.__context__
        if isinstance(cause, CloudError | CloudUnreachable):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(cause))
        raise


async def serve(engine: str) -> None:
    """Serve until SIGTERM or SIGINT. Resources and the local cloud's daemon outlive this process."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", MESSAGE_MAX), ("grpc.max_send_message_length", MESSAGE_MAX)]
    )
    servicer = Servicer(sys.argv[1:], VERSION, LocalProvider(LocalTarget()), engine)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    print(port, flush=True)
    await ended.wait()
    await server.stop(grace=0)


def main() -> None:
    """Entry point of `pulumi-resource-stages`; the engine gives its address."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    asyncio.run(serve(words[0] if words else ""))
    os._exit(0)  # a thread may still wait for the cloud; nobody waits for that thread
