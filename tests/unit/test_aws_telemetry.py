"""Where collectors send: configurations that a collector would take, and roles with what their exporters call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra.aws import telemetry
from infra.aws.in_cluster import POD_IDENTITY_AGENT, site
from infra.aws.permissions import document
from infra.aws.sizing import PRODUCTION
from infra.config import ConfigError, options
from infra.k8s.collector import collector_configuration, collector_objects
from infra.k8s.program import site_of
from infra.k8s.site import COLLECTOR_IMAGE, Site
from stages.catalogue import MESH, STAGES, SYNC
from stages.model import Stage
from workloads.settings import Settings
from workloads.telemetry import Telemetry

CORE = {
    "receivers": {"otlp", "prometheus"},
    "processors": {"memory_limiter", "batch"},
    "exporters": {"debug", "otlphttp"},
    "extensions": {"health_check"},
}
"""What is used of a distribution's parts (opentelemetry-collector-releases, manifest.yaml)."""
PARTS = {
    COLLECTOR_IMAGE: CORE,
    telemetry.IMAGE: {**CORE, "exporters": CORE["exporters"] | {"awsxray", "awsemf"}},
}


def aws_site(stage: Stage, cluster: str = "shop") -> Site:
    asked = options({"stage": stage.name, "target": "aws", "image": "shop:1", "domain": "shop.example.com"}, "shop")
    cidrs = ("10.0.0.0/24",)
    return site(asked, PRODUCTION, cluster, env={}, public_cidrs=cidrs, intra_cidrs=cidrs, network="10.0.0.0/16")


def k8s_site(stage: Stage, **more: str) -> Site:
    raw = {"stage": stage.name, "target": "k8s", "image": "shop:1", "kubeconfig_context": "kind", **more}
    return site_of(options(raw, "shop"), stage, None)


def sites(stage: Stage) -> Iterator[Site]:
    yield aws_site(stage)
    yield k8s_site(stage)
    yield k8s_site(stage, otlp_endpoint="https://otlp.example.com/otlp")


def refusals(configuration: dict[str, Any], image: str) -> list[str]:
    """Why a collector of that image would not start."""
    found = []
    for kind, parts in PARTS[image].items():
        found += [f"no {kind} {name}" for name in configuration[kind] if name.partition("/")[0] not in parts]
    service = configuration["service"]
    used: dict[str, set[str]] = {"extensions": set(service["extensions"])}
    for signal, pipeline in service["pipelines"].items():
        for kind in ("receivers", "processors", "exporters"):
            used.setdefault(kind, set()).update(pipeline[kind])
            found += [
                f"{signal}: {kind} {name} is not there" for name in pipeline[kind] if name not in configuration[kind]
            ]
            if kind != "processors" and not pipeline[kind]:
                found.append(f"{signal}: no {kind}")
    for kind, names in used.items():
        found += [f"{kind} {name} is in no pipeline" for name in configuration[kind] if name not in names]
    return found


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_every_configuration_is_one_that_its_image_starts_with(stage: Stage) -> None:
    for here in sites(stage):
        configuration = json.loads(collector_configuration(stage, here))
        assert refusals(configuration, here.collector.image) == []
        assert set(configuration["service"]["pipelines"]) == {"traces", "metrics"}


def test_a_configuration_that_would_not_start_is_caught() -> None:
    broken = json.loads(collector_configuration(SYNC, aws_site(SYNC)))
    broken["service"]["pipelines"]["traces"]["exporters"] = ["awsxrai"]

    assert refusals(broken, COLLECTOR_IMAGE) == [
        "no exporters awsxray",
        "no exporters awsemf",
        "traces: exporters awsxrai is not there",
        "exporters awsxray is in no pipeline",
    ]


def test_on_aws_traces_go_to_xray_and_metrics_to_the_stacks_log_group() -> None:
    configuration = json.loads(collector_configuration(MESH, aws_site(MESH, "commerce")))
    assert configuration["service"]["pipelines"]["traces"]["exporters"] == ["awsxray"]
    assert configuration["service"]["pipelines"]["metrics"]["exporters"] == ["awsemf"]
    assert configuration["exporters"]["awsxray"] == {"region": "us-east-1"}
    embedded = configuration["exporters"]["awsemf"]
    assert embedded["log_group_name"] == "/stages/shop-commerce/metrics"
    assert (embedded["namespace"], embedded["region"]) == ("stages/shop", "us-east-1")


def test_on_k8s_a_collector_prints_until_it_is_told_where_to_send() -> None:
    def exporters(here: Site) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(collector_configuration(SYNC, here))["exporters"]
        return found

    assert exporters(k8s_site(SYNC)) == {"debug": {"verbosity": "basic"}}
    assert exporters(k8s_site(SYNC, otlp_endpoint="http://tempo.monitoring:4318")) == {
        "otlphttp": {"endpoint": "http://tempo.monitoring:4318"}
    }


def _egress(stage: Stage, here: Site) -> list[dict[str, Any]]:
    (policy,) = (m for m in collector_objects(stage, here, "shop", None) if m["kind"] == "NetworkPolicy")
    found: list[dict[str, Any]] = policy["spec"]["egress"]
    return found


def test_a_collector_reaches_what_it_sends_to_and_nothing_more_than_without() -> None:
    without = _egress(SYNC, k8s_site(SYNC))
    anywhere = {"ipBlock": {"cidr": "0.0.0.0/0"}}

    agent = {
        "to": [{"ipBlock": {"cidr": POD_IDENTITY_AGENT.cidrs[0]}}],
        "ports": [{"protocol": "TCP", "port": POD_IDENTITY_AGENT.ports[0]}],
    }
    assert _egress(SYNC, aws_site(SYNC)) == [
        *without,
        agent,
        {"to": [anywhere], "ports": [{"protocol": "TCP", "port": 443}]},
    ]
    inside = k8s_site(SYNC, otlp_endpoint="http://tempo.monitoring.svc:4318")
    namespace = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert _egress(SYNC, inside) == [
        *without,
        {"to": [anywhere, namespace], "ports": [{"protocol": "TCP", "port": 4318}]},
    ]


def test_a_role_may_do_what_the_two_exporters_call_and_nothing_else() -> None:
    group = "arn:aws:logs:us-east-1:123456789012:log-group:/stages/shop-commerce/metrics"
    assert document(*telemetry.sending(group))["Statement"] == [
        {"Sid": "Traces", "Effect": "Allow", "Action": ["xray:PutTraceSegments"], "Resource": ["*"]},
        {
            "Sid": "Metrics",
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": [group, f"{group}:*"],
        },
    ]


def test_every_metric_that_is_sent_is_one_that_services_have() -> None:
    telemetry_of_a_service = Telemetry(Settings(service="orders", traces=""))
    try:
        families = {f.name: f for f in telemetry_of_a_service.registry.collect()}
    finally:
        telemetry_of_a_service.close()
    for names, _ in telemetry.MEASURED:
        for name in names:
            assert name.removesuffix("_total") in families, name


def test_metrics_that_have_no_declaration_are_dropped_before_they_cost() -> None:
    kept = re.compile(aws_site(SYNC).collector.metric_names)
    for name in ("shop_request_seconds_bucket", "shop_request_seconds_count", "shop_calls_total", "shop_in_flight"):
        assert kept.fullmatch(name), name
    for name in ("istio_requests_total", "shop_version", "shop_request_seconds_created", "go_gc_duration_seconds"):
        assert not kept.fullmatch(name), name
    assert re.fullmatch(k8s_site(SYNC).collector.metric_names, "istio_requests_total")


@pytest.mark.parametrize("endpoint", ["tempo:4318", "ftp://tempo", "http://user:secret@tempo", "http://"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="otlp_endpoint is"):
        k8s_site(SYNC, otlp_endpoint=endpoint)
