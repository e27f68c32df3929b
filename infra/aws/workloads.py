"""What runs in the cluster? The stage's objects, and what they find there, in waves: first what pods need.

    namespace, ingress class -> addresses of databases, Jobs that make them -> pods and what waits for pods -> hosts

Pulumi waits until a Service has pods and an Ingress an address, ten minutes each; a server takes longer than that. So
these wait for the servers' Jobs as the pods do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from infra.aws import database_job, in_cluster
from infra.aws.cluster import Cluster
from infra.aws.database import Database, services_with_records
from infra.aws.network import Network
from infra.aws.network_plan import PUBLIC
from infra.config import Options
from infra.k8s.names import database_secret, metadata, namespace_of, service_labels
from infra.k8s.objects import objects
from infra.k8s.pulumi import register
from infra.k8s.site import Manifest, Site
from stages.model import Stage

PATIENT = frozenset({"Deployment", "Service", "Ingress"})
"""Kinds that Pulumi waits for until they work."""


class Workloads(pulumi.ComponentResource):
    """Everything inside one cluster."""

    hosts: Mapping[str, pulumi.Output[str]]
    """Entry service -> address of its load balancer."""

    def __init__(
        self,
        stage: Stage,
        site: Site,
        options: Options,
        cluster: Cluster,
        network: Network,
        databases: Mapping[str, Database],
        *,
        certificate: pulumi.Input[str],
        after: Sequence[pulumi.Resource],
    ) -> None:
        """`after`: what has to stand before pods start, such as their roles."""
        super().__init__("stages:aws:Workloads", "workloads")
        from pulumi_kubernetes import Provider

        # below the stack: a stack of another target has it there too
        self._kubernetes = Provider("cluster", kubeconfig=cluster.kubeconfig, enable_server_side_apply=True)
        manifests = objects(stage, site)
        there = [
            *self._made(
                [*in_cluster.ingress_class(certificate, network.ids(PUBLIC)), in_cluster.network_policies_on()]
            ),
            *self._made([m for m in manifests if m["kind"] == "Namespace"]),
        ]
        stores = databases.items()
        secrets = self._made([m for name, server in stores for m in database_urls(stage, site, name, server)], there)
        making = [m for name, server in stores for m in setup_job(stage, site, options, name, server)]
        jobs = self._made(making, [*there, *after])
        rest = [m for m in manifests if m["kind"] != "Namespace"]
        self._made([m for m in rest if m["kind"] not in PATIENT], there)
        patient = [with_status(m) for m in rest if m["kind"] in PATIENT]
        made = self._made(patient, [*there, *after, *secrets, *jobs])
        self.hosts = {
            manifest["metadata"]["name"]: host_of(resource)
            for manifest, resource in zip(patient, made, strict=True)
            if manifest["kind"] == "Ingress"
        }
        self.register_outputs({"hosts": self.hosts})

    def _made(self, manifests: Sequence[Manifest], depends_on: Sequence[pulumi.Resource] = ()) -> list[pulumi.Resource]:
        return list(register(manifests, self._kubernetes, self, depends_on=depends_on).values())


def setup_job(stage: Stage, site: Site, options: Options, system: str, database: Database) -> tuple[Manifest, ...]:
    """What makes the databases and users of a system's server."""
    services = services_with_records(stage, system)
    plan = pulumi.Output.all(database.address, database.secret).apply(
        lambda known: json.dumps(database_job.setup_plan(options.region, known[0], known[1], services), sort_keys=True)
    )
    return database_job.job_objects(stage, site, system, services, plan)


def database_urls(stage: Stage, site: Site, system: str, database: Database) -> list[Manifest]:
    """Secrets for the place where a system's services look; there is no password in them."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(
                database_secret(name).name, namespace_of(stage, site, name), service_labels(stage, site, name)
            ),
            "type": "Opaque",
            "stringData": {database_secret(name).key: database.url(name)},
        }
        for name in services_with_records(stage, system)
    ]


def with_status(manifest: Manifest) -> Mapping[str, Any]:
    """An Ingress whose `status`, which the cluster fills in, can be read."""
    return {**manifest, "status": None} if manifest["kind"] == "Ingress" else manifest


def host_of(ingress: pulumi.Resource) -> pulumi.Output[str]:
    """Where an Ingress ended up."""
    status: pulumi.Output[Any] = pulumi.Output.from_input(vars(ingress)["status"])
    return status.apply(lambda known: str(known["loadBalancer"]["ingress"][0]["hostname"]))
