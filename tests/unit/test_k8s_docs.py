"""Is what docs/targets/k8s.md says of target k8s so?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.config import KEYS
from infra.k8s.objects import objects
from infra.k8s.program import INGRESS_NAMESPACE
from infra.k8s.site import IngressAt, Site
from infra.k8s.testing import KUBERNETES
from stages.catalogue import ASYNC, MESH
from stages.model import Stage

PAGE = (Path(__file__).parents[2] / "docs/targets/k8s.md").read_text(encoding="utf-8")
SIDECAR = (0.1, 128)
"""What Istio asks for each by default."""


def requested(stage: Stage) -> tuple[float, float]:
    """Processors and GiB that a stage asks for at its fewest pods."""
    cpu, memory_mib = 0.0, 0.0
    for manifest in objects(stage, Site(deployment="shop", image="shop:1")):
        if manifest["kind"] not in ("Deployment", "StatefulSet"):
            continue
        service = manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "service"
        pods = 2 if service else 1
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            asked = container["resources"]["requests"]
            cpu += pods * int(asked["cpu"].removesuffix("m")) / 1000
            memory_mib += pods * int(asked["memory"].removesuffix("Mi"))
        if service and stage.mesh:
            cpu, memory_mib = cpu + pods * SIDECAR[0], memory_mib + pods * SIDECAR[1]
    return round(cpu, 1), round(memory_mib / 1024, 1)


@pytest.mark.parametrize("stage", [ASYNC, MESH], ids=["async", "mesh"])
def test_it_costs_what_the_page_says(stage: Stage) -> None:
    cpu, memory_gib = requested(stage)
    assert f"about {cpu} processors and {memory_gib} GiB" in PAGE.replace("\n", " ")


def test_every_key_of_the_page_exists() -> None:
    keys = set(re.findall(r"^\| `(\w+)`", PAGE, re.MULTILINE)) | set(re.findall(r"pulumi config set (\w+)", PAGE))
    assert keys <= set(KEYS)


def test_versions_and_places_are_those_of_the_code() -> None:
    oldest, newest = KUBERNETES
    assert f"Kubernetes {oldest} to {newest}" in PAGE
    assert f"`{INGRESS_NAMESPACE}`" in PAGE
    assert f"--namespace {IngressAt(host='h').gateway_namespace}`" in PAGE
