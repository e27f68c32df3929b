"""Is a dead letter read as what it is, and sent again as it was before it died?"""

from __future__ import annotations

import doctest
from typing import Any

import pytest

import infra.local.letters
import infra.local.render_messages
from infra.local.letters import letter, move, read, revived

BODY = '{"v":1,"id":"m-1","type":"CapturePayment","body":{"order_id":"o-1","key":"k-1","amount_cents":5}}'


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def _buried(**more: Any) -> dict[str, Any]:
    """As its consumer buried it."""
    return {
        "MessageId": "l-1",
        "ReceiptHandle": "h-1",
        "Body": BODY,
        "Attributes": {"SentTimestamp": "1795333800000", "ApproximateReceiveCount": "1"},
        "MessageAttributes": {
            "type": _text("CapturePayment"),
            "reason": _text("failed"),
            "detail": _text("ValueError: no"),
            "source": _text("payments-commands"),
            "died_ns": _text("77"),
            "died_utc": _text("2026-11-22T07:30:00Z"),
            "receives": _text("5"),
        },
        **more,
    }


WHERE = {"queue": "payments-commands", "dead_letters": "payments-commands-dlq", "consumer": "payments"}


def test_a_letter_that_its_consumer_buried_tells_why_and_since_when() -> None:
    assert letter(_buried(), **WHERE) == {
        "queue": "payments-commands",
        "dead_letter_queue": "payments-commands-dlq",
        "consumer": "payments",
        "id": "l-1",
        "reason": "failed",
        "detail": "ValueError: no",
        "since_utc": "2026-11-22T07:30:00Z",
        "died_ns": 77,
        "receives": 5,
        "type": "CapturePayment",
        "key": "k-1",
        "subject": "o-1",
        "body": BODY,
    }


def test_a_letter_that_the_broker_moved_has_no_reason() -> None:
    moved = _buried(
        MessageAttributes={"type": _text("CapturePayment")},
        Attributes={"SentTimestamp": "1795333800000", "ApproximateReceiveCount": "6", "MessageGroupId": "g"},
    )
    seen = letter(moved, **WHERE)
    assert (seen["reason"], seen["detail"], seen["died_ns"], seen["receives"]) == ("", "", 0, 6)
    assert (seen["since_utc"], seen["subject"]) == ("2026-11-22T07:50:00Z", "g")


def test_a_letter_that_nobody_can_read_is_shown_as_it_is() -> None:
    for body in (BODY[: len(BODY) // 2], "[]", "null", '{"body": 3, "type": 4}'):
        seen = letter({"MessageId": "l", "ReceiptHandle": "h", "Body": body}, **WHERE)
        assert (seen["body"], seen["key"], seen["subject"], seen["since_utc"]) == (body, "", "", "")


def test_what_is_sent_again_has_no_trace_of_its_death() -> None:
    assert revived(_buried()) == {"MessageBody": BODY, "MessageAttributes": {"type": _text("CapturePayment")}}


def test_a_fifo_letter_keeps_its_group_and_gets_an_id_that_the_queue_does_not_know_yet() -> None:
    again = revived(_buried(Attributes={"MessageGroupId": "o-1", "MessageDeduplicationId": "m-1"}))
    assert (again["MessageGroupId"], again["MessageDeduplicationId"]) == ("o-1", "redriven-l-1")


class Broker:
    """Remembers what it was asked for, and fails where it is told to."""

    def __init__(self, letters: list[dict[str, Any]], fails: str = "") -> None:
        self.waiting, self.fails, self.asked = letters, fails, []

    def __getattr__(self, name: str) -> Any:
        def ask(**arguments: Any) -> dict[str, Any]:
            if name == self.fails:
                raise ConnectionError(name)
            if name == "receive_message":
                batch, self.waiting = self.waiting[:10], self.waiting[10:]
                return {"Messages": batch} if batch else {}
            entries = arguments.get("Entries", [arguments])
            self.asked += [(name, entry.get("ReceiptHandle", entry.get("MessageBody"))) for entry in entries]
            return {}

        return ask


def _letters(count: int) -> list[dict[str, Any]]:
    return [_buried(MessageId=f"l-{n}", ReceiptHandle=f"h-{n}", Body=f"b-{n}") for n in range(count)]


def test_reading_gives_every_letter_back() -> None:
    broker = Broker(_letters(13))
    assert [message["MessageId"] for message in read(broker, "dead")] == [f"l-{n}" for n in range(13)]
    assert broker.asked == [("change_message_visibility_batch", f"h-{n}") for n in range(13)]


def test_a_letter_is_deleted_only_after_it_was_sent() -> None:
    broker = Broker(_letters(1))
    assert move(broker, "dead", "live", None) == 1
    assert broker.asked == [("send_message", "b-0"), ("delete_message", "h-0")]
    broken = Broker(_letters(1), fails="send_message")
    with pytest.raises(ConnectionError):
        move(broken, "dead", "live", None)
    assert broken.asked == [("change_message_visibility_batch", "h-0")], "given back, not deleted"


def test_letters_that_are_not_meant_are_given_back() -> None:
    broker = Broker(_letters(3))
    assert move(broker, "dead", "live", ["l-1"]) == 1
    assert broker.asked == [
        ("send_message", "b-1"),
        ("delete_message", "h-1"),
        ("change_message_visibility_batch", "h-0"),
        ("change_message_visibility_batch", "h-2"),
    ]


def test_examples_in_docstrings_hold() -> None:
    for module in (infra.local.letters, infra.local.render_messages):
        results = doctest.testmod(module)
        assert results.attempted
        assert not results.failed
