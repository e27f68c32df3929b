"""Is everything that keeps data encrypted where it lies, and by a setting that a reader can see?

AWS encrypts much by default today. A default can differ between accounts and years, and an auditor reads settings: so
the rule asks for the setting itself. What it asks per type is the table at the bottom; buckets have a rule of their own
(`infra.policy.exposure`), since their settings are resources of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at, items

Inputs = Mapping[str, Any]
Asked = Callable[[Inputs], object]
"""True: as it should be; UNKNOWN: cannot be told yet; anything else: not encrypted."""


def encrypted(rows: Sequence[Row]) -> Iterator[Said]:
    """Encryption at rest for every store, queue, topic, image repository, secret and log."""
    for row in rows:
        for asked, what, remedy in _ASKED.get(row.type, ()):
            answer = asked(row.inputs)
            if answer is UNKNOWN:
                yield Unjudged(row, f"whether {what} is not known yet")
            elif answer is not True:
                yield Wrong(row, what, remedy)


def _set(*path: str | int) -> Asked:
    """A key is named; an unknown one is one all the same: it comes from another resource."""
    return lambda inputs: bool(at(inputs, *path))


def _on(*path: str | int) -> Asked:
    return lambda inputs: at(inputs, *path)


def _queue_key(inputs: Inputs) -> object:
    own = bool(at(inputs, "kmsMasterKeyId"))
    return True if own else at(inputs, "sqsManagedSseEnabled")


def _cluster_secrets(inputs: Inputs) -> object:
    """Envelope encryption of Secrets: from Kubernetes 1.28 on AWS has a key of its own; ours can be revoked."""
    config = at(inputs, "encryptionConfig")
    resources = at(config, "resources")
    if resources is UNKNOWN or UNKNOWN in items(resources):
        return UNKNOWN
    return "secrets" in items(resources) and bool(at(config, "provider", "keyArn"))


def _repository(inputs: Inputs) -> object:
    types = [at(c, "encryptionType") for c in items(at(inputs, "encryptionConfigurations"))]
    return UNKNOWN if UNKNOWN in types else bool(types) and all(t in ("AES256", "KMS") for t in types)


def _kafka_transit(inputs: Inputs) -> object:
    transit = at(inputs, "encryptionInfo", "encryptionInTransit")
    between, clients = at(transit, "inCluster"), at(transit, "clientBroker")
    if UNKNOWN in (transit, between, clients):
        return UNKNOWN
    return between is not False and clients in (None, "TLS")


_ASKED: Mapping[str, Sequence[tuple[Asked, str, str]]] = {
    "aws:sqs/queue:Queue": (
        (_queue_key, "messages are stored unencrypted", "set sqsManagedSseEnabled, or kmsMasterKeyId"),
    ),
    "aws:sns/topic:Topic": ((_set("kmsMasterKeyId"), "messages are stored unencrypted", "set kmsMasterKeyId"),),
    "aws:rds/instance:Instance": (
        (_on("storageEncrypted"), "its storage is unencrypted", "set storageEncrypted; it cannot be changed in place"),
    ),
    "aws:rds/cluster:Cluster": (
        (_on("storageEncrypted"), "its storage is unencrypted", "set storageEncrypted; it cannot be changed in place"),
    ),
    "aws:eks/cluster:Cluster": (
        (_cluster_secrets, "its Secrets have no key of ours", "set encryptionConfig with resources ['secrets']"),
    ),
    "aws:ecr/repository:Repository": (
        (_repository, "how images are encrypted is not said", "set encryptionConfigurations, AES256 or KMS"),
    ),
    "aws:msk/cluster:Cluster": (
        (
            _set("encryptionInfo", "encryptionAtRestKmsKeyArn"),
            "its logs have no key of ours",
            "set encryptionInfo.encryptionAtRestKmsKeyArn",
        ),
        (_kafka_transit, "it takes plaintext", "set encryptionInTransit to inCluster true and clientBroker TLS"),
    ),
    "aws:cloudwatch/logGroup:LogGroup": ((_set("kmsKeyId"), "its logs have no key of ours", "set kmsKeyId"),),
    "aws:ebs/volume:Volume": ((_on("encrypted"), "it is unencrypted", "set encrypted"),),
    "aws:efs/fileSystem:FileSystem": ((_on("encrypted"), "it is unencrypted", "set encrypted"),),
    "aws:dynamodb/table:Table": (
        (_on("serverSideEncryption", "enabled"), "it has no key of ours", "set serverSideEncryption.enabled"),
    ),
    "aws:elasticache/replicationGroup:ReplicationGroup": (
        (_on("atRestEncryptionEnabled"), "it is unencrypted", "set atRestEncryptionEnabled"),
    ),
}
"""What is asked, what is wrong without it, what to do."""
