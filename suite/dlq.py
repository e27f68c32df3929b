"""Dead letters for people: what `stages dlq` prints, and what it does about them.

list      one line per queue: how many, why, since when
show      the letters themselves, bodies included
redrive   back to the queue they came from, counted
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from suite.ports import BadInput, Letter, Target
from suite.show import Page, table

BODY_SHOWN = 2000
"""Characters of a body that people see; --json has all of it."""


def summary(target: Target, name: str) -> Page:
    """Per queue: how many letters, of which reasons, since when."""
    by_queue: dict[str, list[Letter]] = {}
    for letter in target.dead_letters(name):
        by_queue.setdefault(letter.record.queue, []).append(letter)
    rows = [_row(queue, letters) for queue, letters in sorted(by_queue.items())]
    if not rows:
        return Page({"deployment": name, "queues": []}, (Text(f"{name}: no dead letters"),))
    printed = table("queue", "letters", "why", "since")
    for row in rows:
        why = ", ".join(f"{count} {reason}" for reason, count in row["reasons"].items())
        printed.add_row(row["queue"], str(row["letters"]), why, row["since_utc"] or "unknown")
    return Page({"deployment": name, "queues": rows}, (printed,))


def letters(target: Target, name: str, queue: str | None, ids: Sequence[str]) -> Page:
    """The letters of one queue or of all, or just those with these ids; BadInput for one that is not there."""
    there = target.dead_letters(name)
    _known(name, there, queue, ids)
    chosen = [x for x in there if queue in (None, x.record.queue) and (not ids or x.record.id in ids)]
    content = [_letter(letter) for letter in chosen]
    text = [Text(_printed(letter)) for letter in content] or [Text(f"{name}: no dead letters")]
    return Page({"deployment": name, "letters": content}, tuple(text))


def redrive(target: Target, name: str, queue: str | None, ids: Sequence[str]) -> Page:
    """Move letters back; BadInput, and nothing moved, for a queue or letter that is not there."""
    there = target.dead_letters(name)
    _known(name, there, queue, ids)
    done = target.redrive(name, queue, tuple(ids) or None)
    content = {"deployment": name, "moved": done.moved, "left": done.left}
    return Page(content, (Text(f"{name}: {done.moved} moved back to their queue, {done.left} left"),))


def _known(name: str, there: Sequence[Letter], queue: str | None, ids: Sequence[str]) -> None:
    queues = sorted({letter.record.queue for letter in there})
    problems = []
    if queue is not None and there and queue not in queues:
        problems.append(f"{name} has no dead letters of queue {queue!r}; it has some of {', '.join(queues)}")
    known = {letter.record.id for letter in there}
    problems += [f"{name} has no dead letter {i!r}: 'stages dlq show' lists them" for i in ids if i not in known]
    if problems:
        raise BadInput(problems)


def _row(queue: str, letters: Sequence[Letter]) -> dict[str, Any]:
    reasons = Counter(letter.record.reason or "too many deliveries" for letter in letters)
    since = [letter.since_utc for letter in letters if letter.since_utc]
    return {
        "queue": queue,
        "dead_letter_queue": letters[0].dead_letter_queue,
        "consumer": letters[0].consumer,
        "letters": len(letters),
        "reasons": dict(reasons.most_common()),
        "since_utc": min(since, default=""),
    }


def _letter(letter: Letter) -> dict[str, Any]:
    record = letter.record
    return {
        "id": record.id,
        "queue": record.queue,
        "consumer": letter.consumer,
        "reason": record.reason or "too many deliveries",
        "detail": record.detail,
        "since_utc": letter.since_utc,
        "receives": record.receives,
        "type": record.type,
        "key": record.key,
        "subject": record.subject,
        "body": letter.body,
    }


def _printed(letter: dict[str, Any]) -> str:
    body = letter["body"]
    shown = body if len(body) <= BODY_SHOWN else f"{body[:BODY_SHOWN]}... ({len(body)} characters)"
    about = " ".join(f"{what} {letter[what]}" for what in ("type", "subject", "key") if letter[what])
    return (
        f"{letter['id']}\n"
        f"  queue     {letter['queue']} (read by {letter['consumer']})\n"
        f"  why       {letter['reason']}{': ' + letter['detail'] if letter['detail'] else ''}\n"
        f"  since     {letter['since_utc'] or 'unknown'}, after {letter['receives']} deliveries\n"
        f"  about     {about or 'cannot be read'}\n"
        f"  body      {shown}\n"
    )
