"""Faults of the catalogue on AWS: each has a template or a reason, and the page shows both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chaos.catalogue import faults_of
from chaos.spec import CLASSES
from infra.aws.fis import NETWORK_FAULTS, POD, REFUSED, Drill, Refusal, drill_of, drills, let_in, table
from infra.aws.fis_templates import pods_of, statements
from infra.aws.permissions import document
from infra.k8s import pods
from infra.k8s.objects import objects
from infra.k8s.site import BrokerAt, Reach, Site
from stages.catalogue import MESH

PAGE = Path(__file__).resolve().parents[2] / "docs" / "targets" / "aws-mesh.md"
FAULTS = {named.name: named.fault.spec() for named in faults_of(MESH)}


def test_every_class_of_fault_is_taken_or_refused_and_none_is_both() -> None:
    taken = {"kill", "latency", "blackhole", "partition", "cluster-outage"}
    assert taken | set(REFUSED) == set(CLASSES)
    assert not taken & set(REFUSED)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_the_catalogue_has_a_template_of_its_name_or_a_reason(name: str, told: bool) -> None:
    found = drill_of(MESH, name, FAULTS[name], network_faults=told)
    deployed = {d.name: d for d in drills(MESH, network_faults=told)}
    if isinstance(found, Refusal):
        assert len(found.reason.split()) >= 4
        assert name not in deployed
    else:
        assert deployed[name] == found, "what is deployed is what the catalogue means"


def test_names_of_templates_are_unique_and_every_system_has_some() -> None:
    names = [d.name for d in drills(MESH, network_faults=True)]
    assert len(set(names)) == len(names)
    assert {d.cluster for d in drills(MESH, network_faults=True)} == {c.name for c in MESH.clusters}


def test_actions_are_those_that_fis_has() -> None:
    """FIS User Guide, 'AWS FIS actions reference'."""
    for drill in drills(MESH, network_faults=True):
        keys = {key for key, _ in drill.parameters}
        assert (
            keys
            == {
                "aws:eks:pod-delete": {"gracePeriodSeconds"},
                "aws:eks:pod-network-latency": {
                    "delayMilliseconds",
                    "duration",
                    "interface",
                    "jitterMilliseconds",
                    "sources",
                },
                "aws:eks:pod-network-packet-loss": {"duration", "interface", "lossPercent", "sources"},
                "aws:network:disrupt-connectivity": {"duration", "scope"},
            }[drill.action]
        )


def test_a_partition_takes_the_other_networks_and_no_more() -> None:
    pair = drill_of(MESH, "x", {"kind": "partition", "cluster": "commerce", "from": "payments"}, network_faults=False)
    alone = drill_of(MESH, "x", {"kind": "partition", "cluster": "commerce", "from": "*"}, network_faults=False)
    assert isinstance(pair, Drill)
    assert isinstance(alone, Drill)
    assert pair.from_clusters == ("payments",)
    assert alone.from_clusters == ("fulfilment", "payments", "engagement")


def test_unless_told_packets_are_neither_delayed_nor_dropped_and_the_reason_names_the_key() -> None:
    for name in ("storefront-inventory-blackhole", "storefront-analytics-latency"):
        found = drill_of(MESH, name, FAULTS[name], network_faults=False)
        assert isinstance(found, Refusal)
        assert "`network_faults`" in found.reason

    without, told = (set(drills(MESH, network_faults=flag)) for flag in (False, True))
    assert without < told
    assert {drill.action for drill in told - without} == set(NETWORK_FAULTS)
    assert not {drill.action for drill in without} & set(NETWORK_FAULTS)


def test_only_callers_across_clusters_let_anybody_in() -> None:
    """Who has to is told by the network; all others keep what they have."""
    assert let_in(MESH) == {"storefront"}
    site = Site(deployment="shop", image="shop:1", broker=BrokerAt(), database=Reach(), let_in=let_in(MESH))
    found = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
        for manifest in objects(MESH, site, "commerce")
        if manifest["kind"] == "Deployment"
    }
    assert found["orders"]["securityContext"] == pods.pod_security()
    assert found["orders"]["containers"][0]["securityContext"] == pods.container_security()

    opened, (container,) = found["storefront"]["securityContext"], found["storefront"]["containers"]
    assert set(pods.pod_security()) - set(opened) == {"runAsNonRoot", "runAsUser", "runAsGroup"}
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": pods.USER,
        "runAsGroup": pods.USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_fis_works_beside_the_services_own_container() -> None:
    """The first container of a pod with a sidecar may be Istio's."""
    for drill in drills(MESH, network_faults=True):
        if drill.target == POD:
            beside = pods_of(drill, "arn:cluster", "shop-commerce")["parameters"].get("targetContainerName")
            assert beside == (drill.service if drill.action in NETWORK_FAULTS else None)


def test_a_wire_that_shares_its_network_says_what_else_it_hits() -> None:
    drill = drill_of(MESH, "storefront-analytics-latency", FAULTS["storefront-analytics-latency"], network_faults=True)
    assert isinstance(drill, Drill)
    assert drill.hits == ("storefront-analytics", "storefront-cache")
    assert "storefront-cache" in drill.summary


def test_what_aws_is_told_of_a_delay_is_what_the_catalogue_says() -> None:
    drill = drill_of(MESH, "storefront-analytics-latency", FAULTS["storefront-analytics-latency"], network_faults=True)
    assert isinstance(drill, Drill)
    told = dict(drill.parameters)
    assert (told["delayMilliseconds"], told["jitterMilliseconds"]) == ("10", "4")
    assert told["sources"] == "10.4.0.0/16"


def test_a_kind_nobody_has_decided_on_is_an_error() -> None:
    with pytest.raises(KeyError, match="meteor"):
        drill_of(MESH, "x", {"kind": "meteor"}, network_faults=True)


def test_the_role_may_change_networks_of_its_own_system_only() -> None:
    made = document(
        *statements(
            account="1",
            region="r",
            cluster_arn="c",
            vpc_arn="arn:aws:ec2:r:1:vpc/v",
            logs_arn="l",
            deployment="shop",
            system="payments",
        )
    )
    changes = [s for s in made["Statement"] if not any(a.partition(":")[2].startswith("Describe") for a in s["Action"])]
    for statement in changes:
        narrow = "*" not in "".join(statement["Resource"]) or "Condition" in statement or statement["Sid"] == "Log"
        assert narrow, statement
    exchange = next(s for s in made["Statement"] if s["Sid"] == "ExchangeAcls")
    assert json.dumps(exchange["Condition"], sort_keys=True) == json.dumps(
        {"StringEquals": {"aws:ResourceTag/deployment": "shop", "aws:ResourceTag/system": "payments"}}, sort_keys=True
    )


def test_the_page_has_the_table_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = re.search(r"<!-- table of FIS templates -->\n(.*?)\n<!-- end of the table -->", text, re.DOTALL)
    assert shown is not None
    assert shown[1] == table(MESH, FAULTS)
