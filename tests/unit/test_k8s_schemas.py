"""Would a cluster take what is rendered? Every manifest of every stage and site against the schemas."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.objects import objects
from infra.k8s.site import BrokerAt, Canary, IngressAt, Manifest, Reach, SecretRef, Site
from infra.k8s.testing import manifest_problems
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.model import Stage

IN_CLUSTER = Site(deployment="shop", image="shop:1")
GIVEN = Site(
    deployment="shop",
    image="shop:1",
    owner="Team Money <money@example.com>",
    ingress=IngressAt(host="shop.example.com", tls_secret="tls", class_name="nginx", annotations={"a/b": "c"}),
    broker=BrokerAt(endpoint="https://broker.example.com:8443", prefix="shop-"),
    database=Reach(cidrs=("10.0.0.0/16",), ports=(5432,)),
    egress=(Reach(cidrs=("169.254.170.23/32",), ports=(80,)),),
    env={"*": {"AWS_ACCESS_KEY_ID": SecretRef(name="keys", key="id")}},
    service_accounts={"orders": {"example.com/role": "orders"}},
    storage_class="fast",
)
AWS = replace(GIVEN, broker=BrokerAt(region="eu-west-1", account="123456789012"))
SITES = {"in-cluster": IN_CLUSTER, "given": GIVEN, "aws": AWS}


def everything(stage: Stage, site: Site, cluster: str | None = None) -> tuple[Manifest, ...]:
    rules = mesh_objects(stage, cluster, site) if stage.mesh else ()
    return (*objects(stage, site, cluster), *rules)


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
@pytest.mark.parametrize("site", SITES.values(), ids=list(SITES))
def test_every_manifest_of_a_stage_in_one_cluster_is_valid(stage: Stage, site: Site) -> None:
    assert [p for m in everything(stage, site) for p in manifest_problems(m)] == []


@pytest.mark.parametrize("cluster", [c.name for c in MESH.clusters])
@pytest.mark.parametrize("site", [GIVEN, AWS], ids=["given", "aws"])
def test_every_manifest_of_one_of_several_clusters_is_valid(cluster: str, site: Site) -> None:
    canaries = {"inventory": Canary(image="shop:2", percent=10)}
    assert [p for m in everything(MESH, replace(site, canaries=canaries), cluster) for p in manifest_problems(m)] == []


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
@pytest.mark.parametrize("site", SITES.values(), ids=list(SITES))
def test_no_two_manifests_are_the_same_object(stage: Stage, site: Site) -> None:
    found = [
        (m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"])
        for m in everything(stage, site)
    ]
    assert sorted(set(found), key=str) == sorted(found, key=str)


def kind(manifests: tuple[Manifest, ...], wanted: str, name: str) -> dict[str, Any]:
    return deepcopy(dict(next(m for m in manifests if m["kind"] == wanted and m["metadata"]["name"] == name)))


def broken(manifest: dict[str, Any], path: str, value: Any) -> Mapping[str, Any]:
    *way, last = path.split(".")
    inner: Any = manifest
    for step in way:
        inner = inner[int(step) if step.isdecimal() else step]
    inner[last] = value
    return manifest


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        ("Deployment", "spec.replica", 2, "'replica' was unexpected"),
        ("Deployment", "spec.template.spec.containers.0.livenessProbe.httpGet.prot", "x", "'prot' was unexpected"),
        ("Deployment", "spec.minReadySeconds", "x", "'x' is not of type 'integer'"),
        ("Service", "spec.ports.0.port", "http", "'http' is not of type 'integer'"),
        ("Service", "metadata.name", "Orders", "no DNS subdomain"),
        ("Service", "metadata.labels.owner", "Team Money", "label owner"),
    ],
)
def test_the_check_finds_what_kubernetes_would_refuse(name: str, path: str, value: Any, said: str) -> None:
    manifest = kind(objects(SYNC, IN_CLUSTER), name, "orders")
    assert [said in problem for problem in manifest_problems(broken(manifest, path, value))] == [True]


def test_the_check_misses_the_namespace_of_what_lives_in_one() -> None:
    manifest = kind(objects(SYNC, IN_CLUSTER), "Service", "orders")
    del manifest["metadata"]["namespace"]
    assert manifest_problems(manifest) == ["Service orders: metadata.namespace is missing"]


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        ("DestinationRule", "spec.trafficPolicy.outlierDetection.maxEjectionTime", "6s", "was unexpected"),
        ("DestinationRule", "spec.trafficPolicy.tls.mode", "STRICT", "'STRICT' is not one of"),
        ("DestinationRule", "spec.trafficPolicy.outlierDetection.interval", "500", "no duration"),
        ("DestinationRule", "spec.host", 8, "8 is not of type 'string'"),
    ],
)
def test_the_check_finds_what_istio_would_refuse_or_drop(name: str, path: str, value: Any, said: str) -> None:
    manifest = kind(mesh_objects(MESH, None, IN_CLUSTER), name, "storefront-inventory")
    assert [said in problem for problem in manifest_problems(broken(manifest, path, value))] == [True]


def test_a_kind_that_istio_does_not_have_is_a_problem() -> None:
    manifest = {"apiVersion": "security.istio.io/v9", "kind": "Wall", "metadata": {"name": "w", "namespace": "n"}}
    assert manifest_problems(manifest) == ["Wall w: there is no security.istio.io/v9 Wall"]


def test_async_needs_nothing_new_but_its_broker() -> None:
    def names(stage: Stage) -> set[tuple[str, str]]:
        return {(m["kind"], m["metadata"]["name"]) for m in objects(stage, IN_CLUSTER)}

    assert names(SYNC) - names(ASYNC) == set()
    assert names(ASYNC) - names(SYNC) == {
        ("ServiceAccount", "broker"),
        ("ConfigMap", "broker-setup"),
        ("Deployment", "broker"),
        ("Service", "broker"),
        ("PodDisruptionBudget", "broker"),
        ("NetworkPolicy", "broker"),
    }
