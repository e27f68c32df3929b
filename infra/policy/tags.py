"""Who owns this, and which stage is it of? Asked on the bill, and at three in the morning.

Everything of AWS that takes tags carries them. What takes none is listed, so that a new type is asked for tags until
somebody looks: forgetting is noticed, not excused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at

REQUIRED = ("owner", "stage")

_UNTAGGABLE: Mapping[str, Sequence[str]] = {
    "acm": ("CertificateValidation",),
    "acmpca": ("Certificate", "CertificateAuthorityCertificate", "Permission", "Policy"),
    "cloudwatch": ("Dashboard", "LogMetricFilter", "LogResourcePolicy", "LogStream"),
    "ec2": (
        "InternetGatewayAttachment",
        "MainRouteTableAssociation",
        "NetworkAclAssociation",
        "NetworkAclRule",
        "PeeringConnectionOptions",
        "Route",
        "RouteTableAssociation",
        "SecurityGroupRule",
        "VpcEndpointRouteTableAssociation",
        "VpcEndpointSubnetAssociation",
    ),
    "ec2transitgateway": ("Route", "RouteTableAssociation", "RouteTablePropagation"),
    "ecr": ("LifecyclePolicy", "RegistryPolicy", "RegistryScanningConfiguration", "RepositoryPolicy"),
    "eks": ("AccessPolicyAssociation",),
    "iam": (
        "GroupPolicy",
        "GroupPolicyAttachment",
        "PolicyAttachment",
        "RolePoliciesExclusive",
        "RolePolicy",
        "RolePolicyAttachment",
        "RolePolicyAttachmentsExclusive",
        "UserPolicy",
        "UserPolicyAttachment",
    ),
    "kms": ("Alias", "Grant", "KeyPolicy"),
    "msk": ("ClusterPolicy", "Configuration", "ScramSecretAssociation", "SingleScramSecretAssociation", "Topic"),
    "route53": ("Record", "VpcAssociationAuthorization", "ZoneAssociation"),
    "s3": (
        "BucketAcl",
        "BucketLifecycleConfiguration",
        "BucketOwnershipControls",
        "BucketPolicy",
        "BucketPublicAccessBlock",
        "BucketServerSideEncryptionConfiguration",
        "BucketVersioning",
    ),
    "secretsmanager": ("SecretPolicy", "SecretRotation", "SecretVersion"),
    "servicediscovery": ("Instance",),
    "sns": ("TopicDataProtectionPolicy", "TopicPolicy", "TopicSubscription"),
    "sqs": ("QueuePolicy", "RedriveAllowPolicy", "RedrivePolicy"),
    "wafv2": ("WebAclAssociation",),
}

UNTAGGABLE = frozenset((module, kind) for module, kinds in _UNTAGGABLE.items() for kind in kinds)
"""(Module, type) of what takes no tags."""


def owned(rows: Sequence[Row]) -> Iterator[Said]:
    """Tags 'owner' and 'stage', with something in them, on everything that takes tags."""
    for row in rows:
        if not taggable(row.type):
            continue
        tags = at(row.inputs, "tags")
        for key in REQUIRED:
            value = at(tags, key)
            if value is UNKNOWN:
                yield Unjudged(row, f"its tag {key!r} is not known yet")
            elif not isinstance(value, str) or not value.strip():
                yield Wrong(
                    row,
                    f"no tag {key!r}",
                    "give it the deployment's tags, or list its type in infra/policy/tags.py if it takes none",
                )


def taggable(type_: str) -> bool:
    """Whether a type is one of AWS that takes tags.

    >>> taggable("aws:sqs/queue:Queue"), taggable("aws:ec2/route:Route"), taggable("kubernetes:core/v1:Service")
    (True, False, False)
    """
    package, _, rest = type_.partition(":")
    module, _, kind = rest.partition(":")
    return package == "aws" and bool(kind) and (module.partition("/")[0], kind) not in UNTAGGABLE
