"""Whom does a sidecar believe? One root for all clusters in AWS Private CA, and below it an intermediate per cluster.

    root (AWS Private CA, its key never leaves it)
      +-- intermediate of commerce    made by cert-manager there, Secret istio-system/cacerts, 30 days
      |     +-- certificates of sidecars, by commerce's istiod, a day
      +-- intermediate of fulfilment  ...

istiod signs by itself with the intermediate: no sidecar waits for an API of AWS, and AWS is asked twice a month per
cluster instead of twice a day per pod, which it bills (istio-csr in front of Private CA would). The intermediate's key
is made in its cluster, encrypted there by KMS, renewed by cert-manager; no private key is ever in Pulumi's state.
What this does not give: Private CA's issuer ignores name constraints, so whoever steals one cluster's intermediate may
pretend to be any service of the mesh for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_aws import acmpca, eks
from pulumi_kubernetes.apiextensions import CustomResource

from infra.aws import permissions
from infra.aws.identity import Identity
from infra.aws.naming import called, tags
from infra.aws.sizing import Sizing
from infra.aws.versions import CERT_MANAGER_ADDON, PRIVATE_CA_ADDON
from infra.config import Options

NAMESPACE = "istio-system"
CACERTS = "cacerts"
"""The Secret that istiod reads its intermediate from (keys tls.crt, tls.key, ca.crt as cert-manager writes them), and
reads again when it changes."""

ROOT_YEARS = 10
INTERMEDIATE = "720h"
RENEWED_BEFORE = "360h"
"""Half of its life: istiod does not sign beyond its own end, and who has to notice that renewal fails has two weeks."""

TEMPLATE = "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1"
"""An intermediate that can have none below it; the only template that clusters may use."""

ISSUER_ACCOUNT = ("aws-privateca-issuer", "aws-privateca-issuer")
"""Namespace and service account of the add-on."""


def issuing(root: str) -> tuple[permissions.Statement, ...]:
    """What a cluster's issuer may do: intermediates from this root, nothing else."""
    return (
        permissions.Statement(
            sid="Issue",
            actions=("acm-pca:IssueCertificate",),
            resources=(root,),
            conditions={"StringEquals": {"acm-pca:TemplateArn": TEMPLATE}},
        ),
        permissions.Statement(
            sid="Fetch",
            actions=("acm-pca:DescribeCertificateAuthority", "acm-pca:GetCertificate"),
            resources=(root,),
        ),
    )


def certificate_spec(trust_domain: str, cluster: str, issuer: str) -> dict[str, Any]:
    """cert-manager's Certificate for a cluster's intermediate."""
    return {
        "isCA": True,
        "commonName": f"{cluster}.{trust_domain}",
        "subject": {"organizations": [trust_domain]},
        "secretName": CACERTS,
        "duration": INTERMEDIATE,
        "renewBefore": RENEWED_BEFORE,
        "usages": ["cert sign", "crl sign", "digital signature"],
        "privateKey": {"algorithm": "RSA", "size": 4096, "rotationPolicy": "Always"},
        "issuerRef": {"group": "awspca.cert-manager.io", "kind": "AWSPCAClusterIssuer", "name": issuer},
    }


class Root(pulumi.ComponentResource):
    """The root of trust of a deployment."""

    arn: pulumi.Output[str]

    def __init__(self, options: Options, sizing: Sizing, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("stages:aws:Root", "root", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        authority = acmpca.CertificateAuthority(
            "root",
            type="ROOT",
            usage_mode="GENERAL_PURPOSE",
            key_storage_security_standard="FIPS_140_2_LEVEL_3_OR_HIGHER",
            certificate_authority_configuration={
                "key_algorithm": "RSA_4096",
                "signing_algorithm": "SHA512WITHRSA",
                "subject": {"common_name": called(options, "root"), "organization": options.owner},
            },
            permanent_deletion_time_in_days=30 if sizing.protected else 7,
            tags=tags(options, name=called(options, "root")),
            opts=pulumi.ResourceOptions(parent=self, protect=sizing.protected),
        )
        certificate = acmpca.Certificate(
            "root",
            certificate_authority_arn=authority.arn,
            certificate_signing_request=authority.certificate_signing_request,
            signing_algorithm="SHA512WITHRSA",
            template_arn="arn:aws:acm-pca:::template/RootCACertificate/V1",
            validity={"type": "YEARS", "value": str(ROOT_YEARS)},
            opts=below,
        )
        installed = acmpca.CertificateAuthorityCertificate(
            "root",
            certificate_authority_arn=authority.arn,
            certificate=certificate.certificate,
            certificate_chain=certificate.certificate_chain,
            opts=below,
        )
        # Only now it can sign: whoever asks for the ARN waits for that.
        self.arn = pulumi.Output.all(authority.arn, installed.id).apply(lambda known: str(known[0]))
        self.register_outputs({"arn": self.arn})


class Intermediate(pulumi.ComponentResource):
    """One cluster's place below the root; `cacerts` is there once it is."""

    def __init__(
        self,
        cluster: str,
        options: Options,
        *,
        cluster_name: pulumi.Input[str],
        root: pulumi.Input[str],
        trust_domain: str,
        namespace: pulumi.Resource,
        provider: pulumi.ProviderResource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`namespace`: istio-system, which has to be there for the Secret."""
        super().__init__("stages:aws:Intermediate", f"{cluster}-intermediate", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        manager = self._addon(cluster, CERT_MANAGER_ADDON, cluster_name, tags(options, cluster), [])
        place, account = ISSUER_ACCOUNT
        identity = Identity(
            f"{cluster}-issuer",
            options,
            pulumi.Output.from_input(root).apply(lambda arn: permissions.text(*issuing(arn))),
            cluster=cluster_name,
            namespace=place,
            system=cluster,
            service_account=account,
            opts=below,
        )
        connector = self._addon(
            cluster, PRIVATE_CA_ADDON, cluster_name, tags(options, cluster), [manager, identity.association]
        )
        issuer = CustomResource(
            f"{cluster}-root",
            api_version="awspca.cert-manager.io/v1beta1",
            kind="AWSPCAClusterIssuer",
            metadata={"name": "root", "annotations": {"pulumi.com/waitFor": "condition=Ready"}},
            spec={"arn": root, "region": options.region},
            opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[connector]),
        )
        self.secret = CustomResource(
            f"{cluster}-{CACERTS}",
            api_version="cert-manager.io/v1",
            kind="Certificate",
            # istiod that starts without the Secret makes a root of its own, which no other cluster believes
            metadata={
                "name": CACERTS,
                "namespace": NAMESPACE,
                "annotations": {"pulumi.com/waitFor": "condition=Ready"},
            },
            spec=certificate_spec(trust_domain, cluster, "root"),
            opts=pulumi.ResourceOptions(parent=self, provider=provider, depends_on=[issuer, namespace]),
        )
        self.register_outputs({})

    def _addon(
        self,
        cluster: str,
        addon: str,
        cluster_name: pulumi.Input[str],
        its_tags: Mapping[str, str],
        after: list[pulumi.Resource],
    ) -> eks.Addon:
        return eks.Addon(
            f"{cluster}-{addon}",
            addon_name=addon,
            cluster_name=cluster_name,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            tags=dict(its_tags),
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
