"""Who is a pod to AWS? A role per service, given by EKS Pod Identity, with exactly what `infra.aws.permissions` says.

A service that may do nothing on AWS has no role. No pod has the rights of its node, none holds a key or a password.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_aws import eks, iam

from infra.aws import permissions
from infra.aws.naming import called, tags
from infra.aws.permissions import Permission, Target, statements
from infra.config import Options

POD_IDENTITY = "pods.eks.amazonaws.com"
ACTIONS = ("sts:AssumeRole", "sts:TagSession")
"""EKS tags each session with cluster, namespace and service account."""


class Identity(pulumi.ComponentResource):
    """A role that pods of one service account have."""

    arn: pulumi.Output[str]
    association: eks.PodIdentityAssociation
    """Pods that start before it have no role until they start again."""

    def __init__(
        self,
        who: str,
        options: Options,
        policy: pulumi.Input[str],
        *,
        cluster: pulumi.Input[str],
        namespace: str,
        system: str | None,
        service_account: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`policy`: a document as JSON."""
        super().__init__("stages:aws:Identity", f"{who}-identity", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        role = iam.Role(
            who,
            name=called(options, who),
            assume_role_policy=permissions.trust(POD_IDENTITY, *ACTIONS),
            tags=tags(options, system),
            opts=below,
        )
        granted = iam.RolePolicy(who, role=role.name, policy=policy, opts=below)
        self.association = eks.PodIdentityAssociation(
            who,
            cluster_name=cluster,
            namespace=namespace,
            service_account=service_account or who,
            role_arn=role.arn,
            tags=tags(options, system),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[granted]),
        )
        self.arn = role.arn
        self.register_outputs({"arn": self.arn})


def policy_of(granted: Sequence[Permission], arns: Mapping[Target, pulumi.Input[str]]) -> pulumi.Output[str]:
    """The document of a service, once the ARNs are known. Raise KeyError for a target without one."""
    wanted = list(dict.fromkeys(target for permission in granted for target in permission.targets))
    found = pulumi.Output.all(*(arns[target] for target in wanted))
    return found.apply(lambda known: permissions.text(*statements(granted, dict(zip(wanted, known, strict=True)))))
