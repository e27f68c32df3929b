"""Does every pod run with the least it needs, say truly how it is, and leave without losing a request?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from infra.k8s.environment import (
    DRAIN_S,
    SLACK_MS,
    broker_variable,
    settings_of,
)
from infra.k8s.names import database_secret, label_value
from infra.k8s.objects import objects
from infra.k8s.site import BrokerAt, Canary, IngressAt, Manifest, Reach, SecretRef, Site
from infra.k8s.workload import GRACE_S, LAST_REQUESTS_S, PRE_STOP_S
from infra.local import render_mesh
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.messaging import messaging, talkers
from stages.model import Kind, Stage
from workloads import server
from workloads.api import probes
from workloads.settings import Settings
from workloads.telemetry import Telemetry

SITE = Site(deployment="shop", image="shop:1")
EVERY_STAGE = pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
SERVICES = [s.name for s in SYNC.services]


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def pod_specs(stage: Stage, site: Site = SITE) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in objects(stage, site):
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def container(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def env_of(stage: Stage, site: Site, service: str) -> dict[str, Any]:
    deployment = of_kind(objects(stage, site), "Deployment")[service]
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(deployment)["env"]}


@EVERY_STAGE
def test_each_service_has_all_that_makes_it_up(stage: Stage) -> None:
    kinds = Counter(
        m["kind"]
        for m in objects(stage, SITE)
        if m["metadata"]["name"] in SERVICES and m["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
    )
    parts = (
        "ServiceAccount",
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
    )
    assert kinds == dict.fromkeys(parts, len(SERVICES))


@EVERY_STAGE
@pytest.mark.parametrize("site", [SITE, replace(SITE, broker=BrokerAt(endpoint="http://b:1"))], ids=["own", "given"])
def test_every_container_has_no_privilege_at_all(stage: Stage, site: Site) -> None:
    for name, spec in pod_specs(stage, site):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec.get("automountServiceAccountToken") is (name == "otel-collector"), name
        for each in spec["containers"]:
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert each["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert each["resources"]["limits"].keys() == {"memory"}, name


@EVERY_STAGE
def test_every_volume_that_is_mounted_is_there(stage: Stage) -> None:
    for name, spec in pod_specs(stage):
        kept = {"data"} if name == "postgres" else set()
        mounted = {mount["name"] for each in spec["containers"] for mount in each["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]} | kept, name


def test_probes_ask_what_services_really_serve() -> None:
    app = FastAPI()
    settings = Settings(service="storefront")
    probes.mount(app, "storefront", Telemetry(settings), None, probes.State(draining=lambda: False))
    served = set(app.openapi()["paths"])
    asked = container(of_kind(objects(SYNC, SITE), "Deployment")["orders"])
    paths = {name: asked[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/live", "readiness": "/ready", "liveness": "/live"}
    assert set(paths.values()) <= served


def test_a_pod_is_left_the_time_that_its_drain_takes() -> None:
    assert LAST_REQUESTS_S == server.LAST_REQUESTS_S
    assert PRE_STOP_S + DRAIN_S + LAST_REQUESTS_S < GRACE_S
    spec = of_kind(objects(SYNC, SITE), "Deployment")["orders"]["spec"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == GRACE_S
    assert container({"spec": spec})["lifecycle"] == {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@EVERY_STAGE
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_back_what_it_is_told(stage: Stage, service: str) -> None:
    env = env_of(stage, SITE, service)
    if stage.service(service).database:
        assert env["SHOP_DATABASE_URL"] == {"secretKeyRef": {"name": f"{service}-database", "key": "url"}}
        env["SHOP_DATABASE_URL"] = "secret"
    assert Settings.from_env(env) == settings_of(stage, SITE, service)


@EVERY_STAGE
def test_a_service_knows_the_callees_of_the_model_and_no_others(stage: Stage) -> None:
    told = {(s, peer) for s in SERVICES for peer in settings_of(stage, SITE, s).peers}
    assert told == {(c.caller, c.callee) for c in stage.channels if c.kind is Kind.CALL}


def test_without_a_mesh_timeouts_and_attempts_are_the_services_own() -> None:
    peer = settings_of(SYNC, SITE, "storefront").peers["inventory"]
    channel = SYNC.channel("storefront-inventory")
    assert (peer.url, peer.timeout_ms, peer.attempts, peer.breaker, peer.fallback) == (
        "http://inventory:8080",
        channel.timeout_ms,
        channel.attempts,
        True,
        "cache",
    )


def test_with_a_mesh_they_are_the_sidecars_as_on_the_local_target() -> None:
    peer = settings_of(MESH, SITE, "storefront").peers["inventory"]
    local = render_mesh.mesh_peer(MESH.channel("storefront-inventory"), "cache")
    assert SLACK_MS == render_mesh.SLACK_MS
    assert replace(peer, url="") == replace(local, url="")
    assert peer.url == "http://inventory.shop-fulfilment.svc.cluster.local:8080"


def test_an_output_of_the_cloud_is_passed_on_as_it_is() -> None:
    unknown = object()
    assert env_of(ASYNC, replace(SITE, env={"orders": {"SHOP_BROKER": unknown}}), "orders")["SHOP_BROKER"] is unknown


def test_what_a_site_says_of_a_service_wins_over_what_it_says_of_all() -> None:
    site = replace(SITE, env={"*": {"A": "all", "B": "all"}, "orders": {"A": SecretRef(name="n", key="k")}})
    env = env_of(SYNC, site, "orders")
    assert (env["A"], env["B"]) == ({"secretKeyRef": {"name": "n", "key": "k"}}, "all")


@pytest.mark.parametrize("service", talkers(ASYNC))
def test_addresses_that_a_cloud_gave_are_told_as_the_derived_ones_are(service: str) -> None:
    at = BrokerAt(account="123456789012", prefix="shop-")
    needed = messaging(ASYNC)
    urls = {name: at.queue_url(name) for q in needed.queues for name in (q.name, q.dead_letters)}
    arns = {t.name: at.topic_arn(t.name) for t in needed.topics}
    told = broker_variable(ASYNC, service, at, urls, arns)
    assert told == {"SHOP_BROKER": env_of(ASYNC, replace(SITE, broker=at), service)["SHOP_BROKER"]}


@EVERY_STAGE
def test_selectors_pick_the_pods_of_their_service_and_of_no_other(stage: Stage) -> None:
    manifests = objects(stage, SITE)
    pods = {
        name: m["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "StatefulSet")
        for name, m in of_kind(manifests, kind).items()
    }

    def picked(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    for kind in ("Service", "PodDisruptionBudget", "Deployment"):
        for name, manifest in of_kind(manifests, kind).items():
            selector = manifest["spec"]["selector"]
            assert picked(selector.get("matchLabels", selector)) == {name}, (kind, name)


def test_the_autoscaler_alone_says_how_many_pods_a_service_has() -> None:
    manifests = objects(SYNC, replace(SITE, replicas=(3, 9)))
    deployments = of_kind(manifests, "Deployment")
    for name, scaler in of_kind(manifests, "HorizontalPodAutoscaler").items():
        assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (3, 9)
        assert "replicas" not in deployments[name]["spec"]


def test_pods_of_a_service_are_spread_over_zones() -> None:
    spread = of_kind(objects(SYNC, SITE), "Deployment")["orders"]["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]
    assert [c["topologyKey"] for c in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_labels_say_whose_an_object_is() -> None:
    labels = of_kind(objects(MESH, SITE), "Deployment")["payments"]["metadata"]["labels"]
    assert labels == {
        "app.kubernetes.io/name": "payments",
        "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": "service",
        "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/managed-by": "pulumi",
        "app.kubernetes.io/version": "v1",
        "stage": "mesh",
        "system": "payments",
        "owner": "team-money",
    }


@pytest.mark.parametrize("owner", ["Team Money <m@example.com>", "a" * 300, "-x-", "Größe"])
def test_any_owner_becomes_a_label(owner: str) -> None:
    value = label_value(owner)
    assert value
    assert len(value) <= 63
    assert value[0].isalnum()
    assert value[-1].isalnum()


def test_a_canary_is_a_second_deployment_behind_the_same_service() -> None:
    site = replace(SITE, canaries={"orders": Canary(image="shop:2", percent=5)})
    deployments = of_kind(objects(MESH, site), "Deployment")
    first, second = deployments["orders"], deployments["orders-v2"]
    assert (container(first)["image"], container(second)["image"]) == ("shop:1", "shop:2")
    assert first["spec"]["selector"] != second["spec"]["selector"]
    assert {e["name"]: e.get("value") for e in container(second)["env"]}["SHOP_VERSION"] == "v2"
    service = of_kind(objects(MESH, site), "Service")["orders"]["spec"]["selector"]
    for deployment in (first, second):
        assert service.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_a_canary_without_a_mesh_is_refused() -> None:
    with pytest.raises(ValueError, match="no mesh to split calls"):
        objects(SYNC, replace(SITE, canaries={"orders": Canary(image="shop:2", percent=5)}))


def test_each_system_has_a_namespace_of_its_own_once_they_are_apart() -> None:
    assert set(of_kind(objects(ASYNC, SITE), "Namespace")) == {"shop"}
    spaces = of_kind(objects(MESH, SITE), "Namespace")
    assert {name: m["metadata"]["labels"].get("istio-injection") for name, m in spaces.items()} == {
        "shop-commerce": "enabled",
        "shop-fulfilment": "enabled",
        "shop-payments": "enabled",
        "shop-engagement": "enabled",
        "shop-shared": None,
    }


def test_clusters_of_a_mesh_divide_the_services_among_them() -> None:
    site = replace(SITE, broker=BrokerAt(), database=Reach(ports=(5432,)))
    found: list[str] = []
    for cluster in MESH.clusters:
        deployments = set(of_kind(objects(MESH, site, cluster.name), "Deployment")) - {"otel-collector"}
        assert deployments == set(MESH.services_in(cluster.name))
        found += deployments
    assert sorted(found) == sorted(SERVICES)


def test_a_cluster_knows_the_names_of_callees_elsewhere() -> None:
    site = replace(SITE, broker=BrokerAt(), database=Reach(ports=(5432,)))
    services = of_kind(objects(MESH, site, "commerce"), "Service")
    elsewhere = {
        name: (m["metadata"]["namespace"], m["spec"]["ports"][0]["port"])
        for name, m in services.items()
        if m["metadata"].get("annotations") == {"pulumi.com/skipAwait": "true"}
    }
    assert elsewhere == {
        "inventory": ("shop-fulfilment", 8080),
        "cache": ("shop-engagement", 8080),
        "analytics": ("shop-engagement", 8080),
    }


def test_clusters_share_a_broker_that_is_in_none_of_them() -> None:
    with pytest.raises(ValueError, match="the broker that they share has to be given"):
        objects(MESH, SITE, "commerce")


def test_users_come_in_by_tls_only() -> None:
    assert of_kind(objects(SYNC, SITE), "Ingress") == {}
    site = replace(SITE, ingress=IngressAt(host="shop.example.com", tls_secret="cert"))
    ingress = of_kind(objects(SYNC, site), "Ingress")["storefront"]["spec"]
    assert ingress["tls"] == [{"hosts": ["shop.example.com"], "secretName": "cert"}]
    assert ingress["rules"][0]["http"]["paths"][0]["backend"]["service"] == {
        "name": "storefront",
        "port": {"name": "http"},
    }


def test_the_database_of_the_cluster_has_a_password_file_per_service() -> None:
    spec = dict(pod_specs(SYNC))["postgres"]
    sources = next(v for v in spec["volumes"] if v["name"] == "passwords")["projected"]["sources"]
    keepers = [s.name for s in SYNC.services if s.database]
    assert {s["secret"]["name"]: s["secret"]["items"][0]["path"] for s in sources} == {
        database_secret(name).name: name for name in keepers
    }


def test_the_step_to_messages_replaces_nothing() -> None:
    """What a cluster lets nobody change stays the same, so that every object is updated in place."""

    def fixed(stage: Stage) -> dict[tuple[str, str], Any]:
        return {
            (m["kind"], m["metadata"]["name"]): (m["metadata"].get("namespace"), m["spec"]["selector"])
            for m in objects(stage, SITE)
            if m["kind"] in ("Deployment", "StatefulSet")
        }

    before, after = fixed(SYNC), fixed(ASYNC)
    assert {key: after[key] for key in before} == before
    database = [of_kind(objects(s, SITE), "StatefulSet")["postgres"]["spec"] for s in (SYNC, ASYNC)]
    assert database[0]["volumeClaimTemplates"] == database[1]["volumeClaimTemplates"]
