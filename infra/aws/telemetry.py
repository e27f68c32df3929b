"""Where do traces and metrics of a cluster's services go? To X-Ray, and to CloudWatch by a log group of the stack.

    services -- OTLP --> collector -- PutTraceSegments --> X-Ray
    services <-- /metrics -- collector -- PutLogEvents (embedded metric format) --> log group --> CloudWatch metrics

By the exporters `awsxray` and `awsemf`, not by CloudWatch's OTLP endpoints: that for traces works only where
Transaction Search is switched on for the whole account, which is not a stack's to do, and that for metrics knows no
resource that a role could be narrowed to (CloudWatch User Guide, 'OTLP endpoints').
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_aws import cloudwatch

from infra.aws.identity import Identity
from infra.aws.naming import called, tags
from infra.aws.permissions import Statement, text
from infra.aws.sizing import Sizing
from infra.config import Options
from infra.k8s.environment import COLLECTOR
from infra.k8s.site import Collector, Reach

IMAGE = "otel/opentelemetry-collector-contrib:0.140.0"
"""The distribution with AWS's exporters, of the version that other targets run."""

SCRAPE_INTERVAL = "60s"
"""CloudWatch keeps a metric by the minute: more often costs more and shows nothing."""

STREAM = "collector"

MEASURED: Sequence[tuple[tuple[str, ...], tuple[str, ...]]] = (
    (("shop_request_seconds",), ("service", "route", "status")),
    (("shop_calls_total",), ("service", "callee", "result")),
    (("shop_messages_total",), ("service", "result")),
    (("shop_message_age_seconds",), ("service", "type")),
    (("shop_breaker_state",), ("service", "callee")),
    (("shop_in_flight", "shop_undo_backlog"), ("service",)),
)
"""Metrics of `workloads.telemetry` and the labels that become dimensions. Each combination of values is billed as a
metric of its own, so no pod and no version: those stand in the log group's events."""


def metrics_log_group(options: Options, cluster: str) -> str:
    """Name of the log group that a cluster's metrics come by."""
    return f"/stages/{called(options, cluster)}/metrics"


def collector(options: Options, cluster: str, agent: Reach) -> Collector:
    """The collector of a cluster. `agent`: where it gets the credentials of its role."""
    return Collector(
        image=IMAGE,
        traces={"awsxray": {"region": options.region}},
        metrics={"awsemf": _embedded_metrics(options, cluster)},
        metric_names="|".join(f"{name}(_bucket|_count|_sum)?" for names, _ in MEASURED for name in names),
        scrape_interval=SCRAPE_INTERVAL,
        reach=(agent, Reach()),
    )


def _embedded_metrics(options: Options, cluster: str) -> dict[str, Any]:
    return {
        "region": options.region,
        "namespace": f"stages/{options.name}",
        "log_group_name": metrics_log_group(options, cluster),
        "log_stream_name": STREAM,
        "dimension_rollup_option": "NoDimensionRollup",
        "metric_declarations": [
            {"dimensions": [list(labels)], "metric_name_selectors": [f"^{name}$" for name in names]}
            for names, labels in MEASURED
        ],
    }


def sending(group: str) -> tuple[Statement, ...]:
    """What a collector may do, from the calls of its two exporters. `group`: ARN of the log group, which is there:
    they need not make it. Traces have no ARN (AWS Service Authorization Reference, 'AWS X-Ray')."""
    return (
        Statement(sid="Traces", actions=("xray:PutTraceSegments",), resources=("*",)),
        Statement(
            sid="Metrics", actions=("logs:CreateLogStream", "logs:PutLogEvents"), resources=(group, f"{group}:*")
        ),
    )


class Telemetry(pulumi.ComponentResource):
    """The log group of a cluster's metrics, and the role of its collector."""

    association: pulumi.Resource
    """A collector that starts before it cannot send until it starts again."""

    def __init__(
        self,
        cluster: str,
        options: Options,
        sizing: Sizing,
        *,
        who: str,
        namespace: str,
        cluster_name: pulumi.Input[str],
        log_key: pulumi.Input[str],
        system: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`who`: begins the role's name, which is one in an account; `namespace`: of the collector."""
        super().__init__("stages:aws:Telemetry", f"{cluster}-telemetry", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        group = cloudwatch.LogGroup(
            f"{cluster}-metrics",
            name=metrics_log_group(options, cluster),
            retention_in_days=sizing.log_days,
            kms_key_id=log_key,
            tags=tags(options, system),
            opts=below,
        )
        identity = Identity(
            who,
            options,
            group.arn.apply(lambda arn: text(*sending(arn))),
            cluster=cluster_name,
            namespace=namespace,
            system=system,
            service_account=COLLECTOR,
            opts=below,
        )
        self.association = identity.association
        self.register_outputs({"log_group": group.name})
