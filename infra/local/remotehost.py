"""The process that speaks with a user's own broker as its administrator: AWS itself, or what talks like it.

    python -m infra.local.remotehost SOCKET URL REGION PREFIX

Queues and topics are called '<PREFIX>-<name>' there, so that deployments can share an account. Credentials are
found in the environment as the AWS SDK does. Questions as those of infra.local.brokerhost, but none about faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.local.brokerclient import COUNTS, client, counts
from infra.local.control import Message, serve


class RemoteHost:
    """Answers the daemon; one question at a time, for the SDK blocks."""

    def __init__(self, url: str | None, region: str, prefix: str) -> None:
        self._prefix = prefix
        self._sqs = client("sqs", url, region)
        self._sns = client("sns", url, region)
        self._one_at_a_time = asyncio.Lock()

    async def handle(self, message: Message) -> Message:
        work: dict[str, Callable[[Message], Message]] = {
            "ping": lambda _: {},
            "queue": self._put_queue,
            "topic": self._put_topic,
            "subscription": self._subscribe,
            "delete": self._delete,
            "look": lambda _: self._look(),
        }
        if message["cmd"] not in work:
            return {"error": f"unknown command {message['cmd']!r}"}
        async with self._one_at_a_time:
            return await asyncio.to_thread(work[message["cmd"]], message)

    def _put_queue(self, message: Message) -> Message:
        """An attribute that is empty is taken away. Our topics may send to every queue of ours."""
        name = f"{self._prefix}-{message['name']}"
        attributes: Mapping[str, str] = message["attributes"]
        try:
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except self._sqs.exceptions.QueueDoesNotExist:
            given = {key: value for key, value in attributes.items() if value}
            url = self._sqs.create_queue(QueueName=name, Attributes=given)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        changeable = {key: value for key, value in attributes.items() if key != "FifoQueue"}
        self._sqs.set_queue_attributes(QueueUrl=url, Attributes={**changeable, "Policy": self._policy(arn)})
        return {"url": url, "arn": arn}

    def _put_topic(self, message: Message) -> Message:
        name = f"{self._prefix}-{message['name']}"
        return {"arn": self._sns.create_topic(Name=name, Attributes=message["attributes"])["TopicArn"]}

    def _subscribe(self, message: Message) -> Message:
        """Attributes apart: subscribing again with others would be an error."""
        topic, queue = message["topic"], message["queue"]
        known = self._sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        arn = next((s["SubscriptionArn"] for s in known if s["Endpoint"] == queue), None)
        if arn is None:
            subscribed = self._sns.subscribe(
                TopicArn=topic,
                Protocol="sqs",
                Endpoint=queue,
                Attributes=message["attributes"],
                ReturnSubscriptionArn=True,
            )
            return {"arn": subscribed["SubscriptionArn"]}
        for name, value in message["attributes"].items():
            self._sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)
        return {"arn": arn}

    def _delete(self, message: Message) -> Message:
        which = message["id"]
        if message["kind"] == "topic":
            self._sns.delete_topic(TopicArn=which)
        elif message["kind"] == "subscription":
            self._sns.unsubscribe(SubscriptionArn=which)
        else:
            with contextlib.suppress(self._sqs.exceptions.QueueDoesNotExist):
                self._sqs.delete_queue(QueueUrl=which)
        return {}

    def _look(self) -> Message:
        queues = {}
        for url in self._sqs.list_queues(QueueNamePrefix=f"{self._prefix}-").get("QueueUrls", []):
            queues[url] = counts(
                self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTS))["Attributes"]
            )
        topics = [topic for topic in self._topics() if topic.rpartition(":")[2].startswith(f"{self._prefix}-")]
        found = [s for topic in topics for s in self._sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]]
        return {
            "queues": queues,
            "topics": topics,
            "subscriptions": [s["SubscriptionArn"] for s in found],
            "leases": {},
        }

    def _topics(self) -> list[str]:
        pages = self._sns.get_paginator("list_topics").paginate()
        return [topic["TopicArn"] for page in pages for topic in page["Topics"]]

    def _policy(self, queue: str) -> str:
        """Who may send to a queue besides its owner: the topics of this deployment, in the same account."""
        region, account = queue.split(":")[3:5]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue,
            "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:sns:{region}:{account}:{self._prefix}-*"}},
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def run(path: Path, url: str, region: str, prefix: str) -> None:
    server = await serve(path, RemoteHost(None if url == "aws" else url, region, prefix).handle)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:5]))
