"""What speaks SQS and SNS on this machine? ministack's two services behind an ASGI app of our own.

    python -m infra.local.brokerapp PORT        the app alone, on 127.0.0.1

Its own front door routes forty services and answers three times slower; these two handlers are all that is needed.
Their long poll looks for messages every 100 ms, which is most of a message's way: here whoever waits for a queue is
woken by what happens to it. Both reach into ministack, so its version is pinned, and tests measure the latency.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import types
from collections import defaultdict
from contextvars import ContextVar
from typing import Any

from infra.local.brokerfaults import BrokerFaults
from infra.local.hosting import Answer, Receive, Send, config, heard, tell

_WAITING: ContextVar[LongPoll] = ContextVar("waiting")
"""The receive that the present task answers."""


def load(port: int) -> tuple[Any, Any]:
    """Import the two services (0.2 s) and quicken the long poll; call it once per process.

    What they import only for Lambda functions and for access policies costs three times that, and is left out.
    """
    os.environ.update(MINISTACK_HOST="127.0.0.1", GATEWAY_PORT=str(port))
    sys.modules.setdefault("ministack.services.lambda_svc", types.ModuleType("lambda_svc"))
    front_door = types.ModuleType("app")
    front_door.AUTH = False  # type: ignore[attr-defined]  # the one name that is asked for: nobody's rights are checked
    sys.modules.setdefault("ministack.app", front_door)
    import ministack.services.sns as sns
    import ministack.services.sqs as sqs

    quick = types.SimpleNamespace(**{name: getattr(asyncio, name) for name in dir(asyncio) if not name.startswith("_")})
    quick.sleep = _until_something_happens
    sqs.asyncio = quick  # only this module sees it
    return sqs, sns


class Vanished(Exception):
    """Who waited for messages has closed the connection: what it would get now would be lost on it."""


class LongPoll:
    """One receive that waits for messages."""

    def __init__(self, waiting: set[LongPoll], receive: Receive) -> None:
        """`waiting`: everybody who waits for the same queue. `receive` returns when the connection is closed."""
        self._waiting = waiting
        self._receive = receive
        self._gone: asyncio.Task[Any] | None = None
        self._woken: asyncio.Future[None] | None = None

    async def wait(self, longest_s: float) -> None:
        """Return when something has happened to the queue, or after a while; raise Vanished."""
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._receive())
            self._gone.add_done_callback(lambda _: self.wake())
        if self._gone.done():
            raise Vanished
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        timer = loop.call_later(longest_s, self.wake)
        self._waiting.add(self)
        try:
            await self._woken
        finally:
            self._waiting.discard(self)
            timer.cancel()

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def end(self) -> None:
        if self._gone is not None:
            self._gone.cancel()


async def _until_something_happens(longest_s: float, *_: object) -> None:
    """Stands for the sleep between two looks; `longest_s` bounds when an expired visibility timeout is seen."""
    await _WAITING.get().wait(longest_s)


class BrokerApp:
    """The ASGI app. One per process: ministack keeps its queues in module globals."""

    def __init__(self, port: int) -> None:
        """`port` only appears in the queues' URLs; who serves the app listens there."""
        self.sqs, self.sns = load(port)
        self.faults = BrokerFaults()
        self._waiting: defaultdict[str, set[LongPoll]] = defaultdict(set)
        self._deliver = self.sns._deliver_to_sqs
        self.sns._deliver_to_sqs = self._delivered

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        target, body = await heard(scope, receive)
        action = target.partition("AmazonSQS.")[2]
        await self.faults.delay()
        try:
            answer = await self._answer(action, scope["path"], body, receive)
        except Vanished:
            return
        await self.faults.delay()
        await tell(send, answer)

    async def _answer(self, action: str, path: str, body: bytes, receive: Receive) -> Answer:
        """SQS speaks JSON and names its action in a header, SNS sends a form."""
        if self.faults.throttle():
            return self._refusal(action)
        if action:
            return await self._queue(action, path, json.loads(body or b"{}"), receive)
        status, headers, answer = (await self.sns.handle_request("POST", path, {}, body, {}))[:3]
        return status, headers, answer.encode() if isinstance(answer, str) else answer

    async def _queue(self, action: str, path: str, data: dict[str, Any], receive: Receive) -> Answer:
        name = str(data.get("QueueUrl", "")).rpartition("/")[2]
        if action == "ReceiveMessage":
            poll = LongPoll(self._waiting[name], receive)
            _WAITING.set(poll)
            try:
                answer: Answer = await self.sqs._handle_json(action, data, path)
            finally:
                poll.end()
            return answer
        done = self._alter(action, name, data)
        answer = await self.sqs._handle_json(action, data, path) if done is None else done
        self._wake(name)
        return answer

    def _alter(self, action: str, name: str, data: dict[str, Any]) -> Answer | None:
        """Let faults change a request; an answer if nothing is left of it to be handled."""
        faults = self.faults
        if not faults:
            return None
        if action == "SendMessage":
            data["MessageBody"] = faults.cut(name, data.get("MessageBody", ""))
        elif action == "SendMessageBatch":
            for entry in data.get("Entries", ()):
                entry["MessageBody"] = faults.cut(name, entry.get("MessageBody", ""))
        elif action == "DeleteMessage" and faults.keep(self._messages(name).get(data.get("ReceiptHandle"))):
            ok: Answer = self.sqs._json_ok({})
            return ok
        elif action == "DeleteMessageBatch":
            return self._delete_some(name, data)
        return None

    def _delete_some(self, name: str, data: dict[str, Any]) -> Answer | None:
        known = self._messages(name)
        entries = data.get("Entries", [])
        kept = [entry["Id"] for entry in entries if self.faults.keep(known.get(entry.get("ReceiptHandle")))]
        if not kept:
            return None
        rest = [entry for entry in entries if entry["Id"] not in kept]
        try:
            done = self.sqs._act_delete_message_batch({**data, "Entries": rest}, data["QueueUrl"]) if rest else {}
        except self.sqs._Err as error:
            refusal: Answer = self.sqs._json_err_resp(error.code, error.message, error.status)
            return refusal
        successful = done.get("Successful", []) + [{"Id": entry} for entry in kept]
        answer: Answer = self.sqs._json_ok({"Successful": successful, "Failed": done.get("Failed", [])})
        return answer

    def _messages(self, queue: str) -> dict[str | None, dict[str, Any]]:
        """The messages of a queue that somebody has received, by the handle they were given out with."""
        try:
            return {message.get("receipt_handle"): message for message in self.sqs._get_q(queue)["messages"]}
        except self.sqs._Err:
            return {}

    def _delivered(self, endpoint: str, envelope: str, raw: bool, text: str, **more: Any) -> None:
        """Takes the place of what hands a topic's message to a subscribed queue."""
        name = endpoint.rpartition(":")[2]
        self._deliver(endpoint, envelope, raw, self.faults.cut(name, text), **more)
        self._wake(name)

    def _wake(self, queue: str) -> None:
        for poll in self._waiting.get(queue, ()):
            poll.wake()

    def _refusal(self, action: str) -> Answer:
        if action:
            answer: Answer = self.sqs._json_err_resp("RequestThrottled", "The request was denied due to throttling.")
            return answer
        status, headers, text = self.sns._error("Throttling", "Rate exceeded", 400)[:3]
        return status, headers, text.encode() if isinstance(text, str) else text


if __name__ == "__main__":
    import uvicorn

    uvicorn.Server(config(BrokerApp(int(sys.argv[1])), int(sys.argv[1]))).run()
