"""What the AWS programs would create breaks no rule of the policy pack, and is what an estimate counts."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from infra.aws.bill import INTERFACE_ENDPOINT, ZONES, Load, bill
from infra.aws.sizing import SIZES
from infra.config import BACKBONE
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.objects import objects
from infra.k8s.pulumi import name_of, token_of
from infra.k8s.site import Site
from infra.policy import Row, judge, plain
from infra.policy import rows as policy_rows
from infra.policy.tags import taggable
from infra.testing_pulumi import recorded
from stages.catalogue import STAGES

# the SDK warns of one of its own classes when it is loaded, which nobody uses
pytestmark = pytest.mark.filterwarnings("ignore:aws.ec2/encryptioncontrol:DeprecationWarning")

IMAGE = "registry.example.com/shop@sha256:" + 64 * "0"

ONE_CLUSTER = [
    ("sync", "sqs", "production"),
    ("sync", "sqs", "trial"),
    ("async", "sqs", "production"),
    ("async", "kafka", "production"),
]


def stack(stage: str, broker: str, size: str, system: str | None = None, *, preview: bool = False) -> tuple[Row, ...]:
    """Rows of one stack, as the policy pack sees them."""
    parts = ("aws", stage, system or (broker if stage == "async" else ""), "" if size == "production" else size)
    return policy_rows(recorded("-".join(filter(None, parts)), preview=preview).rows)


def parts_of(stage: str) -> tuple[str | None, ...]:
    """Systems whose stacks make up a stage; None for one that is not split."""
    made = STAGES[stage]
    return (BACKBONE, *(s.name for s in made.systems)) if made.mesh else (None,)


def whole(stage: str, broker: str, size: str) -> tuple[Row, ...]:
    """Rows of all stacks of a stage."""
    return tuple(row for part in parts_of(stage) for row in stack(stage, broker, size, part))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "broker", "size"), ONE_CLUSTER)
def test_a_stage_in_one_cluster_breaks_no_rule_and_nothing_is_left_unjudged(stage: str, broker: str, size: str) -> None:
    found = stack(stage, broker, size)
    assert len(found) > 100
    assert [str(f) for f in judge(found)] == []


@pytest.mark.slow
@pytest.mark.parametrize("system", parts_of("mesh"))
def test_a_stack_of_the_mesh_breaks_no_rule_and_nothing_is_left_unjudged(system: str) -> None:
    assert [str(f) for f in judge(stack("mesh", "sqs", "production", system))] == []


@pytest.mark.slow
def test_a_preview_of_a_new_stack_refuses_nothing_and_says_what_it_cannot_judge() -> None:
    found = judge(stack("async", "sqs", "production", preview=True))
    assert [str(f) for f in found if f.judged] == []
    assert {f.rule for f in found} >= {"no-wildcard-permissions", "dead-letter-queues"}


def _broken(found: tuple[Row, ...], type_: str, **inputs: Any) -> Iterator[Row]:
    """A stack in which one setting of every resource of a type is another."""
    for row in found:
        other = {**row.inputs, **inputs} if row.type == type_ else row.inputs
        yield Row(type=row.type, name=row.name, inputs=other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("type_", "inputs", "rule"),
    [
        ("aws:rds/instance:Instance", {"storageEncrypted": False}, "encrypted-at-rest"),
        ("aws:rds/instance:Instance", {"publiclyAccessible": True}, "no-public-data"),
        ("aws:sqs/queue:Queue", {"redrivePolicy": None}, "dead-letter-queues"),
        ("aws:eks/cluster:Cluster", {"tags": {}}, "owner-and-stage"),
        ("aws:cloudwatch/logGroup:LogGroup", {"kmsKeyId": None}, "encrypted-at-rest"),
        ("kubernetes:policy/v1:PodDisruptionBudget", {"spec": {}}, "disruption-budgets"),
    ],
)
def test_the_same_stack_with_one_setting_taken_away_breaks_the_rule(
    type_: str, inputs: dict[str, Any], rule: str
) -> None:
    found = stack("async", "sqs", "production")
    broken = judge(_broken(found, type_, **inputs))
    assert {f.rule for f in broken} == {rule}
    assert {f.type for f in broken if f.rule != "disruption-budgets"} <= {type_}


def _accepts_tags(type_: str) -> bool:
    """Whether the SDK's class takes an argument 'tags'."""
    module, _, kind = type_.removeprefix("aws:").partition(":")
    made = getattr(import_module(f"pulumi_aws.{module.partition('/')[0]}"), kind)
    return "tags" in inspect.signature(made._internal_init).parameters


@pytest.mark.slow
def test_the_rule_of_tags_knows_of_every_type_whether_it_takes_any() -> None:
    types = {row.type for how in ONE_CLUSTER for row in stack(*how) if row.type.startswith("aws:")}
    types |= {row.type for row in whole("mesh", "sqs", "production") if row.type.startswith("aws:")}
    assert len(types) > 25
    assert {t: taggable(t) for t in types} == {t: _accepts_tags(t) for t in types}


def _counted(found: tuple[Row, ...]) -> Counter[str]:
    """Resources by type; of endpoints those that are paid for."""
    return Counter(
        row.type for row in found if row.type != INTERFACE_ENDPOINT or row.inputs.get("vpcEndpointType") == "Interface"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "broker", "size"), [*ONE_CLUSTER, ("mesh", "sqs", "production")])
def test_an_estimate_counts_what_the_program_creates(stage: str, broker: str, size: str) -> None:
    made = _counted(whole(stage, broker, size))
    counted = {a.resource: a.pieces for a in bill(STAGES[stage], SIZES[size], broker) if a.resource}
    assert counted == {type_: made[type_] for type_ in counted}
    paid = {"aws:eks/cluster:Cluster", "aws:rds/instance:Instance", "aws:kms/key:Key", "aws:ec2/natGateway:NatGateway"}
    assert paid <= set(counted)
    assert {t for t in PAID_BY_THE_HOUR if made[t]} <= set(counted) | {"aws:msk/cluster:Cluster"}


PAID_BY_THE_HOUR = (
    "aws:ec2/eip:Eip",
    "aws:ec2/natGateway:NatGateway",
    "aws:ec2transitgateway/vpcAttachment:VpcAttachment",
    "aws:eks/cluster:Cluster",
    "aws:lb/loadBalancer:LoadBalancer",
    "aws:msk/cluster:Cluster",
    "aws:rds/instance:Instance",
)
"""Nothing of these is created without being in the estimate; an MSK cluster is counted by its brokers."""


@pytest.mark.slow
def test_an_estimate_assumes_of_kafka_what_the_program_says() -> None:
    from infra.aws.kafka import BROKERS, RETENTION_MS

    assert ZONES == BROKERS
    assert Load().kafka_days * 86_400_000 == RETENTION_MS


def _manifest_rows(stage: str) -> list[Row]:
    chosen, site = STAGES[stage], Site(deployment="shop", image=IMAGE)
    manifests = [*objects(chosen, site), *(mesh_objects(chosen, None, site) if chosen.mesh else ())]
    return [Row(type=token_of(m), name=name_of(m), inputs=plain(m)) for m in manifests]


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_on_any_kubernetes_breaks_no_rule(stage: str) -> None:
    assert [str(f) for f in judge(_manifest_rows(stage))] == []


def test_a_mesh_without_its_rules_breaks_those_of_the_mesh() -> None:
    bare = [row for row in _manifest_rows("mesh") if ".istio.io/" not in row.type]
    assert {f.rule for f in judge(bare)} == {"strict-mtls", "bounded-edges"}
