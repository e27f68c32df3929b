"""What makes a cluster a member of the mesh? A way to other networks, a control plane that they trust, a name.

    Spoke (to the hub)    istio-system -> Intermediate -> Istio -> Registration
                                              |
                                     Published, Fetched

What it needs of others lies in the backbone: it gets nothing from another system's stack.
"""

from __future__ import annotations

import json

import pulumi

from infra.aws.backbone import Shared
from infra.aws.discovery import Registration
from infra.aws.foundation import Foundation
from infra.aws.istio import Istio, system_namespace
from infra.aws.naming import called, tags
from infra.aws.network_plan import PRIVATE
from infra.aws.peering import Spoke, callees
from infra.aws.remote import Fetched, Published
from infra.aws.trust import Intermediate
from infra.config import Options
from stages.model import Stage


class Member:
    """One cluster's part in the mesh. All of it is made below `parent`."""

    istio: Istio

    def __init__(
        self,
        system: str,
        stage: Stage,
        options: Options,
        shared: Shared,
        foundation: Foundation,
        *,
        provider: pulumi.ProviderResource,
        parent: pulumi.Resource,
    ) -> None:
        """`provider`: of the cluster."""
        self._stage, self._options, self._shared, self._foundation = stage, options, shared, foundation
        self._place, self._tags = stage.system(system).cluster, tags(options, system)
        self._provider, self._below = provider, pulumi.ResourceOptions(parent=parent)
        namespace = system_namespace(self._place, provider, parent)
        self.istio = self._control_plane(namespace, self._spoke())
        self._credentials(namespace)
        Registration(
            self._place,
            namespace_id=shared.namespace,
            zone_id=shared.zone,
            vpc_id=foundation.network.vpc_id,
            host=self.istio.gateway_host,
            tags=self._tags,
            opts=self._below,
        )

    def _spoke(self) -> Spoke:
        network = self._foundation.network
        return Spoke(
            called(self._options, self._place, "spoke"),
            stage=self._stage,
            cluster=self._place,
            gateway_id=self._shared.transit_gateway,
            vpc_id=network.vpc_id,
            subnet_ids=network.ids(PRIVATE),
            route_table_ids=[table.id for key, table in network.route_tables.items() if key.startswith(PRIVATE)],
            api_group_id=self._foundation.cluster.security_group,
            tags=self._tags,
            opts=self._below,
        )

    def _control_plane(self, namespace: pulumi.Resource, spoke: Spoke) -> Istio:
        assert self._stage.mesh is not None, "infra.aws.mesh_program is asked for a mesh"
        intermediate = Intermediate(
            self._place,
            self._options,
            cluster_name=self._foundation.cluster.name,
            root=self._shared.root,
            trust_domain=self._stage.mesh.trust_domain,
            namespace=namespace,
            provider=self._provider,
            opts=self._below,
        )
        return Istio(
            self._place,
            self._stage,
            namespace=namespace,
            trust=intermediate,
            gateway_group=spoke.gateway_group_id,
            provider=self._provider,
            opts=self._below,
        )

    def _credentials(self, namespace: pulumi.Resource) -> None:
        """Its own for those who call it, and those of the clusters that it calls."""
        cluster = self._foundation.cluster
        if self._place in self._shared.letterboxes:
            Published(
                self._place,
                letterbox=self._shared.letterboxes[self._place],
                server=cluster.endpoint,
                authority=cluster.kubeconfig.apply(authority_of),
                reader=self.istio.istiod,
                provider=self._provider,
                opts=self._below,
            )
        if callees(self._stage, self._place):
            Fetched(
                self._place,
                self._stage,
                self._options,
                cluster_name=cluster.name,
                letterboxes=self._shared.letterboxes,
                key=self._shared.letters_key,
                namespace=namespace,
                provider=self._provider,
                opts=self._below,
            )


def authority_of(kubeconfig: str) -> str:
    """Certificate of a cluster's API server, in base64."""
    return str(json.loads(kubeconfig)["clusters"][0]["cluster"]["certificate-authority-data"])
