"""Where do the pods run? EKS in Auto Mode: AWS runs nodes, load balancers, volumes and add-ons; roles are all it needs.

Auto Mode is three switches that go together, and none of the add-ons that a classic cluster brings. Its nodes come
from AWS's node pools, in the private subnets. Access is by IAM alone; whoever creates the cluster administers it.
"""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import cloudwatch, eks, iam

from infra.aws import permissions
from infra.aws.naming import called, tags
from infra.aws.network import Network
from infra.aws.network_plan import PRIVATE
from infra.aws.sizing import Sizing
from infra.config import NOBODY, Options

VERSION = "1.35"
"""Of Kubernetes; patched and, at the end of its support, replaced by AWS. Raise it by one at a time."""

NODE_POOLS = ("general-purpose", "system")
"""AWS's own: amd64, on demand. `system` also takes arm64, for what tolerates CriticalAddonsOnly."""

ADDONS = ("metrics-server",)
"""What autoscalers read, and Auto Mode does not bring."""

LOGS = ("api", "audit", "authenticator", "controllerManager", "scheduler")

_MANAGED = "arn:aws:iam::aws:policy/"
CLUSTER_POLICIES = (
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
"""What Auto Mode asks of the cluster's role (EKS User Guide, 'Amazon EKS Auto Mode cluster IAM role')."""
NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")
"""... and of the nodes'. Pods get nothing of it: they have Pod Identity."""


def control_plane_log_group(options: Options, cluster: str) -> str:
    """The name that EKS writes to; made before the cluster, or EKS makes it without end and without key."""
    return f"/aws/eks/{called(options, cluster)}/cluster"


def secrets_statement(key: str) -> permissions.Statement:
    """What envelope encryption of Kubernetes' secrets asks of the cluster's role."""
    return permissions.Statement(
        sid="EncryptSecrets",
        actions=("kms:Encrypt", "kms:Decrypt", "kms:ListGrants", "kms:DescribeKey"),
        resources=(key,),
    )


class Cluster(pulumi.ComponentResource):
    """One EKS cluster."""

    name: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    security_group: pulumi.Output[str]
    """Of control plane, nodes and pods."""
    kubeconfig: pulumi.Output[str]
    """For `aws eks get-token`: holds no credential."""

    def __init__(
        self,
        cluster: str,
        network: Network,
        options: Options,
        sizing: Sizing,
        *,
        key: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("stages:aws:Cluster", f"{cluster}-cluster", None, opts)
        self._cluster, self._options = cluster, options
        self._below = pulumi.ResourceOptions(parent=self)
        role, granted = self._cluster_role(key)
        node, may = self._role("node", "ec2.amazonaws.com", ("sts:AssumeRole",), NODE_POLICIES)
        logs = cloudwatch.LogGroup(
            f"{cluster}-control-plane",
            name=control_plane_log_group(options, cluster),
            retention_in_days=sizing.log_days,
            kms_key_id=key,
            tags=tags(options),
            opts=self._below,
        )
        made = eks.Cluster(
            cluster,
            name=called(options, cluster),
            version=VERSION,
            role_arn=role.arn,
            bootstrap_self_managed_addons=False,
            access_config={
                "authentication_mode": "API",
                "bootstrap_cluster_creator_admin_permissions": True,
            },
            compute_config={"enabled": True, "node_pools": list(NODE_POOLS), "node_role_arn": node.arn},
            kubernetes_network_config={"ip_family": "ipv4", "elastic_load_balancing": {"enabled": True}},
            storage_config={"block_storage": {"enabled": True}},
            encryption_config={"provider": {"key_arn": key}, "resources": ["secrets"]},
            enabled_cluster_log_types=list(LOGS),
            upgrade_policy={"support_type": "STANDARD"},
            zonal_shift_config={"enabled": True},
            deletion_protection=sizing.protected,
            vpc_config={
                "subnet_ids": network.ids(PRIVATE),
                "endpoint_private_access": True,
                "endpoint_public_access": options.api_cidrs != NOBODY,
                **({"public_access_cidrs": list(options.api_cidrs)} if options.api_cidrs != NOBODY else {}),
            },
            tags=tags(options),
            # Deleting goes the other way round: without its role a cluster cannot clean up its load balancers.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs, *granted, *may]),
        )
        for addon in ADDONS:
            eks.Addon(
                f"{cluster}-{addon}", cluster_name=made.name, addon_name=addon, tags=tags(options), opts=self._below
            )
        self.name, self.endpoint = made.name, made.endpoint
        self.security_group = made.vpc_config.apply(lambda config: config.cluster_security_group_id)
        self.kubeconfig = pulumi.Output.all(
            made.name, made.endpoint, made.certificate_authority.apply(lambda authority: authority.data)
        ).apply(lambda known: kubeconfig(known[0], known[1], known[2], options.region))
        self.register_outputs({"name": self.name, "endpoint": self.endpoint})

    def _cluster_role(self, key: pulumi.Input[str]) -> tuple[iam.Role, list[pulumi.Resource]]:
        role, granted = self._role(
            "cluster", "eks.amazonaws.com", ("sts:AssumeRole", "sts:TagSession"), CLUSTER_POLICIES
        )
        secrets = iam.RolePolicy(
            f"{self._cluster}-secrets",
            role=role.name,
            policy=pulumi.Output.from_input(key).apply(lambda arn: permissions.text(secrets_statement(arn))),
            opts=self._below,
        )
        return role, [*granted, secrets]

    def _role(
        self, what: str, service: str, actions: tuple[str, ...], policies: tuple[str, ...]
    ) -> tuple[iam.Role, list[pulumi.Resource]]:
        name = f"{self._cluster}-{what}"
        role = iam.Role(
            name,
            name=called(self._options, name),
            assume_role_policy=permissions.trust(service, *actions),
            tags=tags(self._options),
            opts=self._below,
        )
        return role, [
            iam.RolePolicyAttachment(
                f"{name}-{policy}", role=role.name, policy_arn=f"{_MANAGED}{policy}", opts=self._below
            )
            for policy in policies
        ]


def kubeconfig(name: str, endpoint: str, authority: str, region: str) -> str:
    """How kubectl and Pulumi reach a cluster: each call asks `aws` for a token of whoever calls."""
    command = ["eks", "get-token", "--output", "json", "--cluster-name", name, "--region", region]
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "aws", "args": command}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": endpoint, "certificate-authority-data": authority}},
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(config, sort_keys=True)
