"""How does a control plane get to read another cluster's endpoints, when neither stack knows the other?

    fulfilment: token of its reader --> Secrets Manager (backbone) --> External Secrets in commerce --> istiod there

Two stacks that each need something of the other cannot refer to one another. So each publishes its own credential in a
secret that the backbone keeps for it, and the clusters whose services call it fetch it from there, again and again: the
order in which systems are built does not matter, a new token is everywhere within minutes, and nobody can read the
credential of a system that it does not call.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_aws import secretsmanager
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Secret
from pulumi_kubernetes.helm.v3 import Release

from infra.aws import permissions
from infra.aws.identity import Identity
from infra.aws.istio import SYSTEM
from infra.aws.naming import tags
from infra.aws.peering import callees, callers
from infra.aws.versions import EXTERNAL_SECRETS
from infra.config import Options
from stages.model import Stage

READER = "istio-reader-service-account"
"""The account that chart `base` makes for other control planes: it may read, and no Secrets."""

STORE = "remote-clusters"
REFRESH = "10m"
OPERATOR = "external-secrets"
"""Namespace and service account of the operator."""


def secret_name(deployment: str, cluster: str) -> str:
    """Of the secret in Secrets Manager.

    >>> secret_name("shop", "fulfilment")
    'shop/remote/fulfilment'
    """
    return f"{deployment}/remote/{cluster}"


def published(stage: Stage) -> tuple[str, ...]:
    """Clusters whose endpoints somebody else has to know."""
    return tuple(c.name for c in stage.clusters if callers(stage, c.name))


def kubeconfig(cluster: str, server: str, authority: str, token: str) -> str:
    """What istiod takes for a cluster: the same that `istioctl create-remote-secret` writes."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": cluster, "user": {"token": token}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
    }
    return json.dumps(config, sort_keys=True)


def reading(secrets: tuple[str, ...], key: str) -> tuple[permissions.Statement, ...]:
    """What a cluster's operator may do: read these secrets, by the key that encrypts them."""
    return (
        permissions.Statement(
            sid="Read",
            actions=("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"),
            resources=secrets,
        ),
        permissions.Statement(sid="Decrypt", actions=("kms:Decrypt",), resources=(key,)),
    )


def external_secret_spec(deployment: str, cluster: str) -> dict[str, Any]:
    """External Secrets' object for the credential of one other cluster."""
    return {
        "refreshInterval": REFRESH,
        "secretStoreRef": {"kind": "SecretStore", "name": STORE},
        "target": {
            "name": f"istio-remote-secret-{cluster}",
            "creationPolicy": "Owner",
            "deletionPolicy": "Delete",
            "template": {
                "metadata": {
                    "labels": {"istio/multiCluster": "true"},
                    "annotations": {"networking.istio.io/cluster": cluster},
                }
            },
        },
        "data": [{"secretKey": cluster, "remoteRef": {"key": secret_name(deployment, cluster)}}],
    }


class Letterboxes(pulumi.ComponentResource):
    """The backbone's part: an empty secret for each cluster that is called from others."""

    arns: Mapping[str, pulumi.Output[str]]
    """By cluster."""

    def __init__(
        self,
        stage: Stage,
        options: Options,
        *,
        key: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("stages:aws:Letterboxes", "remote", None, opts)
        made = {
            cluster: secretsmanager.Secret(
                f"remote-{cluster}",
                name=secret_name(options.name, cluster),
                description=f"How other control planes read the endpoints of {cluster}",
                kms_key_id=key,
                recovery_window_in_days=0,  # nothing is lost: the next `up` of the system writes it again
                tags=tags(options, cluster),
                opts=pulumi.ResourceOptions(parent=self),
            )
            for cluster in published(stage)
        }
        self.arns = {cluster: secret.arn for cluster, secret in made.items()}
        self.register_outputs({})


class Published(pulumi.ComponentResource):
    """A system's own credential, in its letterbox."""

    def __init__(
        self,
        cluster: str,
        *,
        letterbox: pulumi.Input[str],
        server: pulumi.Input[str],
        authority: pulumi.Input[str],
        reader: pulumi.Resource,
        provider: pulumi.ProviderResource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`reader`: what makes the service account, `authority` the API server's certificate in base64."""
        super().__init__("stages:aws:Published", f"{cluster}-published", None, opts)
        token = Secret(
            f"{cluster}-reader",
            type="kubernetes.io/service-account-token",
            metadata={
                "name": f"{READER}-token",
                "namespace": SYSTEM,
                "annotations": {"kubernetes.io/service-account.name": READER},
            },
            # a cluster fills it in after it was made: nobody here is surprised
            opts=pulumi.ResourceOptions(
                parent=self, provider=provider, depends_on=[reader], additional_secret_outputs=["data"]
            ),
        )
        value: pulumi.Output[str] = pulumi.Output.all(server, authority, token.data).apply(
            lambda known: kubeconfig(cluster, str(known[0]), str(known[1]), _token(known[2]))
        )
        secret: pulumi.Output[str] = pulumi.Output.secret(value)
        secretsmanager.SecretVersion(
            f"{cluster}-reader",
            secret_id=letterbox,
            secret_string=secret,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


class Fetched(pulumi.ComponentResource):
    """The credentials of those whom a cluster's services call, as Secrets for its istiod."""

    def __init__(
        self,
        cluster: str,
        stage: Stage,
        options: Options,
        *,
        cluster_name: pulumi.Input[str],
        letterboxes: Mapping[str, pulumi.Input[str]],
        key: pulumi.Input[str],
        namespace: pulumi.Resource,
        provider: pulumi.ProviderResource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("stages:aws:Fetched", f"{cluster}-fetched", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        wanted = [c.name for c in callees(stage, cluster)]
        identity = Identity(
            f"{cluster}-secrets-reader",
            options,
            pulumi.Output.all(key, *(letterboxes[name] for name in wanted)).apply(
                lambda known: permissions.text(*reading(tuple(known[1:]), known[0]))
            ),
            cluster=cluster_name,
            namespace=OPERATOR,
            system=cluster,
            service_account=OPERATOR,
            opts=below,
        )
        operator = Release(
            f"{cluster}-{OPERATOR}",
            name=OPERATOR,
            namespace=OPERATOR,
            create_namespace=True,
            chart=EXTERNAL_SECRETS.name,
            version=EXTERNAL_SECRETS.version,
            repository_opts={"repo": EXTERNAL_SECRETS.repository},
            values=operator_values(),
            atomic=True,
            timeout=600,
            opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[identity.association]),
        )
        store = CustomResource(
            f"{cluster}-{STORE}",
            api_version="external-secrets.io/v1",
            kind="SecretStore",
            metadata={"name": STORE, "namespace": SYSTEM},
            spec={"provider": {"aws": {"service": "SecretsManager", "region": options.region}}},
            opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[operator, namespace]),
        )
        for other in wanted:
            CustomResource(
                f"{cluster}-remote-{other}",
                api_version="external-secrets.io/v1",
                kind="ExternalSecret",
                # not awaited: the other system may not be built yet
                metadata={
                    "name": f"remote-{other}",
                    "namespace": SYSTEM,
                    "annotations": {"pulumi.com/skipAwait": "true"},
                },
                spec=external_secret_spec(options.name, other),
                opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[store]),
            )
        self.register_outputs({})


def operator_values() -> dict[str, Any]:
    """Values of External Secrets: two of each, and no kinds that are not used."""
    return {
        "replicaCount": 2,
        "leaderElect": True,
        "serviceAccount": {"name": OPERATOR},
        "processClusterStore": False,
        "processClusterExternalSecret": False,
        "processPushSecret": False,
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "webhook": {"replicaCount": 2, "podDisruptionBudget": {"enabled": True, "minAvailable": 1}},
    }


def _token(data: Mapping[str, str] | None) -> str:
    """The token of a Secret's data; '' before the cluster has filled it in, as in a preview."""
    return base64.b64decode((data or {}).get("token", "")).decode()
