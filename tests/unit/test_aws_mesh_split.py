"""Stacks of a stage on AWS: which, in which order, and what one that fails may touch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra.aws.preflight import Machine, lacks
from infra.aws.rollout import Outcome, build, raze
from infra.aws.split import plan, standing
from infra.aws.testing import FakeWorkspace, check_workspace
from infra.config import options
from stages.catalogue import ASYNC, MESH, STAGES

FLEET = {"domain": "shop.example.com", "image": "repository:1", "region": "eu-central-1"}
SYSTEMS = tuple(f"shop-{system.name}" for system in MESH.systems)
PLAN = plan(MESH, "shop", FLEET)


def _quiet(_line: str) -> None:
    pass


def test_a_mesh_has_a_stack_per_system_behind_the_backbone() -> None:
    assert [(p.stack, p.system, p.needs) for p in PLAN.building] == [
        ("shop-backbone", "backbone", ()),
        ("shop-commerce", "commerce", ("shop-backbone",)),
        ("shop-fulfilment", "fulfilment", ("shop-backbone",)),
        ("shop-payments", "payments", ("shop-backbone",)),
        ("shop-engagement", "engagement", ("shop-backbone",)),
    ]


def test_down_goes_the_other_way_round_and_keeps_the_backbone_for_whoever_stands_on_it() -> None:
    assert [p.stack for p in PLAN.razing] == [*reversed(SYSTEMS), "shop-backbone"]
    assert set(PLAN.razing[-1].needs) == set(SYSTEMS)


def test_a_stage_without_a_mesh_is_one_stack() -> None:
    (only,) = plan(ASYNC, "shop", FLEET).parts
    assert (only.stack, only.system, only.needs) == ("shop", None, ())


def test_every_stacks_configuration_is_one_that_the_program_takes() -> None:
    for part in PLAN.parts:
        found = options({"fleet": dict(part.fleet), **dict(part.config)}, part.stack)
        assert (found.stage, found.target, found.name, found.system) == ("mesh", "aws", "shop", part.system)
        assert found.region == "eu-central-1"


def test_what_makes_a_stack_what_it_is_cannot_be_overruled() -> None:
    part = plan(MESH, "shop", {"system": "payments", "stage": "sync", "name": "other"}).parts[0]
    assert dict(part.config)["system"] == "backbone"
    assert part.fleet == ()


def test_a_broken_system_touches_no_other_and_all_others_are_done() -> None:
    workspace = FakeWorkspace()
    assert build(PLAN, workspace, _quiet).ok
    before = dict(workspace.there)
    workspace.fails = {"shop-fulfilment"}

    report = build(plan(MESH, "shop", FLEET), workspace, _quiet)

    assert report.stacks(Outcome.FAILED) == ("shop-fulfilment",)
    assert report.stacks(Outcome.DONE) == ("shop-backbone", "shop-commerce", "shop-payments", "shop-engagement")
    assert workspace.there == before
    assert report.summary.splitlines() == [
        "done: shop-backbone, shop-commerce, shop-payments, shop-engagement; failed: shop-fulfilment; not begun: none",
        "shop-fulfilment: up failed; look at shop-fulfilment",
    ]


def test_without_a_backbone_no_system_is_begun() -> None:
    workspace = FakeWorkspace(fails={"shop-backbone"})

    report = build(PLAN, workspace, _quiet)

    assert report.stacks(Outcome.NOT_BEGUN) == SYSTEMS
    assert workspace.touched == [("up", "shop-backbone")]
    assert "shop-payments: needs shop-backbone first" in report.summary


def test_a_backbone_stays_as_long_as_a_system_could_not_be_destroyed() -> None:
    workspace = FakeWorkspace()
    build(PLAN, workspace, _quiet)
    workspace.fails = {"shop-payments"}

    report = raze(PLAN, workspace, _quiet)

    assert report.stacks(Outcome.FAILED) == ("shop-payments",)
    assert report.stacks(Outcome.NOT_BEGUN) == ("shop-backbone",)
    assert set(workspace.there) == {"shop-payments", "shop-backbone"}


def test_doing_it_again_finishes_what_failed() -> None:
    workspace = FakeWorkspace(fails={"shop-backbone"})
    build(PLAN, workspace, _quiet)
    workspace.fails = set()

    assert build(PLAN, workspace, _quiet).ok
    assert raze(PLAN, workspace, _quiet).ok
    assert workspace.there == {}


def test_what_is_to_be_razed_is_what_stands_whichever_stage_it_was() -> None:
    half = standing(STAGES.values(), "shop", {"shop-backbone", "shop-payments", "other"})
    single = standing(STAGES.values(), "shop", {"shop", "other-backbone"})

    assert half is not None
    assert [p.stack for p in half.razing] == ["shop-payments", "shop-backbone"]
    assert single is not None
    assert [p.stack for p in single.razing] == ["shop"]
    assert standing(STAGES.values(), "shop", {"other"}) is None


def test_the_fake_keeps_the_contract_of_a_workspace() -> None:
    workspace = FakeWorkspace()
    parts = plan(MESH, "shop", FLEET).parts

    def broken(stack: str) -> None:
        workspace.fails = {stack}

    def owner(stack: str, key: str, value: str | None) -> None:
        workspace.own[stack] = {key: value} if value else {}

    check_workspace(lambda: workspace, broken, owner, (parts[0], parts[1]))


GOOD = Machine(
    cli="/bin/pulumi",
    project=True,
    backend="s3://state",
    passphrase=True,
    own_secrets_provider=False,
    region="us-east-1",
    credentials=True,
)


def test_nothing_lacks_where_all_is_there() -> None:
    assert lacks(GOOD, Path("x")) == []


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({"cli": None}, ("pulumi", "PATH", "install")),
        ({"project": False}, ("Pulumi.yaml", "STAGES_PROJECT")),
        ({"backend": None}, ("state", "pulumi login")),
        ({"passphrase": False}, ("passphrase", "PULUMI_CONFIG_PASSPHRASE")),
        ({"region": None}, ("region", "AWS_REGION")),
        ({"credentials": False}, ("credentials", "aws sso login")),
    ],
)
def test_every_lack_is_one_line_with_its_remedy(machine: dict[str, object], words: tuple[str, ...]) -> None:
    (line,) = lacks(replace(GOOD, **machine), Path("x"))  # type: ignore[arg-type]  # replace() checks the names
    assert "\n" not in line
    assert all(word in line for word in words)


@pytest.mark.parametrize("machine", [{"backend": "https://api.pulumi.com"}, {"own_secrets_provider": True}])
def test_no_passphrase_is_asked_for_where_a_key_of_others_keeps_secrets(machine: dict[str, object]) -> None:
    assert lacks(replace(GOOD, passphrase=False, **machine), Path("x")) == []  # type: ignore[arg-type]
