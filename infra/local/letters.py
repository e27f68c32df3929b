"""What is dead, why, since when; and how does it get back to where it came from? Over the AWS API, for any broker.

A letter is in a dead-letter queue because its consumer put it there, with the reason in its attributes, or because
the broker did after too many deliveries (the consumer died each time): then there is no reason attribute.

Nothing is lost if we die in between: reading hides a letter for a while and gives it back, moving deletes it only
after it was sent. A letter that was sent, but not deleted, is moved again and so handled twice, which its consumer
bears; a FIFO queue takes it only once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from infra.local.brokerclient import COUNTS, counts

HIDDEN_S = 30
"""How long a letter stays hidden if we die while we read: another reader sees none of it so long."""

BATCH = 10
"""What SQS hands out at once."""

DEATH = frozenset({"reason", "detail", "source", "died_ns", "died_utc", "receives"})
"""Attributes that tell of a death; the living have none."""


def read(sqs: Any, url: str, wait_s: int = 0) -> list[Mapping[str, Any]]:
    """The messages of one dead-letter queue as SQS returns them, oldest first as far as the broker keeps an order.

    `wait_s`: 1 where a broker has many servers and asks only some of them if nobody waits (AWS), else 0.
    A FIFO queue hides what stands behind ten letters of the same group. Each reading counts as a receive there.
    """
    seen: list[Mapping[str, Any]] = []
    try:
        _receive_all(sqs, url, wait_s, seen)
    finally:
        _give_back(sqs, url, seen)
    return seen


def move(sqs: Any, url: str, source: str, ids: Collection[str] | None, wait_s: int = 0) -> int:
    """Send letters back to the queue they came from; all of them if `ids` is None. Returns how many.

    All are received before the first is sent: one that dies again meanwhile is a new letter, and left alone.
    """
    left: list[Mapping[str, Any]] = []
    moved = 0
    try:
        _receive_all(sqs, url, wait_s, left)
        for message in [m for m in left if ids is None or m["MessageId"] in ids]:
            sqs.send_message(QueueUrl=source, **revived(message))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            left.remove(message)
            moved += 1
    finally:
        _give_back(sqs, url, left)
    return moved


def depth(sqs: Any, url: str) -> int:
    """How many messages a queue holds, hidden ones too."""
    seen = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTS))
    return sum(counts(seen["Attributes"]).values())


def letter(message: Mapping[str, Any], *, queue: str, dead_letters: str, consumer: str) -> dict[str, Any]:
    """One letter for people and programs, from the message as SQS returned it. (pure)

    What nobody told is '' or 0: the reason, where the broker moved it; the key, where the body cannot be read.
    """
    told = {name: attribute.get("StringValue", "") for name, attribute in message.get("MessageAttributes", {}).items()}
    system = message.get("Attributes", {})
    envelope = _object(message["Body"])
    body = envelope.get("body")
    fields = body if isinstance(body, dict) else {}
    return {
        "queue": queue,
        "dead_letter_queue": dead_letters,
        "consumer": consumer,
        "id": message["MessageId"],
        "reason": told.get("reason", ""),
        "detail": told.get("detail", ""),
        "since_utc": told.get("died_utc") or _utc(system.get("SentTimestamp", "")),
        "died_ns": _number(told.get("died_ns", "")),
        "receives": _number(told.get("receives") or system.get("ApproximateReceiveCount", "")),
        "type": str(told.get("type") or envelope.get("type") or ""),
        "key": str(fields.get("key") or ""),
        "subject": str(system.get("MessageGroupId") or fields.get("order_id") or fields.get("account_id") or ""),
        "body": message["Body"],
    }


def revived(message: Mapping[str, Any]) -> dict[str, Any]:
    """What to send so that the message is as it was before it died. (pure)

    Its FIFO group is kept. The id that keeps a FIFO queue from taking it twice is the letter's: the message's own
    would be known there for five minutes, and the letter then lost.
    """
    attributes = {name: value for name, value in message.get("MessageAttributes", {}).items() if name not in DEATH}
    again: dict[str, Any] = {"MessageBody": message["Body"], "MessageAttributes": attributes}
    group = message.get("Attributes", {}).get("MessageGroupId")
    if group:
        again |= {"MessageGroupId": group, "MessageDeduplicationId": f"redriven-{message['MessageId']}"}
    return again


def _receive_all(sqs: Any, url: str, wait_s: int, into: list[Mapping[str, Any]]) -> None:
    """Batch after batch until there is none that is not hidden."""
    known: set[str] = set()
    while True:
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=BATCH,
            VisibilityTimeout=HIDDEN_S,
            WaitTimeSeconds=wait_s,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        batch = [message for message in answer.get("Messages", []) if message["MessageId"] not in known]
        if not batch:
            return
        known |= {message["MessageId"] for message in batch}
        into += batch


def _give_back(sqs: Any, url: str, messages: Sequence[Mapping[str, Any]]) -> None:
    for at in range(0, len(messages), BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for number, message in enumerate(messages[at : at + BATCH])
        ]
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _utc(milliseconds: str) -> str:
    """When it was sent, for want of when it died.

    >>> _utc("1795333800000")
    '2026-11-22T07:50:00Z'
    """
    if not milliseconds.isdecimal():
        return ""
    return datetime.fromtimestamp(int(milliseconds) // 1000, UTC).isoformat().replace("+00:00", "Z")
