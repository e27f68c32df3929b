"""Does a role get what it needs, or everything there is?

A `*` in an action or as the whole of a resource is refused. AWS has actions that know no resource: they are listed
below, each from its page in the AWS Service Authorization Reference, and only a statement made of nothing else
may say `Resource: *`. Resource policies (of a key, a queue) are about one resource, and not judged here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at, document, items

WITHOUT_RESOURCE: Mapping[str, str] = {
    "ecr:GetAuthorizationToken": "a login is to the registry, not to a repository",
    "cloudwatch:PutMetricData": "metrics have no ARN; restrict by the condition key cloudwatch:namespace",
    "cloudwatch:GetMetricData": "metrics have no ARN",
    "cloudwatch:ListMetrics": "metrics have no ARN",
    "xray:PutTraceSegments": "traces have no ARN",
    "xray:PutTelemetryRecords": "traces have no ARN",
    "xray:GetSamplingRules": "read by every tracer before it knows a rule",
    "xray:GetSamplingTargets": "read by every tracer before it knows a rule",
    "servicediscovery:DiscoverInstances": "asks by names; restrict by servicediscovery:NamespaceName",
    "servicediscovery:DiscoverInstancesRevision": "asks by names; restrict by servicediscovery:NamespaceName",
    "servicediscovery:ListNamespaces": "a list has no ARN",
    "servicediscovery:ListServices": "a list has no ARN",
    "sts:GetCallerIdentity": "asks who one is",
    "tag:GetResources": "a search has no ARN",
    "ec2:DescribeInstances": "EC2 lists have no ARN",
    "ec2:DescribeNetworkAcls": "EC2 lists have no ARN",
    "ec2:DescribeVpcs": "EC2 lists have no ARN",
    "ec2:DescribeSubnets": "EC2 lists have no ARN",
    "ec2:DescribeNetworkInterfaces": "EC2 lists have no ARN",
    "ec2:DescribeManagedPrefixLists": "EC2 lists have no ARN",
    "ec2:DescribeRouteTables": "EC2 lists have no ARN",
    "ec2:DescribeTransitGateways": "EC2 lists have no ARN",
    "ec2:DescribeTransitGatewayAttachments": "EC2 lists have no ARN",
    "ec2:DescribeTransitGatewayPeeringAttachments": "EC2 lists have no ARN",
    "logs:CreateLogDelivery": "a delivery has no ARN before it exists",
    "logs:DescribeLogGroups": "a list has no ARN",
    "logs:DescribeResourcePolicies": "a list has no ARN",
    "logs:PutResourcePolicy": "belongs to the account",
    "rds:DescribeDBInstances": "needed to find the target by tag before its ARN is known",
    "eks:ListClusters": "a list has no ARN",
}
"""Action -> why nothing narrower than `Resource: *` can be said."""

_POLICIES = frozenset(
    f"aws:iam/{name[0].lower()}{name[1:]}:{name}"
    for name in (
        "Policy",
        "RolePolicy",
        "UserPolicy",
        "GroupPolicy",
    )
)
_ATTACHMENTS = frozenset(
    f"aws:iam/{name[0].lower()}{name[1:]}:{name}"
    for name in (
        "RolePolicyAttachment",
        "UserPolicyAttachment",
        "GroupPolicyAttachment",
        "PolicyAttachment",
    )
)
_ROLE = "aws:iam/role:Role"


def narrow_permissions(rows: Sequence[Row]) -> Iterator[Said]:
    """No wildcard in what an identity may do, or to what; no managed policy that has one at its heart."""
    for row in rows:
        for where, policy in _documents(row):
            yield from _statements(row, where, policy)
        for arn in _managed(row):
            if arn is UNKNOWN:
                yield Unjudged(row, "which managed policy it attaches is not known yet")
            elif isinstance(arn, str) and _broad(arn):
                yield Wrong(row, f"{arn.rpartition('/')[2]} allows everything", "attach a policy with what is needed")


def _documents(row: Row) -> Iterator[tuple[str, Any]]:
    if row.type in _POLICIES:
        yield "", at(row.inputs, "policy")
    if row.type == _ROLE:
        for inline in items(at(row.inputs, "inlinePolicies")):
            yield "inline policy: ", at(inline, "policy")
        yield "trust policy: ", at(row.inputs, "assumeRolePolicy")


def _managed(row: Row) -> list[Any]:
    if row.type in _ATTACHMENTS:
        return items(at(row.inputs, "policyArn"))
    return items(at(row.inputs, "managedPolicyArns")) if row.type == _ROLE else []


def _broad(arn: str) -> bool:
    """AWS's own policies with `Action: *`, or with everything of a service."""
    name = arn.rpartition("/")[2]
    return arn.startswith("arn:aws:iam::aws:policy/") and (
        name in ("AdministratorAccess", "PowerUserAccess") or name.endswith("FullAccess")
    )


def _statements(row: Row, where: str, text: Any) -> Iterator[Said]:
    policy = document(text)
    if policy is UNKNOWN:
        yield Unjudged(row, f"{where}the document is not known yet")
        return
    for statement in items(at(policy, "Statement")):
        if statement is UNKNOWN or at(statement, "Effect") is UNKNOWN:
            yield Unjudged(row, f"{where}a statement is not known yet")
        elif at(statement, "Effect") == "Allow":
            yield from _statement(row, where, statement)


def _statement(row: Row, where: str, statement: Any) -> Iterator[Said]:
    actions, resources = items(at(statement, "Action")), items(at(statement, "Resource"))
    for key in ("NotAction", "NotResource", "NotPrincipal"):
        if at(statement, key) is not None:
            yield Wrong(row, f"{where}{key} allows all but a few", "name what is allowed instead")
    for action in actions:
        if isinstance(action, str) and "*" in action:
            yield Wrong(row, f"{where}it allows {action!r}", "name the actions that the code calls")
    if _anybody(at(statement, "Principal")) and not at(statement, "Condition"):
        yield Wrong(row, f"{where}everybody may assume it", "name the principal")
    needless = [a for a in actions if not isinstance(a, str) or a not in WITHOUT_RESOURCE]
    conditional = bool(at(statement, "Condition"))
    for resource in resources:
        if not isinstance(resource, str) or not needless:
            continue
        if _everything(resource) or (_every(resource) and not conditional):
            named = ", ".join(str(a) for a in needless[:3])
            yield Wrong(row, f"{where}it allows {named} on {resource!r}", "name the ARNs that it is for")
    if UNKNOWN in actions or UNKNOWN in resources:
        yield Unjudged(row, f"{where}a part of a statement is not known yet")


def _everything(resource: str) -> bool:
    """`*`, or an ARN whose resource part is only that.

    >>> _everything("arn:aws:sqs:us-east-1:123456789012:*"), _everything("arn:aws:sqs:us-east-1:123456789012:shop-*")
    (True, False)
    """
    return resource == "*" or (resource.startswith("arn:") and resource.split(":", 5)[-1].strip("*/") == "")


_ALL_OF_A_TYPE = re.compile(r"arn:[^:]*:(?!s3:)[^:]*:[^:]*:[^:]*:[a-z-]+[/:]\*")


def _every(resource: str) -> bool:
    """All of a type: to be narrowed by a condition, such as one on a tag. Objects of a bucket are no type.

    >>> _every("arn:aws:ec2:us-east-1:123456789012:subnet/*"), _every("arn:aws:s3:::bucket/*")
    (True, False)
    """
    return _ALL_OF_A_TYPE.fullmatch(resource) is not None


def _anybody(principal: Any) -> bool:
    return principal == "*" or "*" in items(at(principal, "AWS"))
