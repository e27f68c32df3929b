"""How do tests and benchmarks get a broker, and how long does a message take through it?"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError

from workloads.broker.client import client
from workloads.broker.conformance import EVENT, MAX_RECEIVES, OTHER, VISIBILITY_S, Lab, inbound
from workloads.broker.consumer import Consumer
from workloads.broker.envelope import TYPES, unseal
from workloads.broker.memory import MemoryBroker, MemoryCloud
from workloads.broker.ports import Broker as BrokerPort
from workloads.broker.post import Post
from workloads.broker.sqs import SqsBroker
from workloads.messages import StepDone, Travelling
from workloads.ports import Outgoing
from workloads.resilience import monotonic_ns
from workloads.settings import Broker, Inbound, Redelivery, Settings
from workloads.telemetry import Telemetry

CREDENTIALS: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
"""What an emulator takes: anything."""
READY_WITHIN_S = 20.0


@asynccontextmanager
async def memory_lab() -> AsyncIterator[Lab]:
    """A lab in memory."""
    cloud = MemoryCloud()
    dead, dead_fifo = cloud.add_queue("plain-dlq"), cloud.add_queue("fifo-dlq.fifo")
    plain = cloud.add_queue("plain", dead_letters=dead, max_receives=MAX_RECEIVES)
    fifo = cloud.add_queue("ordered.fifo", dead_letters=dead_fifo)
    topic = "arn:memory:events.fifo"
    cloud.topics[topic] = [(plain, frozenset({EVENT})), (fifo, frozenset({EVENT, OTHER}))]
    yield Lab(
        plain=plain,
        fifo=fifo,
        topic=topic,
        of_plain=MemoryBroker(cloud, inbound(plain, dead)),
        of_fifo=MemoryBroker(cloud, inbound(fifo, dead_fifo)),
        of_plain_dead=MemoryBroker(cloud, inbound(dead, dead)),
        of_fifo_dead=MemoryBroker(cloud, inbound(dead_fifo, dead_fifo)),
    )


@dataclass(frozen=True, slots=True)
class BrokerProcess:
    """A broker that runs on this machine."""

    process: subprocess.Popen[bytes]
    endpoint: str


@contextmanager
def broker_process(port: int) -> Iterator[BrokerProcess]:
    """The embedded broker on a port of 127.0.0.1, until the block ends. It may answer a moment later."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local.brokerapp", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield BrokerProcess(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


class Queues:
    """Makes queues and topics on a real broker, and looks into them."""

    def __init__(self, endpoint: str, sqs: Any, sns: Any) -> None:
        self.endpoint = endpoint
        self.sqs = sqs
        self.sns = sns

    async def add(
        self, name: str, *, visibility_s: int = VISIBILITY_S, max_receives: int = 0, dead: str | None = None
    ) -> str:
        """Make a queue; `dead` is the URL of the one for its dead letters. Return its URL."""
        attributes = {"VisibilityTimeout": str(visibility_s)}
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        if dead is not None and max_receives:
            policy = {"deadLetterTargetArn": await self.arn(dead), "maxReceiveCount": str(max_receives)}
            attributes["RedrivePolicy"] = json.dumps(policy)
        answer = await self.sqs.create_queue(QueueName=name, Attributes=attributes)
        return str(answer["QueueUrl"])

    async def arn(self, url: str) -> str:
        answer = await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    async def topic(self, name: str, feeds: Mapping[str, tuple[str, ...]]) -> str:
        """Make a FIFO topic that feeds queues (by URL) with the types they want. Return its ARN."""
        topic = await self.sns.create_topic(Name=name, Attributes={"FifoTopic": "true"})
        for url, types in feeds.items():
            await self.sns.subscribe(
                TopicArn=topic["TopicArn"],
                Protocol="sqs",
                Endpoint=await self.arn(url),
                Attributes={"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"type": types})},
            )
        return str(topic["TopicArn"])

    async def left(self, url: str) -> int:
        """Messages in a queue, those in hand included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


@asynccontextmanager
async def queues_at(endpoint: str) -> AsyncIterator[Queues]:
    """Wait until the broker at an endpoint answers, then make queues there."""
    os.environ.update(CREDENTIALS)
    settings = Broker(endpoint=endpoint)
    async with client("sqs", settings) as sqs, client("sns", settings) as sns:
        await _until_it_answers(sqs)
        yield Queues(endpoint, sqs, sns)


async def _until_it_answers(sqs: Any) -> None:
    """Raise the SDK's exception if it does not in READY_WITHIN_S."""
    until = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            await sqs.list_queues()
        except BotoCoreError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)
        else:
            return


@asynccontextmanager
async def opened(endpoint: str, inbound: Inbound | None = None, **fields: Any) -> AsyncIterator[SqsBroker]:
    """An SQS adapter, ready for use."""
    broker = SqsBroker(Broker(endpoint=endpoint, inbound=inbound, **fields))
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def sqs_lab(queues: Queues, prefix: str = "lab") -> AsyncIterator[Lab]:
    """A lab on a real broker."""
    dead, dead_fifo = await queues.add(f"{prefix}-dlq"), await queues.add(f"{prefix}-dlq.fifo")
    plain = await queues.add(f"{prefix}-plain", dead=dead, max_receives=MAX_RECEIVES)
    fifo = await queues.add(f"{prefix}-ordered.fifo")
    topic = await queues.topic(f"{prefix}-events.fifo", {plain: (EVENT,), fifo: (EVENT, OTHER)})
    pairs = ((plain, dead), (fifo, dead_fifo), (dead, dead), (dead_fifo, dead_fifo))
    async with AsyncExitStack() as stack:
        brokers = [
            await stack.enter_async_context(opened(queues.endpoint, inbound(*pair), topic=topic)) for pair in pairs
        ]
        yield Lab(
            plain=plain,
            fifo=fifo,
            topic=topic,
            of_plain=brokers[0],
            of_fifo=brokers[1],
            of_plain_dead=brokers[2],
            of_fifo_dead=brokers[3],
        )


# --- latency ------------------------------------------------------------------------------------


def consumer_of(broker: BrokerPort, inbound: Redelivery, handle: Any, **more: Any) -> Consumer:
    """A consumer of every kind of message of run 'test', with replies to the queue called 'replies'."""
    settings = Settings(service="payments", run_id="test")
    options = {
        "read": lambda body: unseal(body, run="test", accepts=frozenset(TYPES.values())),
        "post": Post(Broker(queues={"orders": more.pop("replies", "replies")}), run="test", source="payments"),
        "telemetry": Telemetry(settings),
        "rng": random.Random(1),
        **more,
    }
    return Consumer(broker, inbound, handle, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From before sending to the beginning of its handling, through a real broker."""

    messages: int
    p50_ms: float
    p99_ms: float


async def measure_latency(queues: Queues, *, rate: float = 50.0, seconds: float = 6.0, seed: int = 1) -> Latency:
    """Send at a mean rate (exponential gaps drawn from the seed) to a consumer of this process, and time each."""
    dead = await queues.add("latency-dlq")
    inbound = Inbound(url=await queues.add("latency", visibility_s=5), dead_letters_url=dead)
    sent: dict[str, int] = {}
    taken_ms: list[float] = []
    total = int(rate * seconds)
    done = asyncio.Event()

    async def handle(message: Travelling) -> None:
        assert isinstance(message, StepDone)
        if (begun := sent.pop(message.order_id, None)) is not None:
            taken_ms.append((monotonic_ns() - begun) / 1e6)
        if len(taken_ms) == total:
            done.set()

    post = Post(Broker(), run="test", source="orders")
    rng = random.Random(seed)
    async with opened(queues.endpoint, inbound) as receiving, opened(queues.endpoint) as sending:
        consumer = consumer_of(receiving, inbound, handle)
        consumer.start()
        async with asyncio.TaskGroup() as group:
            for n in range(total):
                order_id = f"o-{n}"
                sent[order_id] = monotonic_ns()
                message = StepDone(order_id=order_id, key="k", step="ReserveStock")
                parcel = post.parcel(
                    Outgoing(seq=n, id=order_id, subject=order_id, message=message, at_ns=0, traceparent="")
                )
                group.create_task(sending.send(inbound.url, [parcel]))
                await asyncio.sleep(rng.expovariate(rate))
        async with asyncio.timeout(10):
            await done.wait()
        await consumer.stop()
    ordered = sorted(taken_ms)
    return Latency(messages=total, p50_ms=ordered[total // 2], p99_ms=ordered[int(total * 0.99)])
