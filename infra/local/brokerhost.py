"""The process that is a deployment's broker: SQS and SNS on 127.0.0.1, made what the daemon wants it to be.

    python -m infra.local.brokerhost SOCKET PORT

Messages live in its memory only: SQS keeps them, this one loses them with its process, and the daemon starts
another with the same queues, empty. Questions, one JSON line each (infra.local.control): ping, queue, topic,
subscription, delete, look, fault, renew, undo. All may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from infra.local.brokerapp import BrokerApp
from infra.local.brokerclient import counts
from infra.local.control import Handler, Message
from infra.local.hosting import main

_ARN = re.compile(r"<(?:Topic|Subscription)Arn>([^<]+)<")


class BrokerHost:
    """Answers the daemon."""

    def __init__(self, app: BrokerApp) -> None:
        self._app = app
        self._sqs, self._sns = app.sqs, app.sns

    async def handle(self, message: Message) -> Message:
        match message["cmd"]:
            case "ping":
                return {}
            case "queue":
                return await self._put_queue(message["name"], message["attributes"])
            case "topic":
                return {"arn": await self._tell_sns("CreateTopic", Name=message["name"], **_entries(message))}
            case "subscription":
                return {"arn": await self._subscribe(message["topic"], message["queue"], message["attributes"])}
            case "delete":
                return await self._delete(message["kind"], message["id"])
            case "look":
                return self._look()
            case other:
                told = self._app.faults.handle(message)
                return {"error": f"unknown command {other!r}"} if told is None else told

    async def _put_queue(self, name: str, attributes: Mapping[str, str]) -> Message:
        """An attribute that is empty is taken away."""
        if name not in self._sqs._queue_name_to_url:
            given = {key: value for key, value in attributes.items() if value}
            await self._tell_sqs("CreateQueue", QueueName=name, Attributes=given)
        url = self._sqs._queue_name_to_url[name]
        await self._tell_sqs("SetQueueAttributes", QueueUrl=url, Attributes=dict(attributes))
        return {"url": url, "arn": self._sqs._queues[url]["attributes"]["QueueArn"]}

    async def _subscribe(self, topic: str, queue: str, attributes: Mapping[str, str]) -> str:
        arn = await self._tell_sns("Subscribe", TopicArn=topic, Protocol="sqs", Endpoint=queue)
        for name, value in attributes.items():
            await self._tell_sns(
                "SetSubscriptionAttributes", SubscriptionArn=arn, AttributeName=name, AttributeValue=value
            )
        return arn

    async def _delete(self, kind: str, which: str) -> Message:
        if kind == "queue" and which in self._sqs._queues:
            await self._tell_sqs("DeleteQueue", QueueUrl=which)
        elif kind == "topic":
            await self._tell_sns("DeleteTopic", TopicArn=which)
        elif kind == "subscription":
            await self._tell_sns("Unsubscribe", SubscriptionArn=which)
        return {}

    def _look(self) -> Message:
        queues = {}
        for queue in self._sqs._queues.values():
            self._sqs._refresh_counts(queue)
            queues[queue["url"]] = counts(queue["attributes"])
        topics = self._sns._topics.values()
        return {
            "queues": queues,
            "topics": [topic["arn"] for topic in topics],
            "subscriptions": [subscription["arn"] for topic in topics for subscription in topic["subscriptions"]],
            "leases": self._app.faults.seen(),
        }

    async def _tell_sqs(self, action: str, **data: object) -> None:
        try:
            await self._sqs._dispatch(action, data, "")
        except self._sqs._Err as error:
            raise ValueError(f"{action}: {error.code}: {error.message}") from error

    async def _tell_sns(self, action: str, **data: str) -> str:
        form = urlencode({"Action": action, **data}).encode()
        status, _, answer = (await self._sns.handle_request("POST", "/", {}, form, {}))[:3]
        text = answer.decode() if isinstance(answer, bytes) else answer
        if status != 200:
            raise ValueError(f"{action}: {text}")
        found = _ARN.search(text)
        return found[1] if found else ""


def _entries(message: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, (key, value) in enumerate(message["attributes"].items(), start=1):
        found |= {f"Attributes.entry.{number}.key": key, f"Attributes.entry.{number}.value": value}
    return found


def make(port: int) -> tuple[BrokerApp, Handler]:
    app = BrokerApp(port)
    return app, BrokerHost(app).handle


if __name__ == "__main__":
    main(make)
