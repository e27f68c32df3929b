"""Dead letters as people see them: counted by queue and reason, shown with their bodies, moved back."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.history import DeadLetter
from suite import dlq
from suite.ports import BadInput, Letter
from suite.testing.world import World


def letter(number: int, queue: str = "payments-commands", reason: str = "malformed") -> Letter:
    return Letter(
        record=DeadLetter(queue=queue, id=f"m-{number}", reason=reason, detail="no JSON", receives=1),
        dead_letter_queue=f"{queue}-dlq",
        consumer=queue.partition("-")[0],
        since_utc=f"2026-11-22T07:30:0{number}Z",
        body='{"v":1,"ty' + "x" * 3000,
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, letters=[letter(1), letter(2), letter(3, reason=""), letter(4, "email-events", "foreign")])


def test_the_list_counts_letters_by_queue_and_reason(world: World) -> None:
    rows = dlq.summary(world.target, "mine").content["queues"]
    assert [(r["queue"], r["letters"], r["reasons"]) for r in rows] == [
        ("email-events", 1, {"foreign": 1}),
        ("payments-commands", 3, {"malformed": 2, "too many deliveries": 1}),
    ]
    assert rows[1]["since_utc"] == "2026-11-22T07:30:01Z"


def test_a_letter_is_shown_whole_in_json_and_cut_for_people(world: World) -> None:
    page = dlq.letters(world.target, "mine", "payments-commands", ("m-2",))
    assert [x["id"] for x in page.content["letters"]] == ["m-2"]
    assert len(page.content["letters"][0]["body"]) == 3010
    assert "(3010 characters)" in str(page.text[0])


def test_what_is_not_there_is_refused_before_anything_is_moved(world: World) -> None:
    with pytest.raises(BadInput) as caught:
        dlq.redrive(world.target, "mine", "shipping-commands", ("m-9",))
    assert len(caught.value.problems) == 2
    assert len(world.letters) == 4


def test_redrive_counts_what_it_moved(world: World) -> None:
    assert dlq.redrive(world.target, "mine", None, ()).content == {"deployment": "mine", "moved": 4, "left": 0}
    assert "no dead letters" in str(dlq.summary(world.target, "mine").text[0])
