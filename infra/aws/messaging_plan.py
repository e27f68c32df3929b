"""What do a stage's queues and topics look like on AWS? `stages.messaging` in SQS's and SNS's own words. (pure)

Besides the roles whose own policies say so, only the topics that feed a queue may send to it. A dead-letter queue takes
the letters of one queue and no other's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from infra.aws.permissions import Statement, text
from stages.messaging import Messaging, Queue

RETENTION_S = 4 * 86_400
"""How long SQS keeps what nobody reads, seconds: four days, over a long weekend."""
DEAD_RETENTION_S = 14 * 86_400
"""The longest there is: SQS counts from the first sending, not from the death."""
WAIT_S = 20
"""Long polling by default, the longest; a consumer may ask for less."""
FILTERED_BY = "type"
"""The attribute that every message of the shop carries."""


def queue_args(queue: Queue, name: str) -> dict[str, Any]:
    """What a queue is made with, besides its key, its dead letters and its tags."""
    return {
        "name": name,
        **_fifo(queue.fifo),
        "visibility_timeout_seconds": queue.visibility_timeout_s,
        "message_retention_seconds": RETENTION_S,
        "receive_wait_time_seconds": WAIT_S,
    }


def dead_letter_args(queue: Queue, name: str) -> dict[str, Any]:
    """... and its dead-letter queue, of the same type."""
    return {"name": name, **_fifo(queue.fifo), "message_retention_seconds": DEAD_RETENTION_S}


def _fifo(fifo: bool) -> dict[str, Any]:
    """Order is kept per group, and so is the throughput's limit: subjects do not wait for each other.

    Messages bring their own deduplication id.
    """
    if not fifo:
        return {}
    return {
        "fifo_queue": True,
        "content_based_deduplication": False,
        "deduplication_scope": "messageGroup",
        "fifo_throughput_limit": "perMessageGroupId",
    }


def topic_args(name: str, *, fifo: bool) -> dict[str, Any]:
    return {"name": name, **({"fifo_topic": True, "content_based_deduplication": False} if fifo else {})}


def redrive(dead_letters: str, queue: Queue) -> str:
    """Where a message goes that was received too often."""
    return json.dumps({"deadLetterTargetArn": dead_letters, "maxReceiveCount": queue.max_receives}, sort_keys=True)


def redrive_allow(source: str) -> str:
    """Whose letters a dead-letter queue takes."""
    return json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [source]}, sort_keys=True)


def queue_policy(queue: str, topics: Sequence[str]) -> str:
    """What SNS may send to a queue: what comes from exactly these topics."""
    return text(
        Statement(
            sid="SubscribedTopics",
            actions=("sqs:SendMessage",),
            resources=(queue,),
            principals={"Service": ("sns.amazonaws.com",)},
            conditions={"ArnEquals": {"aws:SourceArn": list(topics)}},
        )
    )


def filter_policy(messages: Sequence[str]) -> str:
    """Which events a subscription lets through, by their attribute."""
    return json.dumps({FILTERED_BY: list(messages)}, sort_keys=True)


def feeding(needed: Messaging, queue: Queue) -> tuple[str, ...]:
    """Topics that a queue is subscribed to."""
    return tuple(s.topic for s in needed.subscriptions if s.queue == queue.name)
