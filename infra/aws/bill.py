"""Which things of a stage on AWS cost money, and how many are there? A bill of materials, from the model alone. (pure)

    Stage + Sizing + broker + Load --> amounts: part, what, how many, of which price, how much of it in a month

Needs no account, no engine and no SDK: it counts what the programs create, and tests compare the counts with what they
create. What is paid by use follows from `Load`, whose numbers are assumptions and printed with every estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from infra.aws.alarm_plan import alarms
from infra.aws.network_plan import interface_endpoints
from infra.aws.sizing import Sizing
from infra.k8s.objects import objects
from infra.k8s.site import BrokerAt, Reach, Site
from stages.messaging import messaging
from stages.model import Channel, Kind, Stage

ZONES = 3
HOURS = 730
"""In a month: 8,760 / 12."""
GB = 1_000_000
"""In KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is assumed of use; everything else is counted."""

    requests_per_s: float = 10
    """Of users, day and night, in the mix of the stage's weights."""
    answer_kb: float = 4
    """Of an answer, to users and between services."""
    message_kb: float = 1
    log_gb_per_cluster: float = 30
    """A month, of control plane and flow logs; kept as long as the size says."""
    metrics_per_service: float = 15
    """Combinations of dimensions that `infra.aws.telemetry` sends to CloudWatch."""
    metrics_log_gb_per_service: float = 1
    """A month, of the events by which they come."""
    traced_share: float = 0.1
    """Of users' requests (`workloads.settings`, SHOP_TRACES_SHARE)."""
    nat_gb_per_cluster: float = 50
    """A month, through NAT gateways: what has no endpoint."""
    image_gb: float = 10
    """In the repository."""
    kafka_days: float = 4
    """For which topics keep messages (`infra.aws.kafka.RETENTION_MS`)."""
    node_cpu: float = 1.9
    """Of an m6a.large (2 vCPU, 8 GiB) for pods, the rest is the system's."""
    node_memory_gib: float = 6.9
    node_volume_gb: float = 80
    """What EKS Auto Mode gives a node."""
    sidecar_cpu: float = 0.1
    """Istio's default requests of a sidecar, ..."""
    sidecar_memory_gib: float = 0.125
    control_plane_cpu: float = 0.25
    """... and ours of istiod, in every cluster of a mesh (`infra.aws.istio`), ..."""
    control_plane_memory_gib: float = 0.5
    control_plane_pods: int = 2
    """... so many of them; a gateway has as many pods, of a sidecar's size."""
    intermediates_per_month: float = 2
    """Certificates that each cluster asks of the root (`infra.aws.trust.RENEWED_BEFORE`)."""
    poll_wait_s: float = 2
    """A consumer asks its queue again after so long without a message (`workloads.broker.sqs.WAIT_S`)."""

    @property
    def requests(self) -> float:
        """In a month."""
        return self.requests_per_s * 3600 * HOURS

    def sentences(self) -> tuple[str, ...]:
        """'requests per s: 10', ... in the order above."""
        return tuple(f"{f.name.replace('_', ' ')}: {getattr(self, f.name):g}" for f in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Something that is paid for."""

    part: str
    """Such as 'network': what a reader adds up."""
    what: str
    price: str
    """Key of prices.json."""
    pieces: float
    """How many there are, or the use itself."""
    monthly: float = 1
    """Units of the price per piece and month: HOURS for what is paid by the hour."""
    resource: str = ""
    """Type of the resources that `pieces` counts, each of them one; '' for what no resource stands for."""

    @property
    def units(self) -> float:
        return self.pieces * self.monthly


def bill(stage: Stage, sizing: Sizing, broker: str = "sqs", load: Load | None = None) -> tuple[Amount, ...]:
    """Everything that a stage costs, part by part; nothing that costs nothing."""
    assumed = load or Load()
    found = (
        *_compute(stage, sizing, assumed),
        *_network(stage, sizing, broker, assumed),
        *_entrance(stage, assumed),
        *_databases(stage, sizing),
        *(_kafka(stage, sizing, assumed) if broker == "kafka" else _sqs(stage, sizing, assumed)),
        *_between(stage, assumed),
        *_keys(stage, assumed),
        *_watching(stage, sizing, broker, assumed),
    )
    return tuple(amount for amount in found if amount.units > 0)


def _compute(stage: Stage, sizing: Sizing, load: Load) -> Iterator[Amount]:
    clusters, nodes = len(stage.clusters), sum(nodes_in(stage, c.name, sizing, load) for c in stage.clusters)
    yield _hourly("clusters", "EKS control planes", "eks-cluster", clusters, "aws:eks/cluster:Cluster")
    yield _hourly("clusters", "nodes, m6a.large", "node", nodes)
    yield _hourly("clusters", "Auto Mode for these nodes", "node-auto-mode", nodes)
    yield Amount(
        part="clusters",
        what="volumes of these nodes",
        price="node-volume",
        pieces=nodes,
        monthly=load.node_volume_gb,
    )


def nodes_in(stage: Stage, cluster: str, sizing: Sizing, load: Load) -> int:
    """Nodes for the fewest pods of a cluster: what they ask for, and one for each pod of a service.

    The pods of a service prefer nodes and zones of their own, and Auto Mode makes room for preferences.
    """
    least = sizing.replicas[0]
    site = Site(deployment="shop", image="shop", replicas=sizing.replicas, broker=BrokerAt(), database=Reach())
    cpu = memory = 0.0
    for manifest in objects(stage, site, cluster if stage.mesh else None):
        if manifest["kind"] != "Deployment":
            continue
        scaled = manifest["metadata"]["name"] in stage.services_in(cluster)
        pods = least if scaled else manifest["spec"].get("replicas", 1)
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            asked = container["resources"]["requests"]
            cpu += pods * _cores(asked["cpu"])
            memory += pods * _gib(asked["memory"])
        if stage.mesh and scaled:
            cpu += pods * load.sidecar_cpu
            memory += pods * load.sidecar_memory_gib
    if stage.mesh:
        cpu += load.control_plane_pods * (load.control_plane_cpu + load.sidecar_cpu)
        memory += load.control_plane_pods * (load.control_plane_memory_gib + load.sidecar_memory_gib)
    return max(least, math.ceil(cpu / load.node_cpu), math.ceil(memory / load.node_memory_gib))


def _network(stage: Stage, sizing: Sizing, broker: str, load: Load) -> Iterator[Amount]:
    clusters = len(stage.clusters)
    gateways = clusters * (ZONES if sizing.nat_per_zone else 1)
    messages = bool(messaging(stage).queues) and broker == "sqs"
    endpoints = clusters * len(interface_endpoints(messages=messages, wanted=sizing.interface_endpoints))
    yield _hourly("network", "NAT gateways", "nat-gateway", gateways, "aws:ec2/natGateway:NatGateway")
    yield _hourly("network", "their public addresses", "public-ipv4", gateways, "aws:ec2/eip:Eip")
    yield _used("network", "data through NAT gateways, GB", "nat-data", clusters * load.nat_gb_per_cluster)
    yield Amount(
        part="network",
        what=f"interface endpoints, in {ZONES} zones",
        price="interface-endpoint",
        pieces=endpoints,
        monthly=ZONES * HOURS,
        resource=INTERFACE_ENDPOINT,
    )
    within = sum(share * load.requests for _, share in _calls(stage)) * 2 / 3 * load.answer_kb / GB
    yield _used("network", "calls between zones, GB", "zone-data", within)


INTERFACE_ENDPOINT = "aws:ec2/vpcEndpoint:VpcEndpoint"
"""Those of type Interface; gateway endpoints are free."""


def _entrance(stage: Stage, load: Load) -> Iterator[Amount]:
    """One load balancer in front of the service that users reach."""
    answers = load.requests * load.answer_kb / GB
    # an LCU takes 25 new connections, 3,000 open ones or 1 GB an hour: the largest counts
    lcu = max(load.requests_per_s / 25, answers / HOURS)
    yield _hourly("entrance", "load balancer", "alb", 1)
    yield _hourly("entrance", "its capacity units", "alb-lcu", lcu)
    yield _hourly("entrance", "its public addresses", "public-ipv4", ZONES)
    yield _used("entrance", "answers to users, GB", "internet-data", answers)


def _databases(stage: Stage, sizing: Sizing) -> Iterator[Amount]:
    standby = "-multi-az" if sizing.multi_az else ""
    servers = len(servers_of(stage))
    what = f"PostgreSQL servers, {sizing.database_class}{', with a standby each' if standby else ''}"
    instance = "aws:rds/instance:Instance"
    yield _hourly("databases", what, f"{sizing.database_class}{standby}", servers, instance)
    yield Amount(
        part="databases",
        what=f"their storage, {sizing.database_gib} GB each",
        price=f"db-storage{standby}",
        pieces=servers,
        monthly=sizing.database_gib,
    )
    yield _used("databases", "master passwords, which RDS makes", "secret", servers)


def servers_of(stage: Stage) -> tuple[str, ...]:
    """Systems that keep records: each has a server of its own."""
    return tuple(dict.fromkeys(s.system for s in stage.services if s.database and s.store is None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Messages per user's request, over the mix of operations."""

    commands: float
    """With their answers."""
    published: float
    delivered: float
    ordered_published: float
    """To FIFO topics, ..."""
    ordered_delivered: float
    """... and of all deliveries, those to FIFO queues."""
    from_ordered: float
    """Of all deliveries, those by FIFO topics."""


def traffic(stage: Stage) -> Traffic:
    """What the channels carry, operation by operation."""
    needed, total = messaging(stage), sum(o.weight for o in stage.operations)
    sums = dict.fromkeys((f.name for f in fields(Traffic)), 0.0)
    for operation in stage.operations:
        share = operation.weight / total
        carried = [c for c in stage.channels if operation.name in c.operations]
        events = [c for c in carried if c.kind is Kind.EVENT]
        topics = {c.caller: needed.topic_of(c.caller) for c in events}
        sums["commands"] += share * 2 * sum(c.kind is Kind.COMMAND for c in carried)
        for topic in filter(None, topics.values()):
            sums["ordered_published" if topic.fifo else "published"] += share
        for event in events:
            queue, source = needed.queue_of(event.callee), topics[event.caller]
            sums["ordered_delivered" if queue and queue.fifo else "delivered"] += share
            sums["from_ordered"] += share * bool(source and source.fifo)
    return Traffic(**sums)


def _sqs(stage: Stage, sizing: Sizing, load: Load) -> Iterator[Amount]:
    """A command is sent, received and deleted; what a topic delivers is received and deleted; the rest asks in vain."""
    needed, carried, millions = messaging(stage), traffic(stage), load.requests / 1e6
    pods = sizing.replicas[0] * len(needed.queues)
    idle = pods * HOURS * 3600 / load.poll_wait_s / 1e6
    ordered = carried.ordered_delivered * 2 * millions
    yield _used(
        "messages",
        "requests to queues, millions",
        "sqs-request",
        (carried.commands * 3 + carried.delivered * 2) * millions,
    )
    yield _used("messages", "asking empty queues, millions", "sqs-request", idle)
    yield _used("messages", "requests to FIFO queues, millions", "sqs-fifo-request", ordered)
    yield _used("messages", "events, millions", "sns-publish", carried.published * millions)
    yield _used("messages", "events in order, millions", "sns-fifo-publish", carried.ordered_published * millions)
    yield _used("messages", "their deliveries, millions", "sns-fifo-delivery", carried.from_ordered * millions)
    if sizing.interface_endpoints:
        through = (carried.commands * 2 + carried.published + carried.ordered_published) * load.requests
        through += (carried.delivered + carried.ordered_delivered) * load.requests
        yield _used("messages", "through endpoints, GB", "endpoint-data", through * load.message_kb / GB)


def _kafka(stage: Stage, sizing: Sizing, load: Load) -> Iterator[Amount]:
    if not messaging(stage).queues:
        return
    carried = traffic(stage)
    written = (carried.commands + carried.published + carried.ordered_published) * load.requests * load.message_kb / GB
    yield _hourly("messages", f"Kafka brokers, {sizing.kafka_class}", sizing.kafka_class, ZONES)
    yield _used("messages", "messages written, GB", "kafka-ingress", written)
    yield _used("messages", "messages kept, GB", "kafka-storage", written * load.kafka_days / 30)


def _between(stage: Stage, load: Load) -> Iterator[Amount]:
    """What separate clusters need to reach each other."""
    if not stage.mesh:
        return
    clusters = len(stage.clusters)
    apart = [(c, share) for c, share in _calls(stage) if _leaves(stage, c)]
    carried = sum(share for _, share in apart) * load.requests * 2 * load.answer_kb / GB
    yield _hourly(
        "between systems",
        "attachments to the transit gateway",
        "transit-attachment",
        clusters,
        "aws:ec2transitgateway/vpcAttachment:VpcAttachment",
    )
    yield _used("between systems", "calls between systems, GB", "transit-data", carried)
    yield _hourly("between systems", "east-west load balancers", "nlb", clusters)
    # an NLCU takes 800 new connections a second, 100,000 open ones or 1 GB an hour: the largest counts
    yield _hourly("between systems", "their capacity units", "nlb-lcu", carried / HOURS)
    yield _used(
        "between systems",
        "Cloud Map namespaces",
        "hosted-zone",
        1,
        "aws:servicediscovery/privateDnsNamespace:PrivateDnsNamespace",
    )
    yield _used(
        "between systems",
        "systems registered there",
        "registered-instance",
        clusters,
        "aws:servicediscovery/instance:Instance",
    )


def _keys(stage: Stage, load: Load) -> Iterator[Amount]:
    """What encrypts, and what a mesh trusts. A system by itself has its own keys; others share them."""
    owners = len(stage.systems) if stage.mesh else 1
    stores = len(servers_of(stage)) if stage.mesh else min(1, len(servers_of(stage)))
    messages = bool(messaging(stage).queues)
    keys = owners + stores + messages + bool(stage.mesh)  # platform, data, messages; of a mesh's backbone: letters
    yield _used("keys and trust", "encryption keys", "kms-key", keys, "aws:kms/key:Key")
    if not stage.mesh:
        return
    clusters = len(stage.clusters)
    called = {stage.cluster_of(c.callee) for c in stage.channels if c.kind is Kind.CALL and _leaves(stage, c)}
    yield _used(
        "keys and trust",
        "root in AWS Private CA",
        "private-ca",
        1,
        "aws:acmpca/certificateAuthority:CertificateAuthority",
    )
    issued = clusters * load.intermediates_per_month
    yield _used("keys and trust", "intermediates of clusters", "private-ca-certificate", issued)
    yield _used(
        "keys and trust",
        "credentials of control planes",
        "secret",
        len(called),
        "aws:secretsmanager/secret:Secret",
    )


def _watching(stage: Stage, sizing: Sizing, broker: str, load: Load) -> Iterator[Amount]:
    planned = alarms(stage, broker)
    yield Amount(
        part="watching",
        what="alarms, by metrics that they look at",
        price="alarm",
        pieces=len(planned),
        monthly=sum(len(alarm.metrics) for alarm in planned) / len(planned),
        resource="aws:cloudwatch/metricAlarm:MetricAlarm",
    )
    boards = len(stage.systems) if stage.mesh else 1
    yield _used("watching", "dashboards", "dashboard", boards, "aws:cloudwatch/dashboard:Dashboard")
    services = len(stage.services)
    yield _used("watching", "metrics of services", "custom-metric", services * load.metrics_per_service)
    yield _used("watching", "traces, millions", "traces", load.requests * load.traced_share / 1e6)
    logs = len(stage.clusters) * load.log_gb_per_cluster + services * load.metrics_log_gb_per_service
    yield _used("watching", "logs, GB", "log-ingest", logs)
    # stored compressed to about 0.15 of what was collected (CloudWatch pricing, example 1 on logs)
    yield _used(
        "watching", f"logs kept for {sizing.log_days} days, GB", "log-storage", logs * 0.15 * sizing.log_days / 30
    )
    yield _used("watching", "images, GB", "image-storage", load.image_gb)


def _calls(stage: Stage) -> Iterator[tuple[Channel, float]]:
    """Every call and how often it is made per user's request; a fallback only when it is needed, so never."""
    total = sum(o.weight for o in stage.operations)
    for channel in stage.channels:
        if channel.kind is Kind.CALL and channel.essential:
            yield channel, sum(stage.operation(name).weight for name in channel.operations) / total


def _leaves(stage: Stage, channel: Channel) -> bool:
    """Whether caller and callee are in different clusters."""
    return stage.cluster_of(channel.caller) != stage.cluster_of(channel.callee)


def _hourly(part: str, what: str, price: str, pieces: float, resource: str = "") -> Amount:
    return Amount(part=part, what=what, price=price, pieces=pieces, monthly=HOURS, resource=resource)


def _used(part: str, what: str, price: str, units: float, resource: str = "") -> Amount:
    return Amount(part=part, what=what, price=price, pieces=units, resource=resource)


def _cores(text: Any) -> float:
    """
    >>> _cores("250m"), _cores("2")
    (0.25, 2.0)
    """
    said = str(text)
    return float(said[:-1]) / 1000 if said.endswith("m") else float(said)


def _gib(text: Any) -> float:
    """
    >>> _gib("512Mi"), _gib("2Gi")
    (0.5, 2.0)
    """
    said = str(text)
    return float(said[:-2]) / {"Ki": 1024**2, "Mi": 1024, "Gi": 1}[said[-2:]]
