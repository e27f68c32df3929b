"""How does a deployment come to have its queues, topics and subscriptions, and what is in them?

What was asked for is in the state; the broker is told on every PUT and whenever it was started anew. Changed
attributes are applied in place, messages stay.
"""

from __future__ import annotations

import json
from typing import Any

from infra.local.brokers import Brokers
from infra.local.context import Context, log
from infra.local.errors import CloudError, Conflict, NotFound
from infra.local.state import Queue, QueueSpec, Subscription, SubscriptionSpec, Topic, TopicSpec


class Queues:
    """The queues, topics and subscriptions of one deployment."""

    def __init__(self, context: Context, brokers: Brokers) -> None:
        self._context = context
        self._brokers = brokers
        self._state = context.state
        brokers.furnish = self.furnish

    async def put_queue(self, name: str, spec: QueueSpec) -> dict[str, object]:
        """Have this queue, whose dead-letter queue must exist. Raise Conflict."""
        async with self._context.lock("queue", name):
            known = self._state.queues.get(name)
            if known is not None and known.spec.broker != spec.broker:
                raise Conflict(f"queue {name} is at broker {known.spec.broker}; delete it first")
            self._check_broker(spec.broker)
            dead = self._state.queues.get(spec.dead_letters or "")
            if spec.dead_letters is not None and (dead is None or dead.spec.broker != spec.broker):
                raise Conflict(f"queue {name} has {spec.dead_letters!r} for dead letters, which does not exist")
            queue = known or Queue(spec)
            await self._tell_queue(name, spec, queue)
            queue.spec = spec
            self._state.queues[name] = queue
            self._context.save()
        return self._described("queue", name, "available")

    async def put_topic(self, name: str, spec: TopicSpec) -> dict[str, object]:
        async with self._context.lock("topic", name):
            self._check_broker(spec.broker)
            topic = self._state.topics.get(name) or Topic(spec)
            if topic.spec != spec:
                raise Conflict(f"topic {name} is at broker {topic.spec.broker}; delete it first")
            await self._tell_topic(name, topic)
            self._state.topics[name] = topic
            self._context.save()
        return self._described("topic", name, "available")

    async def put_subscription(self, name: str, spec: SubscriptionSpec) -> dict[str, object]:
        """Have a topic's messages delivered to a queue, as they are. Raise Conflict if either is missing."""
        async with self._context.lock("subscription", name):
            known = self._state.subscriptions.get(name)
            if known is not None and (known.spec.topic, known.spec.queue) != (spec.topic, spec.queue):
                raise Conflict(f"subscription {name} is {known.spec.topic} to {known.spec.queue}; delete it first")
            found = [f"there is no topic {spec.topic!r}"] if spec.topic not in self._state.topics else []
            found += [f"there is no queue {spec.queue!r}"] if spec.queue not in self._state.queues else []
            if found:
                raise Conflict("; ".join(found), found)
            subscription = known or Subscription(spec)
            await self._tell_subscription(spec, subscription)
            subscription.spec = spec
            self._state.subscriptions[name] = subscription
            self._context.save()
        return self._described("subscription", name, "available")

    async def get(self, kind: str, name: str) -> dict[str, object]:
        """What was asked for, its address, and whether the broker has it: available, missing or unknown."""
        if name not in self._all(kind):
            raise NotFound(f"there is no {kind} {name!r} in {self._state.name}")
        seen = await self._brokers.look(self._all(kind)[name].spec.broker)
        return self._described(kind, name, self._seen(kind, name, seen), seen)

    async def get_broker(self, name: str) -> dict[str, object]:
        """The broker with the number of messages in each of its queues; `queues` is None while it cannot say."""
        known = self._brokers.get(name)
        seen = await self._brokers.look(name)
        mine = [n for n, queue in self._state.queues.items() if queue.spec.broker == name]
        return {**known, "queues": {n: self._counts(n, seen) for n in mine} if seen else None}

    async def describe(self) -> list[dict[str, Any]]:
        """Brokers and all they hold, each with its state."""
        looks = {name: await self._brokers.look(name) for name in self._state.brokers}
        found: list[dict[str, Any]] = [self._brokers.get(name) for name in self._state.brokers]
        for kind in ("queue", "topic", "subscription"):
            for name, held in self._all(kind).items():
                seen = looks.get(held.spec.broker)
                found.append(self._described(kind, name, self._seen(kind, name, seen), seen))
        return found

    async def delete(self, kind: str, name: str) -> None:
        """Take it away with its messages; idempotent. Raise Conflict while something else needs it."""
        async with self._context.lock(kind, name):
            held = self._all(kind).get(name)
            if held is None:
                return
            users = [n for n, s in self._state.subscriptions.items() if name in (s.spec.queue, s.spec.topic)]
            users += [n for n, q in self._state.queues.items() if q.spec.dead_letters == name]
            if users and kind != "subscription":
                raise Conflict(f"{kind} {name} is used by {', '.join(users)}; delete them first")
            await self._brokers.ask(held.spec.broker, {"cmd": "delete", "kind": kind, "id": _id(held)})
            del self._all(kind)[name]
            self._context.save()

    async def furnish(self, broker: str) -> None:
        """Have everything at a broker that was started anew."""
        for name, queue in sorted(self._state.queues.items(), key=lambda item: item[1].spec.dead_letters is not None):
            if queue.spec.broker == broker:
                await self._tell_queue(name, queue.spec, queue)
        for name, topic in self._state.topics.items():
            if topic.spec.broker == broker:
                await self._tell_topic(name, topic)
        for subscription in self._state.subscriptions.values():
            if subscription.spec.broker == broker:
                await self._tell_subscription(subscription.spec, subscription)
        self._context.save()

    async def clear(self) -> list[str]:
        """Take away what a user's own broker holds for us; returns what could not be, with the reason."""
        left = []
        for kind in ("subscription", "topic", "queue"):
            for name, held in self._all(kind).items():
                broker = self._state.brokers.get(held.spec.broker)
                if broker is None or broker.spec.url is None or not _id(held):
                    continue
                try:
                    await self._brokers.ask(held.spec.broker, {"cmd": "delete", "kind": kind, "id": _id(held)})
                except CloudError as error:
                    log.error("%s: %s %s is left at %s: %s", self._state.name, kind, name, broker.spec.url, error)
                    left.append(f"{kind} {_id(held)}: {error}")
        return left

    async def _tell_queue(self, name: str, spec: QueueSpec, queue: Queue) -> None:
        dead = self._state.queues[spec.dead_letters].arn if spec.dead_letters else ""
        policy = {"deadLetterTargetArn": dead, "maxReceiveCount": str(spec.max_receives)}
        attributes = {
            "VisibilityTimeout": str(spec.visibility_timeout_s),
            "RedrivePolicy": json.dumps(policy) if dead else "",
            **({"FifoQueue": "true"} if spec.fifo else {}),
        }
        answer = await self._brokers.ask(spec.broker, {"cmd": "queue", "name": name, "attributes": attributes})
        queue.url, queue.arn = answer["url"], answer["arn"]

    async def _tell_topic(self, name: str, topic: Topic) -> None:
        attributes = {"FifoTopic": "true", "ContentBasedDeduplication": "false"} if topic.spec.fifo else {}
        message = {"cmd": "topic", "name": name, "attributes": attributes}
        topic.arn = (await self._brokers.ask(topic.spec.broker, message))["arn"]

    async def _tell_subscription(self, spec: SubscriptionSpec, subscription: Subscription) -> None:
        message = {
            "cmd": "subscription",
            "topic": self._state.topics[spec.topic].arn,
            "queue": self._state.queues[spec.queue].arn,
            "attributes": {
                "RawMessageDelivery": "true",
                "FilterPolicy": json.dumps({"type": list(spec.messages)} if spec.messages else {}),
            },
        }
        subscription.arn = (await self._brokers.ask(spec.broker, message))["arn"]

    def _described(self, kind: str, name: str, state: str, seen: dict[str, Any] | None = None) -> dict[str, object]:
        known: dict[str, object] = {"kind": kind, "name": name, "state": state}
        held = self._all(kind)[name]
        known |= {key: getattr(held.spec, key) for key in held.spec.__dataclass_fields__}
        known["arn"] = held.arn
        if isinstance(held, Queue):
            known |= {"url": held.url, **({"messages": self._counts(name, seen)} if seen else {})}
        return known

    def _seen(self, kind: str, name: str, seen: dict[str, Any] | None) -> str:
        if seen is None:
            return "unknown"
        return "available" if _id(self._all(kind)[name]) in seen[f"{kind}s"] else "missing"

    def _counts(self, name: str, seen: dict[str, Any]) -> dict[str, int] | None:
        found: dict[str, int] | None = seen["queues"].get(self._state.queues[name].url)
        return found

    def _check_broker(self, name: str) -> None:
        if name not in self._state.brokers:
            raise Conflict(f"there is no broker {name!r} in {self._state.name}")

    def _all(self, kind: str) -> Any:
        return {
            "queue": self._state.queues,
            "topic": self._state.topics,
            "subscription": self._state.subscriptions,
        }[kind]


def _id(held: Queue | Topic | Subscription) -> str:
    """What the broker knows it by."""
    return held.url if isinstance(held, Queue) else held.arn
