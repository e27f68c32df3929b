"""Do Istio's objects say what the model says, and what the local target's Envoys are told?"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from infra.k8s import mesh_traffic
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.mesh_policy import principal
from infra.k8s.site import BrokerAt, Canary, IngressAt, Manifest, Site
from infra.local.mesh import envoyconf_routes, envoyconf_upstream
from infra.local.mesh.envoyconf_routes import route_configuration
from stages.catalogue import ASYNC, MESH
from stages.mesh import allowed, calls, cluster_plan, identity

SITE = Site(deployment="shop", image="shop:1")
OPEN = replace(SITE, ingress=IngressAt(host="shop.example.com", tls_secret="cert"))
EDGES = [e for c in MESH.clusters for m in cluster_plan(MESH, c.name).members for e in m.edges]


def of_kind(kind: str, cluster: str | None = None, site: Site = SITE) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in mesh_objects(MESH, cluster, site) if m["kind"] == kind}


def spec(kind: str, name: str, cluster: str | None = None, site: Site = SITE) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(kind, cluster, site)[name]["spec"]
    return found


def test_inventory_is_called_by_the_storefront_alone() -> None:
    assert spec("AuthorizationPolicy", "inventory") == {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "inventory", "app.kubernetes.io/instance": "shop"}},
        "action": "ALLOW",
        "rules": [
            {
                "from": [{"source": {"principals": ["shop/ns/shop-commerce/sa/storefront"]}}],
                "to": [{"operation": {"ports": ["8080"]}}],
            }
        ],
    }


def test_the_storefront_treats_inventory_as_the_model_says() -> None:
    assert spec("DestinationRule", "storefront-inventory") == {
        "host": "inventory.shop-fulfilment.svc.cluster.local",
        "exportTo": ["."],
        "workloadSelector": {
            "matchLabels": {"app.kubernetes.io/name": "storefront", "app.kubernetes.io/instance": "shop"}
        },
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "connectionPool": {
                "tcp": {"connectTimeout": "0.3s", "maxConnectionDuration": "3s"},
                "http": {"h2UpgradePolicy": "UPGRADE", "http1MaxPendingRequests": 40, "http2MaxRequests": 40},
            },
            "retryBudget": {"percent": 20, "minRetryConcurrency": 3},
            "outlierDetection": {
                "consecutive5xxErrors": 2,
                "consecutiveGatewayErrors": 0,
                "outlierDetectionHttpErrorCodes": [502, 504],
                "interval": "0.5s",
                "baseEjectionTime": "2s",
                "maxEjectionPercent": 100,
                "minHealthPercent": 0,
            },
        },
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
    }


def test_calls_of_inventory_are_repeated_once_where_that_is_safe() -> None:
    host = "inventory.shop-fulfilment.svc.cluster.local"
    target = [{"destination": {"host": host, "subset": "v1", "port": {"number": 8080}}, "weight": 100}]
    caller = {"sourceLabels": {"app.kubernetes.io/name": "storefront"}}
    assert spec("VirtualService", "inventory") == {
        "hosts": [host],
        "exportTo": ["."],
        "http": [
            {
                "name": "storefront-inventory-again",
                "match": [
                    {**caller, "method": {"regex": "GET|HEAD|PUT|DELETE"}},
                    {**caller, "headers": {"idempotency-key": {}}},
                ],
                "route": target,
                "timeout": "0.9s",
                "retries": {
                    "attempts": 1,
                    "perTryTimeout": "0.4s",
                    "retryOn": "connect-failure,refused-stream,reset,gateway-error",
                    "backoff": "0.05s",
                },
            },
            {
                "name": "storefront-inventory",
                "match": [caller],
                "route": target,
                "timeout": "0.4s",
                "retries": {"attempts": 0},
            },
        ],
    }


def test_every_edge_of_the_model_has_an_allow_and_nothing_else_has() -> None:
    found = set()
    for policy in of_kind("AuthorizationPolicy").values():
        for rule in policy["spec"].get("rules", ()):
            callee = policy["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
            found |= {(p.rpartition("/sa/")[2], callee) for s in rule["from"] for p in s["source"]["principals"]}
    assert found == allowed(MESH)


@pytest.mark.parametrize("service", [s.name for s in MESH.services])
def test_a_principal_is_the_models_identity_as_istio_writes_it(service: str) -> None:
    domain, _, system, name = re.fullmatch(r"spiffe://(\w+)(/)(\w+)/(\w+)", identity(MESH, service)).groups()  # type: ignore[union-attr]
    assert principal(MESH, SITE, service) == f"{domain}/ns/shop-{system}/sa/{name}"


def test_a_site_may_have_a_trust_domain_of_its_own() -> None:
    site = replace(SITE, trust_domain="cluster.local")
    assert principal(MESH, site, "orders") == "cluster.local/ns/shop-commerce/sa/orders"


def test_in_every_namespace_nothing_is_taken_without_tls_and_nothing_is_allowed_by_default() -> None:
    systems = {f"shop-{s.name}" for s in MESH.systems}
    made = mesh_objects(MESH, None, SITE)
    strict = {m["metadata"]["namespace"]: m["spec"] for m in made if m["kind"] == "PeerAuthentication"}
    assert strict == {name: {"mtls": {"mode": "STRICT"}} for name in systems}
    denying = {m["metadata"]["namespace"]: m["spec"] for m in made if m["metadata"]["name"] == "deny-all"}
    assert denying == {name: {} for name in systems}


def test_every_call_of_the_model_has_a_treatment_and_a_route() -> None:
    assert set(of_kind("DestinationRule")) == {c.name for c in calls(MESH)}
    routed = {r["name"] for m in of_kind("VirtualService").values() for r in m["spec"]["http"]}
    assert {name.removesuffix("-again") for name in routed} == {c.name for c in calls(MESH)}


@pytest.mark.parametrize("edge", EDGES, ids=[e.channel for e in EDGES])
def test_routes_have_the_times_and_attempts_that_envoys_of_the_local_target_have(edge: Any) -> None:
    local = route_configuration("egress", edge, {})["virtual_hosts"][0]["routes"]
    said = [
        (
            r["route"]["timeout"],
            r["route"].get("retry_policy", {}).get("num_retries", 0),
            r["route"].get("retry_policy"),
        )
        for r in local
    ]
    ours = [r for r in spec("VirtualService", edge.callee)["http"] if r["name"].removesuffix("-again") == edge.channel]
    expanded = [(r["timeout"], r["retries"]["attempts"], r["retries"]) for r in ours for _ in r["match"]]
    assert [(float(t.rstrip("s")), n) for t, n, _ in expanded] == [(float(t.rstrip("s")), n) for t, n, _ in said]
    for (_, _, mine), (_, _, theirs) in zip(expanded, said, strict=True):
        if theirs is not None:
            assert mine["retryOn"] == theirs["retry_on"]
            assert float(mine["perTryTimeout"].rstrip("s")) == float(theirs["per_try_timeout"].rstrip("s"))


def test_what_counts_and_what_may_be_repeated_is_as_on_the_local_target() -> None:
    assert mesh_traffic.RETRY_ON == envoyconf_routes.RETRY_ON
    assert mesh_traffic.IDEMPOTENT == envoyconf_routes.IDEMPOTENT
    assert mesh_traffic.CONNECT_SHARE == envoyconf_upstream.CONNECT_SHARE
    assert mesh_traffic.EJECTION_INTERVAL_MS == envoyconf_upstream.EJECTION_INTERVAL_MS
    counted = [code for code in range(500, 600) if re.fullmatch(envoyconf_upstream.CALLEE_DEAD, str(code))]
    assert list(mesh_traffic.CALLEE_DEAD) == counted


def test_a_call_without_attempts_to_spare_is_never_repeated() -> None:
    for edge in EDGES:
        routes = [r for r in spec("VirtualService", edge.callee)["http"] if r["name"].startswith(edge.channel)]
        assert [r["retries"]["attempts"] for r in routes] == ([edge.attempts - 1, 0] if edge.attempts > 1 else [0])


def test_a_canary_gets_its_share_of_the_calls() -> None:
    site = replace(SITE, canaries={"inventory": Canary(image="shop:2", percent=10)})
    for route in spec("VirtualService", "inventory", site=site)["http"]:
        shares = {r["destination"]["subset"]: r["weight"] for r in route["route"]}
        assert shares == {"v1": 90, "v2": 10}
    for route in spec("VirtualService", "accounts", site=site)["http"]:
        assert [r["weight"] for r in route["route"]] == [100]


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_canary_cannot_get_less_than_nothing_or_more_than_all(percent: int) -> None:
    with pytest.raises(ValueError, match="must be 0 to 100"):
        mesh_objects(MESH, None, replace(SITE, canaries={"inventory": Canary(image="i", percent=percent)}))


def test_other_clusters_come_in_by_server_name() -> None:
    for cluster in MESH.clusters:
        assert spec("Gateway", "cross-network-gateway", cluster.name) == {
            "selector": {"istio": "eastwestgateway"},
            "servers": [
                {
                    "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
                    "tls": {"mode": "AUTO_PASSTHROUGH"},
                    "hosts": ["*.local"],
                }
            ],
        }


def test_a_gateway_knows_the_versions_that_other_clusters_ask_for() -> None:
    """A caller asks for 'v1' by server name; a gateway without subsets would know no such name."""
    rule = spec("DestinationRule", "inventory", "fulfilment")
    assert [s["name"] for s in rule["subsets"]] == ["v1", "v2"]
    assert "exportTo" not in rule
    assert set(of_kind("DestinationRule", "engagement")) == {"analytics", "cache"}


def test_the_clusters_together_have_every_rule_once() -> None:
    found = [
        (m["metadata"]["namespace"], m["metadata"]["name"], str(m["spec"]))
        for c in MESH.clusters
        for m in mesh_objects(MESH, c.name, replace(OPEN, broker=BrokerAt()))
        if m["kind"] in ("AuthorizationPolicy", "VirtualService")
    ]
    whole = [
        (m["metadata"]["namespace"], m["metadata"]["name"], str(m["spec"]))
        for m in mesh_objects(MESH, None, replace(OPEN, broker=BrokerAt()))
        if m["kind"] in ("AuthorizationPolicy", "VirtualService")
    ]
    assert sorted(found) == sorted(whole)


def test_users_come_in_through_the_gateway_alone_and_by_tls() -> None:
    assert of_kind("Gateway") == {}
    servers = spec("Gateway", "shop-users", site=OPEN)["servers"]
    assert [(s["port"]["number"], s["tls"]) for s in servers] == [
        (443, {"mode": "SIMPLE", "credentialName": "cert", "minProtocolVersion": "TLSV1_2"}),
        (80, {"httpsRedirect": True}),
    ]
    principals = spec("AuthorizationPolicy", "storefront-users", site=OPEN)["rules"][0]["from"][0]["source"]
    assert principals == {"principals": ["shop/ns/istio-ingress/sa/istio-ingress"]}
    assert set(of_kind("Gateway", "payments", OPEN)) == {"cross-network-gateway"}


def test_where_tls_ends_before_the_mesh_its_gateway_takes_what_comes_from_there() -> None:
    at = IngressAt(host="shop.example.com", gateway_namespace="istio-system")
    gateway = of_kind("Gateway", site=replace(SITE, ingress=at))["shop-users"]
    assert gateway["metadata"]["namespace"] == "istio-system"
    assert [s["port"]["number"] for s in gateway["spec"]["servers"]] == [80]
    served = spec("VirtualService", "shop-users", site=replace(SITE, ingress=at))
    assert (served["gateways"], served["hosts"]) == (["istio-system/shop-users"], ["shop.example.com"])


def test_a_sidecar_knows_whom_its_service_calls_and_nobody_else() -> None:
    assert spec("Sidecar", "storefront")["egress"] == [
        {
            "hosts": [
                "./otel-collector.shop-commerce.svc.cluster.local",
                "istio-system/*",
                "shop-commerce/accounts.shop-commerce.svc.cluster.local",
                "shop-commerce/orders.shop-commerce.svc.cluster.local",
                "shop-engagement/analytics.shop-engagement.svc.cluster.local",
                "shop-engagement/cache.shop-engagement.svc.cluster.local",
                "shop-fulfilment/inventory.shop-fulfilment.svc.cluster.local",
            ]
        }
    ]


def test_a_broker_outside_is_known_to_the_mesh_by_name() -> None:
    entry = spec("ServiceEntry", "broker", "payments", replace(SITE, broker=BrokerAt(region="eu-west-1")))
    assert entry["hosts"] == ["sqs.eu-west-1.amazonaws.com", "sns.eu-west-1.amazonaws.com"]
    assert entry["ports"] == [{"name": "tls", "number": 443, "protocol": "TLS"}]
    assert of_kind("ServiceEntry", site=replace(SITE, broker=BrokerAt(endpoint="http://10.0.0.1:4566"))) == {}


def test_without_a_mesh_there_are_no_rules_of_one() -> None:
    with pytest.raises(ValueError, match="stage 'async' has no mesh"):
        mesh_objects(ASYNC, None, SITE)
