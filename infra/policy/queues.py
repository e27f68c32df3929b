"""Where does a message go that nobody can handle?

Every queue has a dead-letter queue. A queue *is* one if another queue's redrive policy points to it, or if it says
which queues may: its name is no evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at, document, of_type

QUEUE = "aws:sqs/queue:Queue"
REDRIVE = "aws:sqs/redrivePolicy:RedrivePolicy"
REDRIVE_ALLOW = "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy"

NOTHING: tuple[object, ...] = (None, "", {})
"""How 'not set' is written: left out by a program, empty in what the provider answers."""

RECEIVES_MAX = 1000
"""SQS takes a maxReceiveCount of 1 to 1,000 (SQS Developer Guide, 'dead-letter queues')."""


def dead_letter_queues(rows: Sequence[Row]) -> Iterator[Said]:
    """A redrive policy with a count on every queue that is not itself for dead letters."""
    queues = list(of_type(rows, QUEUE))
    policies = {id(q): _policy(q, rows) for q in queues}
    targets = [at(policy, "deadLetterTargetArn") for policy in policies.values() if policy is not None]
    for queue in queues:
        policy = policies[id(queue)]
        if policy is UNKNOWN:
            yield Unjudged(queue, "its redrive policy is not known yet")
        elif policy is not None:
            yield from _redriven(queue, policy)
        elif not _for_dead_letters(queue, targets, rows):
            if UNKNOWN in targets or any(_vague(r) for r in of_type(rows, REDRIVE, REDRIVE_ALLOW)):
                yield Unjudged(queue, "whether another queue's dead letters go there is not known yet")
            else:
                yield Wrong(
                    queue,
                    "a message that nobody can handle stays for ever, or is lost when it expires",
                    "add a dead-letter queue and a redrivePolicy with its ARN and a maxReceiveCount",
                )


def _redriven(queue: Row, policy: Any) -> Iterator[Said]:
    count = at(policy, "maxReceiveCount")
    target = at(policy, "deadLetterTargetArn")
    if target in NOTHING:
        yield Wrong(queue, "its redrive policy names no queue", "set deadLetterTargetArn")
    if count is UNKNOWN:
        yield Unjudged(queue, "after how many deliveries a message is dead is not known yet")
    elif not _is_count(count):
        yield Wrong(queue, f"maxReceiveCount is {count!r}", f"set a number from 1 to {RECEIVES_MAX}")


def _is_count(count: object) -> bool:
    if isinstance(count, str) and count.isdigit():
        count = int(count)
    return isinstance(count, int | float) and not isinstance(count, bool) and 1 <= count <= RECEIVES_MAX


def _policy(queue: Row, rows: Sequence[Row]) -> Any:
    """The queue's redrive policy, wherever it is said; None without one."""
    own = at(queue.inputs, "redrivePolicy")
    if own not in NOTHING:
        return document(own)
    for row in of_type(rows, REDRIVE):
        if _of(row, queue):
            return document(at(row.inputs, "redrivePolicy"))
    return None


def _for_dead_letters(queue: Row, targets: Sequence[Any], rows: Sequence[Row]) -> bool:
    if at(queue.inputs, "redriveAllowPolicy") not in NOTHING:
        return True
    if any(_of(row, queue) for row in of_type(rows, REDRIVE_ALLOW)):
        return True
    return any(isinstance(t, str) and t.rpartition(":")[2] in _names(queue) for t in targets)


def _of(row: Row, queue: Row) -> bool:
    """Whether a setting is for a queue: its `queueUrl` ends with the queue's name."""
    url = at(row.inputs, "queueUrl")
    return isinstance(url, str) and url.rpartition("/")[2] in _names(queue)


def _vague(row: Row) -> bool:
    return at(row.inputs, "queueUrl") is UNKNOWN


def _names(queue: Row) -> tuple[str, ...]:
    physical = at(queue.inputs, "name")
    return (queue.name, physical) if isinstance(physical, str) else (queue.name,)
