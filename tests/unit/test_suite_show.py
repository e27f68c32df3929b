"""What `stages show` prints of a stage: who answers for what, where owners are named."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from stages.catalogue import ASYNC, MESH
from suite import show


def printed(page: show.Page) -> str:
    console = Console(width=160, file=io.StringIO(), color_system=None)
    for part in page.text:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_mesh_shows_owners_and_what_they_answer_for() -> None:
    page = show.stage(MESH, ())
    lines = [" ".join(line.split()) for line in printed(page).splitlines()]
    assert (
        "payments team-money payments 10.3.0.0/16 order-completed (of place-order) 3000 ms 99% 10 of 1,000 requests"
        in lines
    )
    governance: list[Any] = page.content["governance"]
    assert [(g["system"], g["owner"]) for g in governance] == [
        ("commerce", "team-storefront"),
        ("fulfilment", "team-warehouse"),
        ("payments", "team-money"),
        ("engagement", "team-growth"),
    ]
    assert {o["budget"] for g in governance for o in g["objectives"]} == {None}


def test_a_stage_without_owners_shows_no_such_table() -> None:
    page = show.stage(ASYNC, ())
    assert page.content["governance"] == []
    assert "error budget" not in printed(page)
