"""What a fleet says reaches every stack of a mesh, unless the stack's owner says otherwise; and a reader is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.aws.fleet import Act, Decision, Known, decide
from infra.aws.rollout import build
from infra.aws.split import plan
from infra.aws.stack_file import StackFileError, read
from infra.aws.testing import FakeWorkspace
from infra.config import options
from stages.catalogue import MESH, SYNC

OLD = {"image": "shop:1", "domain": "shop.example.com", "region": "eu-west-1"}
STACKS = tuple(part.stack for part in plan(MESH, "shop", {}).parts)
ALL = ", ".join(STACKS)


def _up(workspace: FakeWorkspace, fleet: dict[str, str], region: str | None = None) -> tuple[str, ...]:
    """What `stages up` does: decide by what is known, then build; what it says."""
    whole = plan(MESH, "shop", fleet)
    known = {s: workspace.known(s, stands=s in workspace.there) for s in STACKS}
    decided = decide(whole, known, region)
    assert decided.problems == ()
    assert build(decided.plan, workspace, lambda _: None).ok
    return decided.lines


@pytest.fixture
def workspace() -> FakeWorkspace:
    """All five stacks, as the first `stages up` leaves them."""
    workspace = FakeWorkspace()
    _up(workspace, OLD)
    workspace.touched.clear()
    return workspace


def test_new_stacks_are_told_everything() -> None:
    assert _up(FakeWorkspace(), OLD) == (
        f"domain becomes shop.example.com: {ALL}",
        f"image becomes shop:1: {ALL}",
        f"region becomes eu-west-1: {ALL}",
    )


def test_again_without_a_change_nothing_is_decided(workspace: FakeWorkspace) -> None:
    assert _up(workspace, OLD) == ()


def test_a_changed_value_reaches_every_stack_backbone_first(workspace: FakeWorkspace) -> None:
    assert _up(workspace, {**OLD, "image": "shop:2"}) == (f"image becomes shop:2 (was shop:1): {ALL}",)

    assert [stack for _, stack in workspace.touched] == list(STACKS)
    assert {stack: config["image"] for stack, config in workspace.there.items()} == dict.fromkeys(STACKS, "shop:2")


def test_what_a_systems_owner_set_stays_and_is_told_with_the_way_back(workspace: FakeWorkspace) -> None:
    workspace.own["shop-payments"] = {"image": "shop:held"}

    lines = _up(workspace, {**OLD, "image": "shop:2"})

    others = ", ".join(s for s in STACKS if s != "shop-payments")
    kept = "shop-payments keeps image shop:held of its own, the fleet's is shop:2"
    assert lines == (
        f"image becomes shop:2 (was shop:1): {others}",
        f"{kept}; `pulumi config rm image -s shop-payments` lets it follow",
    )
    assert workspace.there["shop-payments"]["image"] == "shop:held"
    assert workspace.there["shop-commerce"]["image"] == "shop:2"

    workspace.own.clear()
    _up(workspace, {**OLD, "image": "shop:2"})
    assert workspace.there["shop-payments"]["image"] == "shop:2"


def test_an_owner_can_hold_the_value_that_the_fleet_has_today(workspace: FakeWorkspace) -> None:
    workspace.own["shop-payments"] = {"image": "shop:1"}
    assert _up(workspace, OLD) == ()  # both say the same: nothing to tell

    _up(workspace, {**OLD, "image": "shop:2"})

    assert workspace.there["shop-payments"]["image"] == "shop:1"


def test_what_the_fleet_says_no_more_goes(workspace: FakeWorkspace) -> None:
    _up(workspace, {**OLD, "size": "trial"})

    assert _up(workspace, OLD) == (f"size loses trial of the fleet, the default counts: {ALL}",)
    assert all("size" not in config for config in workspace.there.values())


def test_every_decision_says_which_key_of_which_stack_and_why() -> None:
    known = {
        "shop-backbone": Known(stands=True, fleet={**OLD, "size": "trial"}),
        "shop-payments": Known(stands=True, fleet=OLD, own={"image": "shop:0"}),
    }

    decided = decide(plan(MESH, "shop", {**OLD, "image": "shop:2"}), known, None)

    def of(stack: str) -> list[Decision]:
        return [d for d in decided.decisions if d.stack == stack]

    assert of("shop-backbone") == [
        Decision(stack="shop-backbone", key="image", act=Act.SET, before="shop:1", fleet="shop:2"),
        Decision(stack="shop-backbone", key="size", act=Act.REMOVED, before="trial", fleet=None),
    ]
    assert of("shop-payments") == [
        Decision(stack="shop-payments", key="image", act=Act.KEPT, before="shop:1", fleet="shop:2", own="shop:0"),
    ]
    assert [(d.key, d.act) for d in of("shop-commerce")] == [("domain", "set"), ("image", "set"), ("region", "set")]


def test_what_makes_a_stack_what_it_is_is_no_word_of_the_fleet() -> None:
    decided = decide(plan(MESH, "shop", {"system": "payments", "stage": "sync"}), {}, None)
    assert decided.decisions == ()


def test_a_new_deployment_takes_the_users_region_and_one_that_stands_stays(workspace: FakeWorkspace) -> None:
    without = {key: value for key, value in OLD.items() if key != "region"}
    elsewhere = FakeWorkspace()
    _up(elsewhere, without, region="us-west-2")
    assert elsewhere.there["shop-payments"]["region"] == "us-west-2"

    del workspace.there["shop-payments"], workspace.fleet["shop-payments"]
    _up(workspace, without, region="us-west-2")
    assert {config["region"] for config in workspace.there.values()} == {"eu-west-1"}


@pytest.mark.parametrize("known", [Known(stands=True, fleet=OLD), Known(stands=True, own={"region": "eu-west-1"})])
def test_another_region_is_refused_where_something_stands(known: Known) -> None:
    decided = decide(plan(SYNC, "shop", {"region": "us-west-2"}), {"shop": known}, None)
    if known.own:
        assert decided.problems == ()  # the stack's own word counts
    else:
        (problem,) = decided.problems
        assert "stands in eu-west-1: it does not move" in problem
    assert decide(plan(SYNC, "shop", {"region": "us-west-2"}), {"shop": Known(fleet=OLD)}, None).problems == ()


def test_a_system_cannot_be_in_a_region_of_its_own(workspace: FakeWorkspace) -> None:
    workspace.own["shop-payments"] = {"region": "us-west-2"}
    known = {s: workspace.known(s, stands=True) for s in STACKS}

    (problem,) = decide(plan(MESH, "shop", OLD), known, None).problems

    assert problem.startswith("region is 'us-west-2' for shop-payments")


def test_the_program_takes_a_stacks_own_word_before_the_fleets() -> None:
    raw = {"stage": "mesh", "target": "aws", "system": "payments", "fleet": '{"image": "shop:2", "size": "trial"}'}
    assert options(raw, "s").image == "shop:2"
    found = options({**raw, "image": "shop:1"}, "s")
    assert (found.image, found.size) == ("shop:1", "trial")


def test_a_stacks_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.shop-payments.yaml"
    assert read(path).own == {}
    path.write_text(
        "encryptionsalt: v1:x\n"
        "config:\n"
        "  staged-decoupling:image: shop:1\n"
        "  staged-decoupling:availability_zones: [a, b]\n"
        "  staged-decoupling:broker_url:\n    secure: v1:abc\n"
        "  staged-decoupling:fleet:\n    image: shop:2\n    owner: 7\n"
        "  aws:region: eu-west-1\n"
    )

    found = read(path)

    assert found.own == {"image": "shop:1", "availability_zones": '["a", "b"]'}
    assert found.fleet == {"image": "shop:2", "owner": "7"}
    assert found.secrets == ("staged-decoupling:broker_url",)
    path.write_text("config: [")
    with pytest.raises(StackFileError, match="cannot be read"):
        read(path)
