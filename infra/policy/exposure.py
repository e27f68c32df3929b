"""Can anybody on the Internet, or any account of AWS, reach what keeps data?

Security groups are judged on the ports of stores and brokers: the way in for users is a load balancer on 443, which may
be open. Policies of queues, topics, images and buckets are judged on `Principal: *` without a condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at, document, items, of_type

DATA_PORTS = frozenset({1433, 2049, 2181, 3306, 5432, 6379, 6432, 8182, 9200, 11211, 27017, *range(9092, 9099)})
"""SQL Server, NFS, ZooKeeper, MySQL, PostgreSQL, Redis, PgBouncer, Neptune, OpenSearch, memcached, MongoDB, and Kafka's
listeners on MSK (9092 plaintext to 9098 IAM)."""

ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})

BUCKET = "aws:s3/bucket:Bucket"
BUCKET_ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
PUBLIC_ACCESS = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
_BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def private_stores(rows: Sequence[Row]) -> Iterator[Said]:
    """No public database or broker, no open data port, no policy for everybody."""
    for row in rows:
        for path, bad, what, remedy in _SWITCHES.get(row.type, ()):
            value = at(row.inputs, *path)
            if value is UNKNOWN:
                yield Unjudged(row, f"{'.'.join(path)} is not known yet")
            elif value in bad:
                yield Wrong(row, what, remedy)
        yield from _ingress(row)
        if row.type in _RESOURCE_POLICIES:
            yield from _everybody(row)


def closed_buckets(rows: Sequence[Row]) -> Iterator[Said]:
    """Every bucket has an encryption setting and a block of public access; both are resources that name the bucket."""
    for row in of_type(rows, BUCKET):
        for setting, what in ((BUCKET_ENCRYPTION, "no encryption setting"), (PUBLIC_ACCESS, "no public access block")):
            found = [r for r in of_type(rows, setting) if _names(r, row)]
            vague = [r for r in of_type(rows, setting) if at(r.inputs, "bucket") is UNKNOWN]
            if not found and vague:
                yield Unjudged(row, f"which bucket {vague[0].name!r} is for is not known yet")
            elif not found:
                yield Wrong(row, what, f"add a {setting.rpartition(':')[2]} for it")
    for row in of_type(rows, PUBLIC_ACCESS):
        for block in _BLOCKS:
            value = at(row.inputs, block)
            if value is UNKNOWN:
                yield Unjudged(row, f"{block} is not known yet")
            elif value is not True:
                yield Wrong(row, f"{block} is off", f"set {block}")


def _names(setting: Row, bucket: Row) -> bool:
    """By the bucket's own name, or by its Pulumi name with what the engine puts behind it."""
    named = at(setting.inputs, "bucket")
    return isinstance(named, str) and (named == at(bucket.inputs, "bucket") or named.startswith(bucket.name))


def _ingress(row: Row) -> Iterator[Said]:
    for rule in _rules(row):
        sources = [
            source
            for key in ("cidrIpv4", "cidrIpv6", "cidrBlocks", "ipv6CidrBlocks")
            for source in items(at(rule, key))
        ]
        first, last, protocol = (at(rule, key) for key in ("fromPort", "toPort", "protocol"))
        protocol = at(rule, "ipProtocol") if protocol is None else protocol
        ports = _open_data_ports(first, last, protocol)
        if UNKNOWN in sources and ports != []:
            yield Unjudged(row, "who may come in is not known yet")
        elif any(isinstance(s, str) and s in ANYWHERE for s in sources):
            if ports is None:
                yield Unjudged(row, "the ports that are open to everybody are not known yet")
            elif ports:
                yield Wrong(
                    row,
                    f"everybody reaches port {', '.join(map(str, ports[:3]))}{' and others' if ports[3:] else ''}",
                    "name the security group of the callers as the source",
                )


def _rules(row: Row) -> list[Any]:
    """The ways in that a row opens: a group has many, a rule is one."""
    if row.type == "aws:ec2/securityGroup:SecurityGroup":
        return items(at(row.inputs, "ingress"))
    if row.type == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
        return [row.inputs]
    if row.type == "aws:ec2/securityGroupRule:SecurityGroupRule" and at(row.inputs, "type") != "egress":
        return [row.inputs]
    return []


def _open_data_ports(first: object, last: object, protocol: object) -> list[int] | None:
    """Of a rule; None where that is not known."""
    if protocol in ("-1", "all", -1):
        return sorted(DATA_PORTS)
    if first is UNKNOWN or last is UNKNOWN or protocol is UNKNOWN:
        return None
    if not isinstance(first, int | float) or not isinstance(last, int | float):
        return sorted(DATA_PORTS)  # no ports named: all of them
    return sorted(port for port in DATA_PORTS if first <= port <= last)


def _everybody(row: Row) -> Iterator[Said]:
    policy = document(at(row.inputs, "policy"))
    statements = items(at(policy, "Statement"))
    if policy is UNKNOWN or UNKNOWN in statements:
        yield Unjudged(row, "its policy is not known yet")
        return
    for statement in statements:
        if at(statement, "Effect") != "Allow" or at(statement, "Condition"):
            continue
        principal = at(statement, "Principal")
        named = items(at(principal, "AWS")) if isinstance(principal, Mapping) else items(principal)
        if "*" in named:
            yield Wrong(row, "its policy allows everybody", "name the principal, or add a Condition on its source ARN")
        elif UNKNOWN in named:
            yield Unjudged(row, "whom its policy allows is not known yet")


_Switch = tuple[tuple[str, ...], tuple[object, ...], str, str]

_PUBLIC_DATABASE: _Switch = (("publiclyAccessible",), (True,), "it has a public address", "unset publiclyAccessible")

_SWITCHES: Mapping[str, Sequence[_Switch]] = {
    "aws:rds/instance:Instance": (_PUBLIC_DATABASE,),
    "aws:rds/clusterInstance:ClusterInstance": (_PUBLIC_DATABASE,),
    "aws:msk/cluster:Cluster": (
        (
            ("brokerNodeGroupInfo", "connectivityInfo", "publicAccess", "type"),
            ("SERVICE_PROVIDED_EIPS",),
            "its brokers have public addresses",
            "set publicAccess.type to DISABLED",
        ),
    ),
    "aws:s3/bucketAcl:BucketAcl": (
        (("acl",), ("public-read", "public-read-write", "authenticated-read"), "anybody may read it", "set private"),
    ),
    BUCKET: (
        (("acl",), ("public-read", "public-read-write", "authenticated-read"), "anybody may read it", "set private"),
    ),
}
"""Path, values that are wrong, what that means, what to do."""

_RESOURCE_POLICIES = frozenset(
    {
        "aws:sqs/queue:Queue",
        "aws:sqs/queuePolicy:QueuePolicy",
        "aws:sns/topic:Topic",
        "aws:sns/topicPolicy:TopicPolicy",
        "aws:ecr/repositoryPolicy:RepositoryPolicy",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:secretsmanager/secretPolicy:SecretPolicy",
    }
)
