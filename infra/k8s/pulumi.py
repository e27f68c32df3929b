"""How do manifests become Pulumi resources? One each, in whatever order the namespaces allow.

The class is our own: the provider goes by the type's token alone, and the SDK's classes would take seconds to import.
Tokens are those of the SDK's classes, so a stack, a policy or a human sees nothing unusual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pulumi

from infra.k8s.site import Manifest


class KubernetesObject(pulumi.CustomResource):
    """One object of the cluster that `provider` speaks with."""

    def __init__(self, name: str, manifest: Manifest, opts: pulumi.ResourceOptions) -> None:
        super().__init__(token_of(manifest), name, dict(manifest), opts)


def register(
    manifests: Iterable[Manifest],
    provider: pulumi.ProviderResource,
    parent: pulumi.Resource | None = None,
    *,
    prefix: str = "",
    depends_on: Sequence[pulumi.Resource] = (),
    ignore_changes: Sequence[str] = (),
) -> dict[str, KubernetesObject]:
    """Make a resource of each; returns them by name as `name_of` has it.

    What lives in a namespace waits for it, if it is among the manifests. `prefix`: begins every resource's name, where
    a program speaks with several clusters. `ignore_changes`: of each, what is kept as it was first made.
    Raise ValueError for two manifests of one kind, namespace and name.
    """
    made: dict[str, KubernetesObject] = {}
    spaces: dict[str, pulumi.Resource] = {}
    for manifest in sorted(manifests, key=lambda m: m["kind"] != "Namespace"):
        name = name_of(manifest)
        if name in made:
            raise ValueError(f"there are two of {name}")
        space = spaces.get(manifest["metadata"].get("namespace", ""))
        opts = pulumi.ResourceOptions(
            provider=provider,
            parent=parent,
            depends_on=[*depends_on, *([space] if space else [])],
            ignore_changes=list(ignore_changes),
        )
        made[name] = KubernetesObject(prefix + name, manifest, opts)
        if manifest["kind"] == "Namespace":
            spaces[manifest["metadata"]["name"]] = made[name]
    return made


def name_of(manifest: Manifest) -> str:
    """Pulumi's name of an object; it is also unique among kinds, for people read it without the type.

    >>> name_of({"kind": "Deployment", "metadata": {"name": "orders", "namespace": "shop"}})
    'shop/orders-deployment'
    """
    meta: dict[str, Any] = manifest["metadata"]
    place = f"{meta['namespace']}/" if "namespace" in meta else ""
    return f"{place}{meta['name']}-{manifest['kind'].lower()}"


def token_of(manifest: Manifest) -> str:
    """The type's token.

    >>> token_of({"apiVersion": "v1", "kind": "Service"}), token_of({"apiVersion": "apps/v1", "kind": "Deployment"})
    ('kubernetes:core/v1:Service', 'kubernetes:apps/v1:Deployment')
    """
    group = manifest["apiVersion"]
    return f"kubernetes:{group if '/' in group else f'core/{group}'}:{manifest['kind']}"
