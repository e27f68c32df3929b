"""A run's files are whole, in their place, and never mixed with another run's."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stages.history import Phase, dump
from suite.ports import BadInput
from suite.publish import rewrite
from suite.store import Store
from suite.tail import Tail

NOW = datetime(2026, 11, 22, 4, 5, 6, tzinfo=UTC)


def test_a_run_gets_a_directory_of_its_own_and_latest_points_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.create(None, now=NOW, seed=7)
    assert store.directory == Path("runs/20261122T040506Z-7")
    assert Path("runs/latest").resolve() == store.directory.resolve()


def test_a_second_run_in_the_same_second_is_refused_instead_of_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Store.create(None, now=NOW, seed=7)
    with pytest.raises(BadInput, match="another run"):
        Store.create(None, now=NOW, seed=7)


def test_a_directory_of_the_users_loses_the_verdict_of_an_earlier_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    Store.create(tmp_path, now=NOW, seed=7)
    assert not (tmp_path / "verdict.json").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput):
        Store.create(tmp_path / "file", now=NOW, seed=7)
    with pytest.raises(BadInput, match="--out"):
        Store.create(tmp_path / "file" / "below", now=NOW, seed=7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory_is_bad_input(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="--out"):
        Store.create(tmp_path / "run", now=NOW, seed=7)


def test_reports_cannot_be_rewritten_where_no_run_finished(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        rewrite(tmp_path)
    assert len(caught.value.problems) == 2


def test_a_tail_yields_each_record_once_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    tail = Tail([path])
    assert tail.new() == []
    first, second = Phase(name="baseline", at_ns=1), Phase(name="drain", at_ns=2)
    line = dump(second)
    path.write_text(dump(first) + "\n" + line[:10])
    assert tail.new() == [first]
    with path.open("a") as file:
        file.write(line[10:] + "\n")
    assert tail.new() == [second]
    assert tail.new() == []
