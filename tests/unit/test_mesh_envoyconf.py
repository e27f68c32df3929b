"""What Envoys are told: whole documents, compared by equality."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra.local.mesh import envoyconf
from infra.local.mesh.envoyconf import APP, BROKER, Paths, outbound
from infra.local.mesh.envoyconf_base import STATS
from stages.catalogue import MESH
from stages.mesh import ClusterPlan, Edge, Member, cluster_plan
from stages.model import Mesh

PATHS = Paths(directory="/d/mesh/here/envoy/shop-sidecar", traces="/d/traces")
STORE = Edge(
    channel="shop-store",
    callee="store",
    callee_cluster="there",
    identity="spiffe://shop/there/store",
    timeout_ms=400,
    attempts=2,
    reaction_ms=900,
)
ONCE = Edge(
    channel="shop-till",
    callee="till",
    callee_cluster="here",
    identity="spiffe://shop/here/till",
    timeout_ms=300,
    attempts=1,
    reaction_ms=300,
)
SHOP = Member(
    service="shop",
    identity="spiffe://shop/here/shop",
    callers=("spiffe://shop/here/till",),
    edges=(STORE, ONCE),
    ingress=True,
    broker=True,
)
NOBODY = Member(service="quiet", identity="spiffe://shop/here/quiet", callers=(), edges=(), ingress=False, broker=False)
PLAN = ClusterPlan(cluster="here", mesh=Mesh(), members=(SHOP, NOBODY))
PORTS = {
    "admin": 1000,
    "inbound": 1001,
    "ingress": 1002,
    "egress_store": 1003,
    "egress_till": 1004,
    "broker": 1005,
    "mtls": 1006,
}


def sds(name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": source(f"sds/{name}.json")}


def source(file: str) -> dict[str, Any]:
    path = {"path": f"{PATHS.directory}/{file}"}
    return {"resource_api_version": "V3", "initial_fetch_timeout": "2s", "path_config_source": path}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def targets(*disabled: str, **known: list[str]) -> dict[str, dict[str, Any]]:
    docs = envoyconf.targets(PLAN, SHOP, known, PATHS, disabled=disabled)
    assert list(docs) == ["cds/clusters.json"]
    return {c["name"]: c for c in docs["cds/clusters.json"]["resources"]}


def listeners(doc: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in doc["static_resources"]["listeners"]}


def manager(listener: dict[str, Any], chain: int = 0) -> dict[str, Any]:
    (found,) = listener["filter_chains"][chain]["filters"]
    config: dict[str, Any] = found["typed_config"]
    return config


def test_a_sidecar_has_a_listener_per_port_and_all_listen_on_loopback() -> None:
    found = listeners(envoyconf.bootstrap(PLAN, SHOP, PORTS, PATHS))
    assert {name: one["address"] for name, one in found.items()} == {
        name: address(port) for name, port in PORTS.items() if name not in {"admin", "mtls"}
    }
    assert all(one["enable_reuse_port"] for one in found.values())
    assert envoyconf.port_names(SHOP) == ("inbound", "ingress", "egress_store", "egress_till", "broker")
    assert envoyconf.port_names(NOBODY) == ("inbound",)


def test_what_stands_around_the_listeners() -> None:
    doc = envoyconf.bootstrap(PLAN, SHOP, PORTS, PATHS, part="shop-canary-sidecar", version="v2")
    assert doc["node"] == {"id": "shop-canary-sidecar", "cluster": "here"}
    assert doc["admin"] == {"address": address(1000)}
    assert doc["dynamic_resources"] == {"cds_config": source("cds/clusters.json")}
    events = {"event_log_path": "/d/traces/shop-canary-sidecar.outliers.jsonl"}
    assert doc["cluster_manager"] == {"outlier_detection": events}


def test_a_callee_has_to_prove_who_it_is_and_is_limited_as_the_mesh_says() -> None:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    assert targets(store_v1=["127.0.0.1:2000"])["store_v1"] == {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "store_v1",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "store_v1",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(2000)}}]}],
        },
        "connect_timeout": "0.3s",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "metadata": {"filter_metadata": {"shop": {"version": "v1"}}},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "v1.store.there.shop",
                "max_session_keys": 0,
                "common_tls_context": {
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_3",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "alpn_protocols": ["h2"],
                    "tls_certificate_sds_secret_configs": [sds("own")],
                    "combined_validation_context": {
                        "default_validation_context": {
                            "match_typed_subject_alt_names": [
                                {"san_type": "URI", "matcher": {"exact": "spiffe://shop/there/store"}}
                            ]
                        },
                        "validation_context_sds_secret_config": sds("trust"),
                    },
                },
            },
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "common_http_protocol_options": {"max_connection_duration": "3s"},
                "explicit_http_config": {"http2_protocol_options": {}},
                "outlier_detection": {
                    "error_matcher": {
                        "http_response_headers_match": {
                            "headers": [{"name": ":status", "string_match": {"safe_regex": {"regex": "50[24]"}}}]
                        }
                    }
                },
            }
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": "DEFAULT",
                    "max_requests": 40,
                    "max_pending_requests": 40,
                    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 3},
                    "track_remaining": True,
                }
            ]
        },
        "outlier_detection": {
            "consecutive_5xx": 2,
            "enforcing_consecutive_5xx": 100,
            "consecutive_gateway_failure": 1_000_000,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_failure_percentage": 0,
            "interval": "0.5s",
            "base_ejection_time": "2s",
            "max_ejection_time": "6s",
            "max_ejection_time_jitter": "0s",
            "max_ejection_percent": 100,
        },
    }


def test_every_cluster_is_there_before_anybody_is_known() -> None:
    found = targets()
    assert list(found) == [APP, "store_v1", "store_v2", "till_v1", "till_v2", BROKER]
    assert all(c["load_assignment"] == {"cluster_name": n, "endpoints": []} for n, c in found.items())


def test_an_address_that_is_none_is_refused() -> None:
    for wrong in ("", "127.0.0.1", ":80", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000"):
        with pytest.raises(ValueError, match="is not host:port"):
            targets(app=[wrong])


def test_without_outlier_detection_nothing_else_differs() -> None:
    def without(cluster: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in cluster.items() if key != "outlier_detection"}

    assert targets("outlier-detection") == {name: without(c) for name, c in targets().items()}


def test_only_callers_of_the_model_are_allowed_and_nobody_where_there_are_none() -> None:
    def rules(member: Member) -> list[dict[str, Any]]:
        inbound = listeners(envoyconf.bootstrap(PLAN, member, PORTS, PATHS))["inbound"]
        return [f["typed_config"]["rules"] for f in manager(inbound)["http_filters"] if "rbac" in f["name"]]

    principal = {"authenticated": {"principal_name": {"exact": "spiffe://shop/here/till"}}}
    policy = {"permissions": [{"any": True}], "principals": [principal]}
    assert rules(SHOP) == [{"action": "ALLOW", "policies": {"callers": policy}}]
    assert rules(NOBODY) == [{"action": "ALLOW", "policies": {}}]


def test_inbound_asks_for_a_certificate_and_says_who_called() -> None:
    inbound = listeners(envoyconf.bootstrap(PLAN, SHOP, PORTS, PATHS))["inbound"]
    (chain,) = inbound["filter_chains"]
    context = chain["transport_socket"]["typed_config"]
    assert context["require_client_certificate"] is True
    assert context["disable_stateless_session_resumption"] is context["disable_stateful_session_resumption"] is True
    assert context["common_tls_context"]["validation_context_sds_secret_config"] == sds("trust")
    assert manager(inbound)["forward_client_cert_details"] == "SANITIZE_SET"
    assert manager(inbound)["set_current_client_cert_details"] == {"uri": True}


def test_variants_take_away_one_protection_each() -> None:
    def inbound(*disabled: str) -> dict[str, Any]:
        return listeners(envoyconf.bootstrap(PLAN, SHOP, PORTS, PATHS, disabled=disabled))["inbound"]

    names = [f["name"] for f in manager(inbound("policy"))["http_filters"]]
    assert names == ["envoy.filters.http.router"]
    encrypted, plain = inbound("mtls")["filter_chains"]
    assert encrypted == {"filter_chain_match": {"transport_protocol": "tls"}, **inbound()["filter_chains"][0]}
    assert plain["filter_chain_match"] == {"transport_protocol": "raw_buffer"}
    assert "transport_socket" not in plain
    assert inbound("retry", "breaker") == inbound()


def test_the_broker_is_reached_without_limit_and_without_log() -> None:
    found = manager(listeners(envoyconf.bootstrap(PLAN, SHOP, PORTS, PATHS))["broker"])
    (host,) = found["route_config"]["virtual_hosts"]
    assert host["routes"] == [{"match": {"prefix": "/"}, "route": {"cluster": BROKER, "timeout": "0s"}}]
    assert (found["access_log"], found["stream_idle_timeout"]) == ([], "0s")


def test_lines_of_a_log_say_where_they_come_from() -> None:
    doc = envoyconf.bootstrap(PLAN, SHOP, PORTS, PATHS)

    def own(listener: str) -> dict[str, Any]:
        (log,) = manager(listeners(doc)[listener])["access_log"]
        assert log["typed_config"]["path"] == "/d/traces/shop-sidecar.access.jsonl"
        fields: dict[str, Any] = log["typed_config"]["log_format"]["json_format"]
        return {k: v for k, v in fields.items() if k in {"side", "part", "edge", "version", "peer", "gateway"}}

    chosen = "%METADATA(CLUSTER:shop:version)%"
    caller = "%DOWNSTREAM_PEER_URI_SAN%"
    assert {name: own(name) for name in ("inbound", "ingress", "egress_store", "egress_till")} == {
        "inbound": {"side": "in", "part": "shop-sidecar", "version": "v1", "peer": caller},
        "ingress": {"side": "ingress", "part": "shop-sidecar", "version": "v1"},
        "egress_store": {
            "side": "out",
            "part": "shop-sidecar",
            "edge": "shop-store",
            "version": chosen,
            "gateway": "there-gateway",
        },
        "egress_till": {"side": "out", "part": "shop-sidecar", "edge": "shop-till", "version": chosen},
    }


def routes(splits: dict[str, dict[str, int]], file: str) -> dict[str, Any]:
    (found,) = envoyconf.routes(SHOP, splits)[f"rds/{file}.json"]["resources"]
    return dict(found)


def test_only_idempotent_requests_are_tried_again() -> None:
    again = {
        "cluster": "store_v1",
        "timeout": "0.9s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset,gateway-error",
            "num_retries": 1,
            "per_try_timeout": "0.4s",
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.1s"},
        },
    }
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD|PUT|DELETE"}}}
    key = {"name": "idempotency-key", "present_match": True}
    assert routes({}, "egress_store") == {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "egress_store",
        "virtual_hosts": [
            {
                "name": "store",
                "domains": ["*"],
                "include_request_attempt_count": True,
                "include_attempt_count_in_response": True,
                "routes": [
                    {"match": {"prefix": "/", "headers": [method]}, "route": again},
                    {"match": {"prefix": "/", "headers": [key]}, "route": again},
                    {"match": {"prefix": "/"}, "route": {"cluster": "store_v1", "timeout": "0.4s"}},
                ],
            }
        ],
    }
    (host,) = routes({}, "egress_till")["virtual_hosts"]
    assert host["routes"] == [{"match": {"prefix": "/"}, "route": {"cluster": "till_v1", "timeout": "0.3s"}}]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({}, {"cluster": "till_v1"}),
        ({"v2": 0}, {"cluster": "till_v1"}),
        ({"v2": 10}, {"v1": 90, "v2": 10}),
        ({"v2": 100}, {"v1": 0, "v2": 100}),
        ({"v1": 90, "v2": 10}, {"v1": 90, "v2": 10}),
    ],
)
def test_versions_share_the_calls(shares: dict[str, int], expected: dict[str, Any]) -> None:
    (host,) = routes({"till": shares}, "egress_till")["virtual_hosts"]
    (route,) = (r["route"] for r in host["routes"])
    assert route.pop("timeout") == "0.3s"
    if "weighted_clusters" in route:
        route = {c["name"].removeprefix("till_"): c["weight"] for c in route["weighted_clusters"]["clusters"]}
    assert route == expected


@pytest.mark.parametrize("shares", [{"v2": 101}, {"v2": -1}])
def test_shares_that_are_none_are_refused(shares: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="till: shares"):
        envoyconf.routes(SHOP, {"till": shares})


def test_secrets_are_in_two_files() -> None:
    kind = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"}
    own = {"certificate_chain": {"inline_string": "CHAIN"}, "private_key": {"inline_string": "KEY"}}
    trusted = {"trusted_ca": {"inline_string": "ROOTS"}}
    assert envoyconf.secrets("CHAIN", "KEY", "ROOTS") == {
        "sds/own.json": {"resources": [{**kind, "name": "own", "tls_certificate": own}]},
        "sds/trust.json": {"resources": [{**kind, "name": "trust", "validation_context": trusted}]},
    }


def test_a_gateway_looks_at_server_names_only() -> None:
    found = listeners(envoyconf.gateway_bootstrap(PLAN, PORTS, PATHS))["mtls"]
    assert [f["name"] for f in found["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]
    chains = [
        (c["filter_chain_match"], [f["typed_config"]["cluster"] for f in c["filters"]]) for c in found["filter_chains"]
    ]
    assert chains == [
        ({"server_names": [f"{version}.{service}.here.shop"]}, [outbound(service, version)])
        for service in ("shop", "quiet")
        for version in ("v1", "v2")
    ]
    docs = envoyconf.gateway_targets(PLAN, {"shop_v1": ["127.0.0.1:7"]})
    names = [c["name"] for c in docs["cds/clusters.json"]["resources"]]
    assert names == ["shop_v1", "shop_v2", "quiet_v1", "quiet_v2"]


def test_everything_is_json_and_the_shop_itself_can_be_rendered() -> None:
    for cluster in MESH.clusters:
        plan = cluster_plan(MESH, cluster.name)
        for member in plan.members:
            ports = {name: 2000 + n for n, name in enumerate(("admin", *envoyconf.port_names(member)))}
            docs = {
                **envoyconf.targets(plan, member, {}, PATHS),
                **envoyconf.routes(member, {}),
                "bootstrap.json": envoyconf.bootstrap(plan, member, ports, PATHS),
            }
            assert json.loads(json.dumps(docs)) == docs
            named = set(re.findall(r'"path": "/d/mesh/here/envoy/shop-sidecar/([^"]*)"', json.dumps(docs)))
            assert named <= {*docs, "sds/own.json", "sds/trust.json"}


@pytest.mark.parametrize(
    "name",
    [
        "cluster.inventory_v1.outlier_detection.ejections_active",
        "cluster.inventory_v1.upstream_rq_active_overflow",
        "cluster.inventory_v1.upstream_rq_retry_overflow",
        "cluster.inventory_v1.ssl.fail_verify_san",
        "cluster_manager.cds.update_failure",
        "http.egress_inventory.rds.egress_inventory.update_rejected",
        "http.inbound.rbac.denied",
        "sds.own.update_success",
        "listener.127.0.0.1_20011.ssl.fail_verify_error",
    ],
)
def test_statistics_that_faults_and_reports_read_are_kept(name: str) -> None:
    assert any(re.fullmatch(pattern, name) for pattern in STATS)
