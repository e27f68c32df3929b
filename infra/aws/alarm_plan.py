"""When is somebody woken? Alarms that follow from what the model promises. (pure)

    an operation's SLO          latency and share of good answers, seen at the load balancer of its entry service
    a completion's deadline     age of the oldest message on the way to it
    "nobody loses an order"     anything in a dead-letter queue

The load balancer does not know one operation from another: its limits are the loosest latency and the strictest share
of the operations behind it. Alarms are written for one minute's data; three out of five bad minutes wake somebody, one
dead letter does so at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from stages.kafka import dead_letters, kafka_reads
from stages.messaging import Queue, messaging
from stages.model import Kind, Stage

PERIOD_S = 60
WINDOW, BAD = 5, 3
"""Minutes looked at, and bad ones among them that count."""

LOAD_BALANCER = "AWS/ApplicationELB"
SQS = "AWS/SQS"
KAFKA = "AWS/Kafka"

GREATER = "GreaterThanThreshold"
QUIET = "notBreaching"
"""No data is no traffic: nothing to wake anybody for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A time series of CloudWatch."""

    namespace: str
    name: str
    statistic: str
    """'Maximum', 'Sum', or a percentile such as 'p99'."""
    dimensions: tuple[tuple[str, str], ...] = ()
    """What is known beforehand; a value in braces is a thing by the model's name, to be replaced by what AWS calls it:
    '{load balancer:storefront}', '{queue:orders-replies}', '{kafka cluster}'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A threshold on a metric, or on an expression over some."""

    name: str
    """Without the deployment's."""
    system: str
    """Whose it is."""
    about: str
    """What is wrong when it rings, and what was promised."""
    metrics: tuple[tuple[str, Metric], ...]
    """Id -> metric; the only one if there is no expression."""
    expression: str | None = None
    threshold: float
    periods: int = WINDOW
    bad_periods: int = BAD


def alarms(stage: Stage, broker: str = "sqs") -> tuple[Alarm, ...]:
    """Every alarm of a stage, in an order that does not change."""
    return (*_entries(stage), *(_kafka(stage) if broker == "kafka" else _queues(stage)))


def _entries(stage: Stage) -> Iterator[Alarm]:
    for entry in dict.fromkeys(operation.entry for operation in stage.operations):
        promised = [operation for operation in stage.operations if operation.entry == entry]
        share = max(operation.slo_share for operation in promised)
        latency_s = max(operation.latency_slo_ms for operation in promised) / 1000
        system = stage.service(entry).system
        yield Alarm(
            name=f"{entry}-latency",
            system=system,
            about=f"more than {_percent(1 - share)} of the answers of {entry} take longer than {latency_s:g} s",
            metrics=(("latency", _answers(entry, "TargetResponseTime", f"p{share * 100:g}")),),
            threshold=latency_s,
        )
        yield Alarm(
            name=f"{entry}-availability",
            system=system,
            about=f"more than {_percent(1 - share)} of the answers of {entry} are errors of the server",
            metrics=(
                ("all", _answers(entry, "RequestCount", "Sum")),
                ("bad", _answers(entry, "HTTPCode_Target_5XX_Count", "Sum")),
                ("none", _answers(entry, "HTTPCode_ELB_5XX_Count", "Sum")),
            ),
            # a time without errors has no data points for them; one without requests has nothing to divide by
            expression="100 * (FILL(bad, 0) + FILL(none, 0)) / all",
            threshold=round(100 * (1 - share), 3),
        )


def _answers(entry: str, name: str, statistic: str) -> Metric:
    return Metric(
        namespace=LOAD_BALANCER,
        name=name,
        statistic=statistic,
        dimensions=(("LoadBalancer", f"{{load balancer:{entry}}}"),),
    )


def deadline_ms(stage: Stage, consumer: str) -> int | None:
    """Tightest deadline of the completions that messages to a service lead to; None without any."""
    operations = {
        operation
        for channel in stage.channels
        if channel.kind is not Kind.CALL and consumer in _ends(channel.callee, channel.caller, channel.kind)
        for operation in channel.operations
    }
    found = [c.within_ms for o in stage.operations if o.name in operations for c in o.completions]
    return min(found, default=None)


def _ends(callee: str, caller: str, kind: Kind) -> tuple[str, ...]:
    """Who reads because of a channel: the callee, and who waits for the reply to a command."""
    return (callee, caller) if kind is Kind.COMMAND else (callee,)


def _queues(stage: Stage) -> Iterator[Alarm]:
    for queue in messaging(stage).queues:
        system = stage.service(queue.consumer).system
        deadline = deadline_ms(stage, queue.consumer)
        plain = queue.name.removesuffix(".fifo")
        if deadline is not None:
            limit_s = math.ceil(deadline / 1000)
            yield Alarm(
                name=f"{plain}-age",
                system=system,
                about=f"a message waits in {queue.name} for more than the {limit_s} s promised for what it leads to",
                metrics=(("age", _of_queue(queue.name, "ApproximateAgeOfOldestMessage")),),
                threshold=limit_s,
            )
        yield _dead(queue, system)


def _dead(queue: Queue, system: str) -> Alarm:
    return Alarm(
        name=f"{queue.dead_letters.removesuffix('.fifo')}-depth",
        system=system,
        about=f"{queue.dead_letters} holds a message that {queue.consumer} could not handle",
        metrics=(("dead", _of_queue(queue.dead_letters, "ApproximateNumberOfMessagesVisible")),),
        threshold=0,
        periods=1,
        bad_periods=1,
    )


def _of_queue(queue: str, name: str) -> Metric:
    return Metric(namespace=SQS, name=name, statistic="Maximum", dimensions=(("QueueName", f"{{queue:{queue}}}"),))


def _kafka(stage: Stage) -> Iterator[Alarm]:
    """How long the oldest record waits is what MSK estimates; dead letters are counted as they come in."""
    for consumer in dict.fromkeys(queue.consumer for queue in messaging(stage).queues):
        system = stage.service(consumer).system
        deadline = deadline_ms(stage, consumer)
        for topic in kafka_reads(stage, consumer):
            if deadline is not None:
                limit_s = math.ceil(deadline / 1000)
                yield Alarm(
                    name=f"{consumer}-{topic}-lag",
                    system=system,
                    about=f"{consumer} is behind {topic} by more than the {limit_s} s promised for what it leads to",
                    metrics=(
                        (
                            "lag",
                            Metric(
                                namespace=KAFKA,
                                name="EstimatedMaxTimeLag",
                                statistic="Maximum",
                                dimensions=(
                                    ("Cluster Name", "{kafka cluster}"),
                                    ("Consumer Group", consumer),
                                    ("Topic", topic),
                                ),
                            ),
                        ),
                    ),
                    threshold=limit_s,
                )
        yield _dead_records(consumer, system)


def _dead_records(consumer: str, system: str) -> Alarm:
    topic = dead_letters(consumer)
    counted = tuple((f"b{broker}", _incoming(topic, broker)) for broker in (1, 2, 3))
    return Alarm(
        name=f"{topic}-depth",
        system=system,
        about=f"{topic} gets a record that {consumer} could not handle",
        metrics=counted,
        expression=" + ".join(f"FILL({name}, 0)" for name, _ in counted),
        threshold=0,
        periods=1,
        bad_periods=1,
    )


def _incoming(topic: str, broker: int) -> Metric:
    return Metric(
        namespace=KAFKA,
        name="MessagesInPerSec",
        statistic="Maximum",
        dimensions=(("Broker ID", str(broker)), ("Cluster Name", "{kafka cluster}"), ("Topic", topic)),
    )


def _percent(share: float) -> str:
    return f"{round(100 * share, 3):g} %"
