"""An estimate counts what the model needs, prices every line from the dated table, and adds up."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.aws.bill import HOURS, Amount, Load, bill, nodes_in, servers_of, traffic
from infra.aws.cost import BROKERS, estimate, path, possible, prices, steps
from infra.aws.sizing import PRODUCTION, SIZES, TRIAL
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.model import Kind
from suite import estimate as pages
from suite.ports import BadInput
from workloads.broker.sqs import WAIT_S

EVERY = [
    (stage, size, broker)
    for stage in STAGES.values()
    for size in SIZES.values()
    for broker in BROKERS
    if possible(stage, broker)
]


def amounts(stage: Any, **how: Any) -> dict[str, Amount]:
    return {a.what: a for a in bill(stage, how.pop("sizing", PRODUCTION), **how)}


def test_the_price_table_says_when_where_and_from_which_page() -> None:
    table = prices()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", table.date)
    assert (table.region, table.currency) == ("us-east-1", "USD")
    assert "estimate" in table.basis.lower()
    assert all(price.usd > 0 and price.per and " pricing: " in price.source for price in table.prices.values())


def test_every_price_is_used_by_some_stage_and_every_amount_has_a_price() -> None:
    # nothing of the shop's is published to a standard topic, as long as the read model wants order
    plain = replace(ASYNC, channels=tuple(c for c in ASYNC.channels if c.kind is Kind.CALL or c.callee != "cache"))
    every = [*EVERY, (plain, PRODUCTION, "sqs")]
    used = {line.amount.price for stage, size, broker in every for line in estimate(stage, size, broker).lines}
    assert used == set(prices().prices)


def test_the_mesh_pays_for_its_clusters_by_the_hour() -> None:
    found = amounts(MESH)
    control = next(a for a in found.values() if a.price == "eks-cluster")
    assert (control.pieces, control.units) == (4, 4 * HOURS)
    lines = {line.amount.price: line for line in estimate(MESH, PRODUCTION).lines}
    assert lines["eks-cluster"].monthly == pytest.approx(4 * 730 * 0.10)
    assert lines["nat-gateway"].monthly == pytest.approx(4 * 3 * 730 * 0.045)
    assert lines["db.m7g.large-multi-az"].monthly == pytest.approx(4 * 730 * 0.337)


def test_a_trial_has_one_of_everything_that_is_paid_by_the_hour() -> None:
    lines = {line.amount.price: line.amount.pieces for line in estimate(SYNC, TRIAL).lines}
    assert lines["nat-gateway"] == 1
    assert "interface-endpoint" not in lines
    assert {name for name in lines if name.startswith("db.")} == {"db.t4g.medium"}


def test_every_system_with_records_has_a_server_and_only_those() -> None:
    assert servers_of(SYNC) == ("commerce", "fulfilment", "payments", "engagement")
    none = replace(SYNC, services=tuple(replace(s, database=s.system == "payments") for s in SYNC.services))
    assert servers_of(none) == ("payments",)


def test_messages_follow_from_the_channels() -> None:
    """By hand: weights browse 2, register 2, place 3, track 2, cancel 2, insights 2, in all 13."""
    found = traffic(ASYNC)
    assert found.commands == pytest.approx((3 * 6 + 2 * 6) / 13)  # three commands and their answers
    assert found.published == 0  # the read model wants order of both producers: their topics are FIFO
    assert found.ordered_published == found.from_ordered / (17 / 7) == pytest.approx((2 + 3 + 2) / 13)
    assert found.ordered_delivered == pytest.approx((2 + 3 + 2) / 13)  # the read model hears of all three
    assert found.delivered == pytest.approx((2 * 2 + 3 * 2) / 13)
    assert traffic(SYNC) == replace(found, **dict.fromkeys(found.__dataclass_fields__, 0.0))


def test_a_stage_without_messages_pays_for_no_broker() -> None:
    assert "messages" not in estimate(SYNC, PRODUCTION, "sqs").parts
    assert "messages" not in estimate(SYNC, PRODUCTION, "kafka").parts


def test_twice_the_load_costs_twice_where_it_is_paid_by_use_and_nothing_where_it_is_paid_by_the_hour() -> None:
    once, twice = Load(), Load(requests_per_s=2 * Load().requests_per_s)
    for one, two in zip(bill(MESH, PRODUCTION, load=once), bill(MESH, PRODUCTION, load=twice), strict=True):
        used = one.price in ("internet-data", "transit-data", "zone-data", "sqs-fifo-request", "sns-fifo-publish")
        if used:
            assert two.units == pytest.approx(2 * one.units)
        if one.resource:
            assert two.units == one.units


def test_polling_empty_queues_is_assumed_as_the_services_do_it() -> None:
    assert Load().poll_wait_s == WAIT_S


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_there_is_a_node_for_every_pod_of_a_service_and_room_for_all(size: Any) -> None:
    assert all(nodes_in(MESH, c.name, size, Load()) >= size.replicas[0] for c in MESH.clusters)
    tight = Load(node_cpu=0.2)
    assert nodes_in(SYNC, "shop", size, tight) >= math.ceil(9 * size.replicas[0] * 0.1 / 0.2)


@pytest.mark.parametrize(("size", "broker"), [(s, b) for s in SIZES.values() for b in BROKERS])
def test_steps_lead_from_nothing_to_the_whole_estimate(size: Any, broker: str) -> None:
    estimates = path(size, broker)
    added = steps(estimates)
    reached = 0.0
    for e, step in zip(estimates, added, strict=True):
        reached += sum(step.values())
        assert reached == pytest.approx(e.monthly, abs=0.1)
        assert sum(e.parts.values()) == pytest.approx(e.monthly)


def test_each_step_of_the_path_costs_more_than_the_one_before() -> None:
    costs = [e.monthly for e in path(PRODUCTION)]
    assert costs == sorted(costs)
    assert set(steps(path(PRODUCTION))[1]) <= {"messages", "network", "watching", "keys and trust"}, (
        "async adds messages"
    )


def test_a_page_as_json_adds_up() -> None:
    content: Any = json.loads(json.dumps(pages.page("aws-mesh", "production", "sqs").content))
    assert sum(line["monthly"] for line in content["lines"]) == pytest.approx(content["monthly"], abs=0.5)
    assert [step["stage"] for step in content["steps"]] == ["sync", "async", "mesh"]
    assert content["steps"][-1]["monthly"] == content["monthly"]
    assert content["prices_of"] == prices().date
    assert "requests per s: 10" in content["assumptions"]


@pytest.mark.parametrize(
    ("name", "size", "broker", "said"),
    [
        ("mesh", "production", "sqs", "stages show aws-mesh --cost"),
        ("aws-mehs", "production", "sqs", "there are aws-sync, aws-async, aws-mesh"),
        ("aws-mesh", "huge", "sqs", "there are production and trial"),
        ("aws-mesh", "trial", "rabbit", "there are sqs and kafka"),
        ("aws-mesh", "trial", "kafka", "leave out --broker"),
    ],
)
def test_what_there_is_no_estimate_of_is_refused_with_what_there_is(
    name: str, size: str, broker: str, said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        pages.page(name, size, broker)
    assert [said in problem for problem in refused.value.problems] == [True]


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(BadInput) as refused:
        pages.page("x", "y", "z")
    assert len(refused.value.problems) == 3


README = Path(__file__).parents[2].joinpath("README.md").read_text()


def about(stage: Any, size: Any, broker: str = "sqs") -> str:
    """As the README says it: to ten dollars."""
    return f"{round(estimate(stage, size, broker).monthly, -1):,.0f}"


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_the_readme_says_what_the_estimate_says(stage: Any) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| aws, `{stage.name}` |")]
    assert f"| {about(stage, PRODUCTION)} (trial: {about(stage, TRIAL)}) |" in row
    assert ("kafka" in row) == (stage.name == "async")
    if stage.name == "async":
        assert f"`broker: kafka`, {about(stage, PRODUCTION, 'kafka')})" in row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["aws-async", "--cost"], 0, "what each step costs"),
        (["aws-async"], 254, "stages show aws-async --cost"),
        (["async", "--cost"], 254, "only AWS sends a bill"),
        (["async", "--size", "trial"], 254, "say --cost too"),
    ],
)
def test_the_command_tells_the_estimate_or_how_to_ask_for_it(words: list[str], status: int, said: str) -> None:
    stages = Path(sys.executable).with_name("stages")
    done = subprocess.run([stages, "show", *words], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, said in " ".join((done.stdout + done.stderr).split())) == (status, True), done.stderr


@pytest.mark.slow
def test_an_estimate_needs_no_sdk() -> None:
    code = (
        "import sys; from suite.estimate import page; page('aws-mesh', 'production', 'sqs'); "
        "print([m for m in sys.modules if m.split('.')[0] in ('pulumi', 'pulumi_aws', 'pulumi_kubernetes', 'boto3')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
