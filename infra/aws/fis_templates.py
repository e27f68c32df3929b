"""How do a system's drills become templates, and what may they touch? The resources of `infra.aws.fis`.

    role        fis.amazonaws.com, from this account's templates only: one cluster, its subnets, their network ACLs
    in cluster  a service account per namespace that may delete pods and watch them, for user `fis` of the access entry
    templates   each with the system's alarms as stop conditions, one pod or subnet selection, a log of what was done

Pods are found by cluster, namespace and label (FIS knows no tags of pods); subnets by this deployment's and this
system's tags, and by the VPC besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_aws import cloudwatch, ec2, eks, fis, iam

from infra.aws import permissions
from infra.aws.fis import NETWORK_FAULTS, POD, Drill
from infra.aws.istio import NAMELESS, SYSTEM
from infra.aws.naming import called, tags
from infra.config import Options
from infra.k8s.names import LABEL, label_value
from infra.k8s.pulumi import register
from infra.k8s.site import Manifest
from stages.model import Stage

USER = "fis"
"""Name of both the Kubernetes user that the role is, and the service account that its pods have."""

_OURS = {"StringEquals": {"aws:RequestTag/managedByFIS": "true"}}
_MADE = {"StringEquals": {"aws:ResourceTag/managedByFIS": "true"}}


def trust(account: str, region: str) -> str:
    """Only experiments of this account and region may take the role on."""
    return permissions.trust(
        "fis.amazonaws.com",
        conditions={
            "StringEquals": {"aws:SourceAccount": account},
            "ArnLike": {"aws:SourceArn": f"arn:aws:fis:{region}:{account}:experiment/*"},
        },
    )


def statements(
    *, account: str, region: str, cluster_arn: str, vpc_arn: str, logs_arn: str, deployment: str, system: str
) -> tuple[permissions.Statement, ...]:
    """Everything that the role of a system's experiments may do.

    A network ACL of FIS's own takes the place of the subnet's: it makes, fills and deletes ACLs that bear its tag, and
    exchanges them on subnets that bear ours. What describes takes no resource in EC2's API.
    """
    acls = f"arn:aws:ec2:{region}:{account}:network-acl/*"
    subnets = f"arn:aws:ec2:{region}:{account}:subnet/*"
    return (
        permissions.Statement(sid="Cluster", actions=("eks:DescribeCluster",), resources=(cluster_arn,)),
        permissions.Statement(
            sid="Look",
            actions=(
                "ec2:DescribeManagedPrefixLists",
                "ec2:DescribeNetworkAcls",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ),
            resources=("*",),
        ),
        permissions.Statement(
            sid="ReadPrefixLists",
            actions=("ec2:GetManagedPrefixListEntries",),
            resources=(f"arn:aws:ec2:{region}:{account}:prefix-list/*",),
            conditions={"StringEquals": {"aws:ResourceTag/deployment": deployment, "aws:ResourceTag/system": system}},
        ),
        permissions.Statement(sid="MakeAcls", actions=("ec2:CreateNetworkAcl",), resources=(acls,), conditions=_OURS),
        permissions.Statement(sid="MakeAclsHere", actions=("ec2:CreateNetworkAcl",), resources=(vpc_arn,)),
        permissions.Statement(
            sid="TagAcls",
            actions=("ec2:CreateTags",),
            resources=(acls,),
            conditions={
                "StringEquals": {"ec2:CreateAction": "CreateNetworkAcl", "aws:RequestTag/managedByFIS": "true"}
            },
        ),
        permissions.Statement(
            sid="FillAndDeleteAcls",
            actions=("ec2:CreateNetworkAclEntry", "ec2:DeleteNetworkAcl"),
            resources=(acls,),
            conditions=_MADE,
        ),
        permissions.Statement(
            sid="ExchangeAcls",
            actions=("ec2:ReplaceNetworkAclAssociation",),
            resources=(subnets,),
            conditions={"StringEquals": {"aws:ResourceTag/deployment": deployment, "aws:ResourceTag/system": system}},
        ),
        permissions.Statement(
            sid="ExchangeOwnAcls",
            actions=("ec2:ReplaceNetworkAclAssociation",),
            resources=(acls,),
            conditions={"StringEquals": {"ec2:Vpc": vpc_arn}},
        ),
        permissions.Statement(
            sid="Log",
            actions=("logs:CreateLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies"),
            resources=("*",),
        ),
        permissions.Statement(sid="LogHere", actions=("logs:PutResourcePolicy",), resources=(logs_arn,)),
    )


def namespaces_of(drills: Sequence[Drill], namespace: str) -> tuple[str, ...]:
    """Where pods may be touched, each once."""
    found = {"service": namespace, "istio": SYSTEM}
    return tuple(dict.fromkeys(found[d.namespace_of] for d in drills if d.namespace_of))


def access(namespace: str, labels: Mapping[str, str]) -> tuple[Manifest, ...]:
    """What FIS may do in a namespace: its own pods and files, ephemeral containers, and deleting pods (FIS User Guide,
    'Configure the Kubernetes service account')."""
    meta = {"name": USER, "namespace": namespace, "labels": dict(labels)}
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "list", "get", "delete", "deletecollection"]},
        {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
    ]
    subjects = [
        {"kind": "ServiceAccount", "name": USER, "namespace": namespace},
        {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER},
    ]
    rbac = "rbac.authorization.k8s.io/v1"
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": USER},
            "subjects": subjects,
        },
    )


def way_out(namespace: str, labels: Mapping[str, str]) -> Manifest:
    """FIS's own pods, which have no name of ours, may speak to APIs, in a namespace where nobody else may unasked."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": USER, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "podSelector": NAMELESS,
            "policyTypes": ["Egress"],
            "egress": [{"ports": [{"protocol": "TCP", "port": 443}]}],
        },
    }


def pods_of(drill: Drill, cluster_arn: pulumi.Input[str], namespace: str) -> dict[str, Any]:
    """The target of a drill at pods."""
    gateway = drill.namespace_of == "istio"
    label = "istio=eastwestgateway" if gateway else f"{LABEL}/name={drill.service}"
    # the first container may be the sidecar's, whose security context is Istio's
    beside = {"targetContainerName": drill.service} if drill.action in NETWORK_FAULTS else {}
    return {
        "name": "pods",
        "resource_type": POD,
        "selection_mode": "ALL",
        "parameters": {
            "clusterIdentifier": cluster_arn,
            "namespace": SYSTEM if gateway else namespace,
            "selectorType": "labelSelector",
            "selectorValue": label,
            **beside,
        },
    }


def subnets_of(drill: Drill, options: Options, vpc_id: pulumi.Input[str]) -> dict[str, Any]:
    """The target of a drill at subnets: where the pods of this system are."""
    ours = {
        "deployment": options.name,
        "system": drill.cluster,
        "managed-by": "pulumi",
        "kubernetes.io/role/internal-elb": "1",
    }
    zone = (
        [{"path": "AvailabilityZone", "values": [options.availability_zones[drill.zone]]}]
        if drill.zone is not None
        else []
    )
    return {
        "name": "subnets",
        "resource_type": drill.target,
        "selection_mode": "ALL",
        "resource_tags": [{"key": key, "value": value} for key, value in ours.items()],
        "filters": [{"path": "VpcId", "values": [vpc_id]}, *zone],
    }


class Experiments(pulumi.ComponentResource):
    """All templates of one system."""

    def __init__(
        self,
        system: str,
        stage: Stage,
        drills: Sequence[Drill],
        options: Options,
        *,
        account: pulumi.Input[str],
        cluster_name: pulumi.Input[str],
        vpc_id: pulumi.Input[str],
        namespace: str,
        alarms: Sequence[pulumi.Input[str]],
        log_key: pulumi.Input[str],
        provider: pulumi.ProviderResource,
        after: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`alarms`: ARNs, at least one; any of them stops an experiment. Raise ValueError without any."""
        if not alarms:
            raise ValueError(f"system {system!r} has no alarm that could stop an experiment")
        super().__init__("stages:aws:Experiments", f"{system}-experiments", None, opts)
        self._options, self._system, self._stage = options, system, stage
        self._below = pulumi.ResourceOptions(parent=self)
        self._tags = tags(options, system)
        self._vpc_id, self._namespace, self._alarms = vpc_id, namespace, alarms
        region = options.region
        self._cluster_arn = pulumi.Output.format("arn:aws:eks:{0}:{1}:cluster/{2}", region, account, cluster_name)
        self._logs = cloudwatch.LogGroup(
            f"{system}-experiments",
            name=log_group(options, system),
            retention_in_days=90,
            kms_key_id=log_key,
            tags=self._tags,
            opts=self._below,
        )
        self._role = self._may(account, cluster_name)
        for place in namespaces_of(drills, namespace):
            needed = (
                *access(place, self._labels()),
                *((way_out(place, self._labels()),) if place == namespace else ()),
            )
            register(needed, provider, self, prefix=f"{system}/", depends_on=after)
        lists = {parted: self._prefix_list(parted) for parted in {d.from_clusters for d in drills} if parted}
        self.templates = {drill.name: self._template(drill, lists) for drill in drills}
        self.register_outputs({})

    def _labels(self) -> dict[str, str]:
        kept = ("stage", "system", "owner")
        return {f"{LABEL}/managed-by": "pulumi", **{key: label_value(self._tags[key]) for key in kept}}

    def _may(self, account: pulumi.Input[str], cluster_name: pulumi.Input[str]) -> iam.Role:
        options, name = self._options, f"{self._system}-fis"
        known = pulumi.Output.all(account, self._cluster_arn, self._vpc_id, self._logs.arn)
        role = iam.Role(
            name,
            name=called(options, name),
            assume_role_policy=pulumi.Output.from_input(account).apply(lambda its: trust(its, options.region)),
            tags=self._tags,
            opts=self._below,
        )
        iam.RolePolicy(
            name,
            role=role.name,
            policy=known.apply(
                lambda k: permissions.text(
                    *statements(
                        account=k[0],
                        region=options.region,
                        cluster_arn=k[1],
                        vpc_arn=f"arn:aws:ec2:{options.region}:{k[0]}:vpc/{k[2]}",
                        logs_arn=k[3],
                        deployment=options.name,
                        system=self._system,
                    )
                )
            ),
            opts=self._below,
        )
        eks.AccessEntry(
            name,
            cluster_name=cluster_name,
            principal_arn=role.arn,
            user_name=USER,
            type="STANDARD",
            tags=self._tags,
            opts=self._below,
        )
        return role

    def _prefix_list(self, clusters: tuple[str, ...]) -> ec2.ManagedPrefixList:
        networks = {c.name: c.network for c in self._stage.clusters}
        name = f"{self._system}-from-{'-'.join(clusters)}"
        return ec2.ManagedPrefixList(
            name,
            name=called(self._options, name),
            address_family="IPv4",
            max_entries=len(clusters),
            entries=[{"cidr": networks[c], "description": c} for c in clusters],
            tags=self._tags,
            opts=self._below,
        )

    def _template(self, drill: Drill, lists: Mapping[tuple[str, ...], ec2.ManagedPrefixList]) -> fis.ExperimentTemplate:
        parameters: dict[str, pulumi.Input[str]] = dict(drill.parameters)
        if drill.from_clusters:
            parameters["prefixListIdentifier"] = lists[drill.from_clusters].id
        if drill.target == POD:
            parameters["kubernetesServiceAccount"] = USER
            target, key = pods_of(drill, self._cluster_arn, self._namespace), "Pods"
        else:
            target, key = subnets_of(drill, self._options, self._vpc_id), "Subnets"
        return fis.ExperimentTemplate(
            drill.name,
            description=drill.summary,
            role_arn=self._role.arn,
            actions=[
                {
                    "name": "fault",
                    "action_id": drill.action,
                    "parameters": [{"key": k, "value": v} for k, v in sorted(parameters.items())],
                    "target": {"key": key, "value": target["name"]},
                }
            ],
            targets=[target],
            stop_conditions=[{"source": "aws:cloudwatch:alarm", "value": arn} for arn in self._alarms],
            experiment_options={"account_targeting": "single-account", "empty_target_resolution_mode": "fail"},
            log_configuration={
                "log_schema_version": 2,
                "cloudwatch_logs_configuration": {"log_group_arn": self._logs.arn.apply(lambda arn: f"{arn}:*")},
            },
            tags={**self._tags, "Name": called(self._options, drill.name)},
            opts=self._below,
        )


def log_group(options: Options, system: str) -> str:
    """Where experiments write what they did."""
    return f"/stages/{called(options, system)}/experiments"
