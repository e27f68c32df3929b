"""What speaks SQS and SNS on this machine? ministack's two services behind an ASGI app of our own.

Its own front door routes forty services and answers three times slower; these two handlers are all that is needed.
Their long poll looks for messages every 100 ms, which is most of a message's way: here it looks every 10 ms. Both
reach into ministack, so its version is pinned, and tests measure the latency.
"""

from __future__ import annotations

import asyncio
import os
import types
from typing import Any

LOOK_S = 0.01
"""How often a waiting receive looks for messages: 20 idle receivers then cost 7 % of a core (2 % at 100 ms)."""


def load() -> tuple[Any, Any]:
    """Import the two services (0.3 s) and quicken the long poll; call it once per process."""
    os.environ.setdefault("MINISTACK_HOST", "127.0.0.1")
    import ministack.services.sns as sns
    import ministack.services.sqs as sqs

    quick = types.SimpleNamespace(**{name: getattr(asyncio, name) for name in dir(asyncio) if not name.startswith("_")})
    quick.sleep = _short_sleep
    sqs.asyncio = quick  # only this module sees it
    return sqs, sns


async def _short_sleep(delay_s: float, *result: Any) -> Any:
    return await asyncio.sleep(min(delay_s, LOOK_S), *result)


class BrokerApp:
    """The ASGI app."""

    def __init__(self) -> None:
        self._sqs, self._sns = load()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        service = self._sqs if headers.get("x-amz-target", "").startswith("AmazonSQS.") else self._sns
        status, sent, answer = (await service.handle_request(scope["method"], scope["path"], headers, body, {}))[:3]
        raw = [(name.lower().encode(), str(value).encode()) for name, value in sent.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": answer.encode() if isinstance(answer, str) else answer})


if __name__ == "__main__":
    import sys

    import uvicorn

    uvicorn.run(
        BrokerApp(), host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", access_log=False, log_level="warning"
    )
