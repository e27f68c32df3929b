"""How is the broker reached on AWS, and on what speaks its protocol? SQS and SNS through aiobotocore.

Every call goes to the endpoint of the settings; a queue URL only names the queue. Credentials are found as
the SDK does: environment, profile, container, instance.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from workloads.broker.client import client
from workloads.broker.ports import BATCH_MAX, TYPE, BrokerUnavailable, Delivery, Parcel, batches, letter
from workloads.resilience import monotonic_ns
from workloads.settings import Broker

GONE = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"})
"""Codes of a receipt that no longer counts: asking again is no use."""
ATTRIBUTES = ("ApproximateReceiveCount", "MessageGroupId")
WAIT_S = 2
"""How long a receive waits for a first message. AWS allows 20 and charges per call; but whatever the broker hands to
a consumer that has just died stays hidden for a visibility timeout, and stopping waits for the receive to end."""


class SqsBroker:
    """The Broker port. `open` in the loop that uses it, `close` at the end."""

    def __init__(self, settings: Broker) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self._stack = AsyncExitStack()
        self._sqs: Any = None
        self._sns: Any = None

    async def open(self) -> None:
        """Make the clients, which send nothing yet. Raise BotoCoreError or ValueError if the SDK lacks something."""
        self._sqs = await self._stack.enter_async_context(client("sqs", self._settings))
        if self._settings.topic is not None:
            self._sns = await self._stack.enter_async_context(client("sns", self._settings))

    async def close(self) -> None:
        """Close the connections; calls under way fail."""
        await self._stack.aclose()

    async def send(self, destination: str, parcels: Sequence[Parcel]) -> set[str]:
        """See ports.Broker."""
        failed: set[str] = set()
        call = self._publish if destination.startswith("arn:") else self._send
        for batch in batches(parcels):
            async with _understood():
                answer = await call(destination, batch)
            failed.update(batch[int(entry["Id"])].id for entry in answer.get("Failed", ()))
        return failed

    async def receive(self) -> list[Delivery]:
        """See ports.Broker. Without an inbound queue in the settings there is nothing to receive: a defect."""
        async with _understood():
            answer = await self._sqs.receive_message(
                QueueUrl=self._inbound.url,
                MaxNumberOfMessages=BATCH_MAX,
                WaitTimeSeconds=WAIT_S,
                VisibilityTimeout=self._inbound.visibility_timeout_s,
                MessageSystemAttributeNames=ATTRIBUTES,
                MessageAttributeNames=("All",),
            )
        return [_delivery(message) for message in answer.get("Messages", ())]

    async def delete(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """See ports.Broker."""
        return await self._each(deliveries, self._sqs.delete_message_batch, {})

    async def extend(self, deliveries: Sequence[Delivery], seconds: int) -> None:
        """See ports.Broker."""
        await self._each(deliveries, self._sqs.change_message_visibility_batch, {"VisibilityTimeout": seconds})

    async def bury(self, delivery: Delivery, reason: str, detail: str) -> None:
        """See ports.Broker."""
        attributes = letter(
            delivery,
            reason,
            detail,
            queue=self._inbound.url.rpartition("/")[2],
            died_ns=monotonic_ns(),
            died_utc=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        # the broker's own id: unlike the envelope's it is there whatever the body is, and new after a redrive
        place = _place(self._inbound.dead_letters_url, delivery.group or delivery.id, delivery.id)
        async with _understood():
            await self._sqs.send_message(
                QueueUrl=self._inbound.dead_letters_url,
                MessageBody=delivery.body,
                MessageAttributes=_attributes(attributes.items()),
                **place,
            )
        if await self.delete([delivery]):
            raise BrokerUnavailable("the dead letter is written, but its original could not be deleted")

    @property
    def _inbound(self) -> Any:
        assert self._settings.inbound is not None, "a service without a queue of its own cannot receive"
        return self._settings.inbound

    async def _send(self, url: str, batch: Sequence[Parcel]) -> dict[str, Any]:
        entries = [{"MessageBody": parcel.body, **_common(url, n, parcel)} for n, parcel in enumerate(batch)]
        return await self._sqs.send_message_batch(QueueUrl=url, Entries=entries)  # type: ignore[no-any-return]

    async def _publish(self, arn: str, batch: Sequence[Parcel]) -> dict[str, Any]:
        entries = [{"Message": parcel.body, **_common(arn, n, parcel)} for n, parcel in enumerate(batch)]
        return await self._sns.publish_batch(  # type: ignore[no-any-return]
            TopicArn=arn, PublishBatchRequestEntries=entries
        )

    async def _each(
        self, deliveries: Sequence[Delivery], call: Callable[..., Awaitable[dict[str, Any]]], more: dict[str, Any]
    ) -> list[Delivery]:
        """One call per ten deliveries; return those that failed and may succeed yet."""
        left: list[Delivery] = []
        for start in range(0, len(deliveries), BATCH_MAX):
            part = deliveries[start : start + BATCH_MAX]
            entries = [{"Id": str(n), "ReceiptHandle": each.receipt, **more} for n, each in enumerate(part)]
            async with _understood():
                answer = await call(QueueUrl=self._inbound.url, Entries=entries)
            left += [part[int(e["Id"])] for e in answer.get("Failed", ()) if e.get("Code") not in GONE]
        return left


def _common(destination: str, number: int, parcel: Parcel) -> dict[str, Any]:
    return {
        "Id": str(number),
        "MessageAttributes": _attributes([(TYPE, parcel.type)]),
        **_place(destination, parcel.group, parcel.id),
    }


def _place(destination: str, group: str, unique: str) -> dict[str, str]:
    """What a FIFO destination wants besides; a standard one refuses it."""
    if not destination.endswith(".fifo"):
        return {}
    return {"MessageGroupId": group, "MessageDeduplicationId": unique}


def _attributes(items: Iterable[tuple[str, str]]) -> dict[str, dict[str, str]]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in items}


def _delivery(message: dict[str, Any]) -> Delivery:
    system = message.get("Attributes", {})
    return Delivery(
        id=message["MessageId"],
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        receives=int(system.get("ApproximateReceiveCount", 1)),
        group=system.get("MessageGroupId", ""),
        attributes={
            name: value["StringValue"]
            for name, value in message.get("MessageAttributes", {}).items()
            if "StringValue" in value
        },
    )


@asynccontextmanager
async def _understood() -> AsyncIterator[None]:
    """Whatever a call raises is the broker not doing what it was asked; it may have done it."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "?")
        raise BrokerUnavailable(f"{error.operation_name} was refused: {code}") from error
    except Exception as error:  # the SDK's own, a connection's, an answer that is none
        raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
