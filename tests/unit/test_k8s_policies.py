"""Does the network let through the edges of the model, and nothing else? Policies are evaluated as a cluster would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

import pytest

from infra.k8s.names import namespace_of
from infra.k8s.objects import objects
from infra.k8s.site import BrokerAt, IngressAt, Manifest, Reach, Site
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.messaging import talkers
from stages.model import Kind, Stage

SITE = Site(
    deployment="shop",
    image="shop:1",
    ingress=IngressAt(host="shop.example.com", tls_secret="t", from_namespaces=("ingress-nginx",)),
)
EVERY_STAGE = pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]


class Network:
    """NetworkPolicies as a cluster applies them: both ends have to agree, and without a policy all is allowed."""

    def __init__(self, manifests: tuple[Manifest, ...]) -> None:
        self.policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]

    def lets(self, source: Pod, target: Pod, port: int) -> bool:
        return self._allowed("Egress", source, target, port) and self._allowed("Ingress", target, source, port)

    def lets_out(self, source: Pod, address: str, port: int) -> bool:
        return self._allowed("Egress", source, address, port)

    def lets_in(self, target: Pod, source: Pod, port: int) -> bool:
        return self._allowed("Ingress", target, source, port)

    def _allowed(self, direction: str, pod: Pod, other: Pod | str, port: int) -> bool:
        mine = [p for p in self.policies if direction in p["spec"]["policyTypes"] and _applies(p, pod)]
        return not mine or any(
            _matches(rule, direction, other, port) for p in mine for rule in p["spec"].get(direction.lower(), ())
        )


def _applies(policy: Manifest, pod: Pod) -> bool:
    selector = policy["spec"]["podSelector"].get("matchLabels", {})
    return bool(policy["metadata"]["namespace"] == pod.namespace and selector.items() <= pod.labels.items())


def _matches(rule: dict[str, Any], direction: str, other: Pod | str, port: int) -> bool:
    if "ports" in rule and port not in [p["port"] for p in rule["ports"]]:
        return False
    peers = rule.get("to" if direction == "Egress" else "from")
    return peers is None or any(_is(peer, other) for peer in peers)


def _is(peer: dict[str, Any], other: Pod | str) -> bool:
    if isinstance(other, str):
        return "ipBlock" in peer and ip_address(other) in ip_network(peer["ipBlock"]["cidr"])
    if "ipBlock" in peer:
        return False
    spaces = peer.get("namespaceSelector", {})
    named = spaces.get("matchLabels", {}).get("kubernetes.io/metadata.name", other.namespace)
    among = [other.namespace in e["values"] for e in spaces.get("matchExpressions", ())]
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return bool(named == other.namespace and all(among) and labels.items() <= other.labels.items())


def pods_of(manifests: tuple[Manifest, ...]) -> dict[str, list[Pod]]:
    """By the name of what runs them; a collector or database may be there once per system."""
    found: dict[str, list[Pod]] = {}
    for m in manifests:
        if m["kind"] in ("Deployment", "StatefulSet"):
            pod = Pod(m["metadata"]["namespace"], m["spec"]["template"]["metadata"]["labels"])
            found.setdefault(m["metadata"]["name"], []).append(pod)
    return found


@EVERY_STAGE
def test_services_reach_their_callees_and_nobody_else(stage: Stage) -> None:
    manifests = objects(stage, SITE)
    network, pods = Network(manifests), {name: found[0] for name, found in pods_of(manifests).items()}
    names = [s.name for s in stage.services]
    open_ways = {(a, b) for a, b in product(names, names) if network.lets(pods[a], pods[b], 8080)}
    assert open_ways == {(c.caller, c.callee) for c in stage.channels if c.kind is Kind.CALL}


@EVERY_STAGE
def test_only_those_with_messages_reach_the_broker(stage: Stage) -> None:
    manifests = objects(stage, SITE)
    network, pods = Network(manifests), pods_of(manifests)
    reaching = {
        s.name for s in stage.services if "broker" in pods and network.lets(pods[s.name][0], pods["broker"][0], 4566)
    }
    assert reaching == set(talkers(stage))


@EVERY_STAGE
def test_each_keeper_of_records_reaches_the_database_of_its_own_system_only(stage: Stage) -> None:
    manifests = objects(stage, SITE)
    network, pods = Network(manifests), pods_of(manifests)
    reaching = {
        (s.name, database.namespace)
        for s in stage.services
        for database in pods["postgres"]
        if network.lets(pods[s.name][0], database, 5432)
    }
    assert reaching == {(s.name, namespace_of(stage, SITE, s.name)) for s in stage.services if s.database}


@pytest.mark.parametrize(("stage", "door"), [(SYNC, "ingress-nginx"), (MESH, "istio-ingress")], ids=["sync", "mesh"])
def test_users_reach_the_entry_through_their_door_only(stage: Stage, door: str) -> None:
    manifests = objects(stage, SITE)
    network, pods = Network(manifests), pods_of(manifests)
    reached = {
        (namespace, s.name)
        for s in stage.services
        for namespace in ("ingress-nginx", "istio-ingress", "default")
        if network.lets_in(pods[s.name][0], Pod(namespace, {}), 8080)
    }
    assert reached == {(door, "storefront")}


def test_a_load_balancer_that_is_no_pod_comes_in_by_its_address() -> None:
    ingress = IngressAt(host="h.example.com", tls_secret="t", from_cidrs=("10.0.0.0/16",))
    manifests = objects(SYNC, replace(SITE, ingress=ingress))
    policy = next(m for m in manifests if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "storefront")
    assert {"ipBlock": {"cidr": "10.0.0.0/16"}} in policy["spec"]["ingress"][0]["from"]


@EVERY_STAGE
def test_everybody_may_ask_for_names_and_nobody_may_leave_the_cluster(stage: Stage) -> None:
    manifests = objects(stage, SITE)
    network = Network(manifests)
    for name, found in pods_of(manifests).items():
        for pod in found:
            assert network.lets_out(pod, "10.96.0.10", 53), name
            assert network.lets_out(pod, "93.184.216.34", 443) is (name == "otel-collector"), name


def test_given_databases_and_brokers_are_reached_where_they_are() -> None:
    site = replace(
        SITE,
        broker=BrokerAt(reach=Reach(cidrs=("10.0.9.0/24",))),
        database=Reach(cidrs=("10.0.8.0/24",), ports=(5432,)),
        egress=(Reach(cidrs=("169.254.170.23/32",), ports=(80,)),),
    )
    manifests = objects(ASYNC, site)
    network, pods = Network(manifests), pods_of(manifests)
    assert "postgres" not in pods
    assert "broker" not in pods
    orders, storefront = pods["orders"][0], pods["storefront"][0]
    asked = (("10.0.9.7", 443), ("10.0.8.7", 5432), ("169.254.170.23", 80), ("10.0.9.7", 5432))
    assert [network.lets_out(orders, *at) for at in asked] == [True, True, True, False]
    assert [network.lets_out(storefront, *at) for at in asked] == [False, False, True, False]


def test_calls_to_other_clusters_go_to_their_gateways() -> None:
    site = replace(SITE, broker=BrokerAt(), database=Reach(ports=(5432,)))
    networks = {c.name: c.network for c in MESH.clusters}
    manifests = objects(MESH, site, "commerce")
    network, pods = Network(manifests), pods_of(manifests)
    addresses = {name: str(ip_network(cidr)[7]) for name, cidr in networks.items()}
    reached = {name for name, at in addresses.items() if network.lets_out(pods["storefront"][0], at, 15443)}
    assert reached == {"fulfilment", "engagement"}
    assert not network.lets_out(pods["orders"][0], addresses["fulfilment"], 15443)


def test_callees_of_other_clusters_are_reached_through_their_own_gateway() -> None:
    site = replace(SITE, broker=BrokerAt(), database=Reach(ports=(5432,)))
    manifests = objects(MESH, site, "fulfilment")
    network, pods = Network(manifests), pods_of(manifests)
    gateway = Pod("istio-system", {"istio": "eastwestgateway"})
    assert network.lets_in(pods["inventory"][0], gateway, 8080)
    assert not network.lets_in(pods["shipping"][0], gateway, 8080)


@EVERY_STAGE
def test_every_namespace_denies_what_is_not_allowed(stage: Stage) -> None:
    manifests = objects(stage, SITE)
    spaces = {m["metadata"]["name"] for m in manifests if m["kind"] == "Namespace"}
    denying = {m["metadata"]["namespace"] for m in manifests if m["metadata"]["name"] == "default-deny"}
    assert denying == spaces
