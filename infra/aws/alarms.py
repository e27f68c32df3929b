"""How do alarms reach somebody? `infra.aws.alarm_plan` as CloudWatch alarms, a topic to subscribe to, and a dashboard.

Nobody is subscribed by the stack: who is on call is no part of it. Alarms also tell when all is well again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_aws import cloudwatch, sns

from infra.aws.alarm_plan import GREATER, PERIOD_S, QUIET, Alarm, Metric
from infra.aws.naming import called, tags
from infra.config import Options

_THING = re.compile(r"\{(.+)\}")
_PLAIN = ("Maximum", "Minimum", "Sum", "Average", "SampleCount")
WIDTH, HEIGHT = 12, 6
"""Of a widget; a dashboard is 24 wide."""


class Alarms(pulumi.ComponentResource):
    """The alarms of a deployment."""

    topic: pulumi.Output[str]
    """ARN of where they ring."""
    dashboard: pulumi.Output[str]
    """Address of the dashboard."""

    def __init__(
        self,
        planned: Sequence[Alarm],
        things: Mapping[str, pulumi.Input[str]],
        options: Options,
        *,
        key: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`things`: 'queue:orders-replies' and the like -> what AWS calls it. Raise KeyError for a missing one."""
        super().__init__("stages:aws:Alarms", "alarms", None, opts)
        self._things, self._options = things, options
        self._below = pulumi.ResourceOptions(parent=self)
        topic = sns.Topic(
            "alarms",
            name=called(options, "alarms"),
            kms_master_key_id=key,
            tags=tags(options),
            opts=self._below,
        )
        self.topic = topic.arn
        made = [self._alarm(alarm) for alarm in planned]
        name = called(options, "slo")
        cloudwatch.Dashboard(
            "slo",
            dashboard_name=name,
            dashboard_body=pulumi.Output.all(*(alarm.arn for alarm in made)).apply(
                lambda arns: json.dumps(dashboard(planned, arns), sort_keys=True)
            ),
            opts=self._below,
        )
        region = options.region
        address = f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#dashboards:name={name}"
        self.dashboard = pulumi.Output.from_input(address)
        self.register_outputs({"topic": self.topic, "dashboard": address})

    def _alarm(self, alarm: Alarm) -> cloudwatch.MetricAlarm:
        return cloudwatch.MetricAlarm(
            alarm.name,
            name=called(self._options, alarm.name),
            alarm_description=alarm.about,
            comparison_operator=GREATER,
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            datapoints_to_alarm=alarm.bad_periods,
            treat_missing_data=QUIET,
            alarm_actions=[self.topic],
            ok_actions=[self.topic],
            **self._measured(alarm),
            tags=tags(self._options, alarm.system),
            opts=self._below,
        )

    def _measured(self, alarm: Alarm) -> dict[str, Any]:
        if alarm.expression is None:
            ((_, metric),) = alarm.metrics
            return {
                "namespace": metric.namespace,
                "metric_name": metric.name,
                "period": PERIOD_S,
                "dimensions": self._dimensions(metric),
                **_statistic(metric.statistic),
            }
        return {
            "metric_queries": [
                {"id": "result", "expression": alarm.expression, "label": alarm.about, "return_data": True},
                *(self._query(name, metric) for name, metric in alarm.metrics),
            ]
        }

    def _query(self, name: str, metric: Metric) -> dict[str, Any]:
        return {
            "id": name,
            "return_data": False,
            "metric": {
                "namespace": metric.namespace,
                "metric_name": metric.name,
                "period": PERIOD_S,
                "stat": metric.statistic,
                "dimensions": self._dimensions(metric),
            },
        }

    def _dimensions(self, metric: Metric) -> dict[str, pulumi.Input[str]]:
        return {name: self._named(value) for name, value in metric.dimensions}

    def _named(self, value: str) -> pulumi.Input[str]:
        thing = _THING.fullmatch(value)
        return self._things[thing[1]] if thing else value


def _statistic(statistic: str) -> dict[str, str]:
    """CloudWatch has a field for plain statistics and one for percentiles."""
    return {"statistic": statistic} if statistic in _PLAIN else {"extended_statistic": statistic}


def dashboard(planned: Sequence[Alarm], arns: Sequence[str]) -> dict[str, Any]:
    """What is shown: whether all is well, then each alarm with its threshold, two in a row."""
    status = {
        "type": "alarm",
        "x": 0,
        "y": 0,
        "width": 2 * WIDTH,
        "height": 3,
        "properties": {"title": "Promises", "alarms": list(arns)},
    }
    return {
        "widgets": [status, *(_widget(n, alarm, arn) for n, (alarm, arn) in enumerate(zip(planned, arns, strict=True)))]
    }


def _widget(number: int, alarm: Alarm, arn: str) -> dict[str, Any]:
    return {
        "type": "metric",
        "x": WIDTH * (number % 2),
        "y": 3 + HEIGHT * (number // 2),
        "width": WIDTH,
        "height": HEIGHT,
        "properties": {"title": alarm.name, "annotations": {"alarms": [arn]}},
    }
