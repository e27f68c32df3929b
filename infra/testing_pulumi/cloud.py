"""What would the cloud answer? What AWS, a cluster and another stack add to a resource, each in the form of its own.

Enough for the programs of this project: what none of them reads is not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

ACCOUNT = "123456789012"
"""The account that every mocked ARN names."""

REGION = "us-east-1"

REFERENCE = "pulumi:pulumi:StackReference"
"""The type of another stack."""

CALLS: dict[str, dict[str, Any]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {
        "accountId": ACCOUNT,
        "arn": f"arn:aws:iam::{ACCOUNT}:user/test",
        "userId": "TEST",
        "id": ACCOUNT,
    },
    "aws:index/getPartition:getPartition": {"partition": "aws", "dnsSuffix": "amazonaws.com", "id": "aws"},
    "aws:index/getRegion:getRegion": {"region": REGION, "id": REGION, "name": REGION},
}


def answers(type_: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the cloud adds to a resource.

    >>> answers("aws:sqs/queue:Queue", "q", {"name": "shop-orders"})["arn"]
    'arn:aws:sqs:us-east-1:123456789012:shop-orders'
    """
    if type_ == "kubernetes:networking.k8s.io/v1:Ingress":
        host = f"k8s-{inputs['metadata']['name']}-1f2e3d4c5b-1234567890.{REGION}.elb.amazonaws.com"
        return {"status": {"loadBalancer": {"ingress": [{"hostname": host}]}}}
    if type_ in _CLUSTER:
        return dict(_CLUSTER[type_])
    if type_.startswith("stages:local:"):
        return _tokens(type_, name, inputs)
    if not type_.startswith("aws:"):
        return {}
    service = type_.split(":")[1].split("/")[0]
    called = str(next((inputs[key] for key in _NAMES if inputs.get(key)), name))
    place = f"{'' if service in _GLOBAL else REGION}:{ACCOUNT}"
    arn = f"arn:aws:{_SERVICE.get(service, service)}:{place}:{_INFIX.get(type_, '')}{called}{_SUFFIX.get(type_, '')}"
    return {"arn": arn, **_MORE.get(type_, _nothing)(called, inputs)}


_CLUSTER: Mapping[str, Mapping[str, Any]] = {
    "kubernetes:core/v1:Service": {
        "status": {"loadBalancer": {"ingress": [{"hostname": f"gateway.elb.{REGION}.amazonaws.com"}]}}
    },
    "kubernetes:core/v1:Secret": {"data": {"token": "dG9rZW4="}},
}
"""What a cluster adds to an object, and programs read: of a service its load balancer, of an account its token."""
_NAMES = ("name", "identifier", "clusterName")
_GLOBAL = frozenset({"iam", "route53"})
_SERVICE = {"lb": "elasticloadbalancing", "msk": "kafka"}
_INFIX = {
    "aws:iam/role:Role": "role/",
    "aws:iam/policy:Policy": "policy/",
    "aws:eks/cluster:Cluster": "cluster/",
    "aws:rds/instance:Instance": "db:",
    "aws:ecr/repository:Repository": "repository/",
    "aws:kms/key:Key": "key/",
    "aws:msk/cluster:Cluster": "cluster/",
    "aws:msk/configuration:Configuration": "configuration/",
    "aws:acm/certificate:Certificate": "certificate/",
    "aws:cloudwatch/logGroup:LogGroup": "log-group:",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "alarm:",
    "aws:ec2/vpc:Vpc": "vpc/",
    "aws:ec2/subnet:Subnet": "subnet/",
}
_SUFFIX = {"aws:msk/cluster:Cluster": "/uuid", "aws:msk/configuration:Configuration": "/uuid"}

_Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]


def _tokens(type_: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of a resource of the local cloud: what refers to its outputs before they are known."""
    from infra.local.pulumi.kinds import DEPLOYMENT, kind_of
    from infra.local.resource import Ref

    kind = kind_of(type_)
    known_by = "" if kind.name == DEPLOYMENT else name
    return {output: Ref(kind.name, known_by, output).token for output in kind.outputs_of(inputs)}


def _nothing(_called: str, _inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _eks(called: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "endpoint": f"https://{called}.eks.{REGION}.amazonaws.com",
        "certificateAuthority": {"data": "Q0E="},
        "identities": [{"oidcs": [{"issuer": f"https://oidc.eks.{REGION}.amazonaws.com/id/{called}"}]}],
        "vpcConfig": {**inputs.get("vpcConfig", {}), "clusterSecurityGroupId": f"sg-{called}"},
    }


def _rds(called: str, _inputs: Mapping[str, Any]) -> dict[str, Any]:
    host = f"{called}.mock.{REGION}.rds.amazonaws.com"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{called}"
    return {
        "address": host,
        "endpoint": f"{host}:5432",
        "port": 5432,
        "resourceId": f"db-{called}",
        "masterUserSecrets": [{"secretArn": secret, "secretStatus": "active"}],
    }


def _acm(_called: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    domain = inputs["domainName"]
    proof = {
        "domainName": domain,
        "resourceRecordName": f"_proof.{domain}.",
        "resourceRecordType": "CNAME",
        "resourceRecordValue": "_value.acm-validations.aws.",
    }
    return {"domainValidationOptions": [proof]}


_MORE: Mapping[str, _Answer] = {
    "aws:acm/certificate:Certificate": _acm,
    "aws:ec2/vpc:Vpc": lambda _called, _inputs: {"ownerId": ACCOUNT},
    "aws:ecr/repository:Repository": lambda called, _inputs: {
        "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{called}",
        "registryId": ACCOUNT,
    },
    "aws:eks/cluster:Cluster": _eks,
    "aws:kms/key:Key": lambda called, _inputs: {"keyId": called},
    "aws:msk/cluster:Cluster": lambda called, _inputs: {
        "bootstrapBrokersSaslIam": ",".join(
            f"b-{n}.{called}.mock.kafka.{REGION}.amazonaws.com:9098" for n in (1, 2, 3)
        ),
        "clusterUuid": "uuid",
    },
    "aws:msk/configuration:Configuration": lambda _called, _inputs: {"latestRevision": 1},
    "aws:rds/instance:Instance": _rds,
    "aws:servicediscovery/privateDnsNamespace:PrivateDnsNamespace": lambda _called, _inputs: {"hostedZone": "Z1"},
    "aws:sqs/queue:Queue": lambda called, _inputs: {"url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{called}"},
}
"""Type -> what its provider answers besides an ARN."""
