"""Which versions of other people's parts does the mesh on AWS run? One place, with the day on which they were chosen.

Charts are pinned to the patch. An upgrade of Istio is one minor at a time, cluster by cluster: a stack per system makes
that possible, and the control planes of neighbouring minors speak to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

CHOSEN = "2026-11-22"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A Helm chart as `helm.v3.Release` wants it."""

    name: str
    version: str
    repository: str


_ISTIO = "https://istio-release.storage.googleapis.com/charts"
ISTIO = "1.31.1"
"""Supported until about the middle of 2027; 1.29, the oldest one that was at the time, ended on 2026-10-15."""

BASE = Chart(name="base", version=ISTIO, repository=_ISTIO)
ISTIOD = Chart(name="istiod", version=ISTIO, repository=_ISTIO)
GATEWAY = Chart(name="gateway", version=ISTIO, repository=_ISTIO)
EXTERNAL_SECRETS = Chart(name="external-secrets", version="2.10.0", repository="https://charts.external-secrets.io")

CERT_MANAGER_ADDON = "cert-manager"
PRIVATE_CA_ADDON = "aws-privateca-connector-for-kubernetes"
"""Add-ons of EKS without a version: AWS's default for the cluster's Kubernetes version, which it tests together."""
