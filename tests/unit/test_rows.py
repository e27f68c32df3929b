"""Every program on AWS and k8s makes exactly the rows that tests/unit/rows says; `make rows` writes them again."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest

from infra.config import BACKBONE, BROKERS, SIZES
from infra.testing_pulumi import PROGRAMS, Recorded, Row, cloud, differences
from infra.testing_pulumi import kept as spelling
from infra.testing_pulumi.differences import ABSENT, applied, changes, difference, told
from infra.testing_pulumi.files import DIRECTORY, contents, main, problems, wanted
from infra.testing_pulumi.kept import kept, text
from stages.catalogue import MESH, STAGES

# the SDK warns of one of its own classes when it is loaded, which nobody uses
pytestmark = pytest.mark.filterwarnings("ignore:aws.ec2/encryptioncontrol:DeprecationWarning")


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_makes_the_rows_that_are_kept(name: str) -> None:
    if said := problems(name):
        pytest.fail("\n".join(said), pytrace=False)
    assert (DIRECTORY / f"{name}.json").read_text(encoding="utf-8") == contents(name), "not as `make rows` writes it"


def test_every_stage_broker_and_size_has_its_rows_and_nothing_else() -> None:
    keys = ("target", "stage", "broker", "system", "size")
    found = {tuple(program.config.get(key) for key in keys) for program in PROGRAMS.values()}
    one_cluster = [stage.name for stage in STAGES.values() if not stage.mesh]
    assert found == {
        *(("k8s", stage, None, None, None) for stage in STAGES),
        *(("aws", one_cluster[0], "sqs", None, size) for size in SIZES),
        *(("aws", stage, broker, None, size) for stage in one_cluster[1:] for broker in BROKERS for size in SIZES),
        *(("aws", "mesh", None, s, size) for s in (BACKBONE, *(s.name for s in MESH.systems)) for size in SIZES),
    }
    assert {path.stem for path in DIRECTORY.iterdir()} == PROGRAMS.keys()


def test_a_review_can_read_them() -> None:
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir()) < 2_000_000
    assert len(wanted("aws-async-kafka")["kubernetes:apps/v1:Deployment"]) > 8, "differences make a whole"


def _row(name: str, *, after: tuple[str, ...] = (), **inputs: Any) -> Row:
    urns = tuple(f"urn:pulumi:s::p::aws:sqs/queue:Queue::{each}" for each in after)
    return Row(type="aws:sqs/queue:Queue", name=name, inputs=inputs, dependencies=urns)


def test_a_row_is_kept_whole_and_in_a_spelling_for_readers() -> None:
    stack = "urn:pulumi:s::p::pulumi:pulumi:Stack"
    row = Row(
        type="kubernetes:core/v1:ConfigMap",
        name="c",
        inputs={
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "data": {"b": '{"x": 1}', "a": "1\n2", "c": "#!", "d": "sync"},
        },
        parent=f"{stack}$shop:aws:Part::part",
        provider=f"{stack}$pulumi:providers:kubernetes::cluster::cluster-id",
        protect=True,
        secrets=frozenset({"data"}),
        dependencies=(f"{stack}$aws:sqs/queue:Queue::q",),
        ignore_changes=("data",),
    )
    assert kept(Recorded(rows=[row], outputs={"stage": "sync"}), "sync", {"#!": "a.sh"}) == {
        "pulumi:pulumi:Stack": {"outputs": {"stage": "$stage"}, "providers": {"kubernetes": "cluster"}},
        "kubernetes:core/v1:ConfigMap": {
            "c": {
                "$after": {"aws:sqs/queue:Queue": ["q"]},
                "$ignore_changes": ["data"],
                "$parent": "shop:aws:Part::part",
                "$protect": True,
                "$secrets": ["data"],
                "data": {"a": {"$lines": ["1", "2"]}, "b": {"$json": {"x": 1}}, "c": {"$file": "a.sh"}, "d": "$stage"},
            }
        },
    }


def test_json_that_is_spelt_in_another_way_stays_a_text() -> None:
    texts = ['{"b": 1, "a": 2}', '{"a":1}', "{not json", "[1]"]
    (queue,) = kept(Recorded(rows=[_row("q", each=texts)]), "sync", {})["aws:sqs/queue:Queue"].values()
    assert queue == {"each": [*texts[:3], {"$json": [1]}]}


def test_what_many_wait_for_is_said_once() -> None:
    many = ("a", "b", "c")
    rows = [_row("x", after=many), _row("y", after=many), _row("z", after=many[:2])]
    found = kept(Recorded(rows=rows), "sync", {})["aws:sqs/queue:Queue"]
    assert found["y"] == {"$after": "as aws:sqs/queue:Queue::x"}
    assert found["z"] == {"$after": {"aws:sqs/queue:Queue": ["a", "b"]}}


BEFORE = {"Queue": {"a": {"n": 1, "l": [1, 2], "t~/": {"x": 1}}, "b": {}, "c": {"n": 1}}, "Topic": {"t": {}}}
AFTER = {"Queue": {"a": {"n": 1.5, "l": [1, 3], "t~/": {"y": None}}, "c": {"n": 1}, "d": {"n": 2}}, "Key": {"k": {}}}


def test_differences_make_one_program_of_the_other() -> None:
    found = difference(BEFORE, AFTER)
    assert found["new"] == {"Queue": {"d": {"n": 2}}, "Key": {"k": {}}}
    assert found["gone"] == {"Queue": ["b"], "Topic": ["t"]}
    assert found["changed"] == {
        "Queue": {"a": {"changed": {"/l/1": 3, "/n": 1.5, "/t~0~1/y": None}, "gone": ["/t~0~1/x"]}}
    }
    assert applied(BEFORE, json.loads(text(found))) == AFTER


def test_a_difference_is_told_by_resource_and_property() -> None:
    assert told(BEFORE, AFTER) == [
        "new: Key 'k'",
        "changed: Queue 'a' /l/1: 2 -> 3",
        "changed: Queue 'a' /n: 1 -> 1.5",
        "changed: Queue 'a' /t~0~1/x: 1 -> nothing",
        "changed: Queue 'a' /t~0~1/y: nothing -> null",
        "gone: Queue 'b'",
        "new: Queue 'd'",
        "gone: Topic 't'",
    ]
    assert told(AFTER, AFTER) == []


def test_of_long_texts_the_part_that_differs_is_shown() -> None:
    (said,) = told({"Q": {"a": {"t": "x" * 900 + "1" + "x" * 900}}}, {"Q": {"a": {"t": "x" * 900 + "2" + "x" * 900}}})
    assert "x1x" in said
    assert "x2x" in said
    assert len(said) < 400


def test_one_is_not_true() -> None:
    assert list(changes({"a": 1}, {"a": True})) == [("/a", 1, True)]
    assert list(changes({}, {"a": None})) == [("/a", ABSENT, None)]


def test_every_property_that_does_not_fit_has_a_line() -> None:
    long = {"name": "q" * 60, "other": ["r" * 60, "s" * 60], "none": []}
    assert text(long).splitlines() == [
        "{",
        ' "name": "' + "q" * 60 + '",',
        ' "other": ["' + "r" * 60 + '", "' + "s" * 60 + '"],',
        ' "none": []',
        "}",
    ]
    assert json.loads(text(long)) == long


def test_a_failure_says_which_row_and_how_files_are_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = wanted("aws-mesh-backbone")
    changed["aws:kms/key:Key"]["letters"]["deletionWindowInDays"] = 8
    monkeypatch.setattr("infra.testing_pulumi.files.wanted", lambda _name: changed)
    first, said, last = problems("aws-mesh-backbone")
    assert first == "program aws-mesh-backbone differs from tests/unit/rows/aws-mesh-backbone.json:"
    assert said == "changed: aws:kms/key:Key 'letters' /deletionWindowInDays: 8 -> 30"
    assert "`make rows`" in last


def test_nothing_is_written_unless_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 254
    assert "--write" in capsys.readouterr().err


@pytest.mark.parametrize("module", [cloud, differences, spelling])
def test_examples_in_docstrings_hold(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted
    assert not results.failed
