"""Which Kubernetes objects does a stage consist of? Manifests in an order in which they may be applied. (pure)

    Namespace.., NetworkPolicy "default-deny" and "allow-dns" of each
    per namespace: collector, PostgreSQL (unless databases are given)
    broker: emulator, or the Job that makes the queues at a given one
    per service: ServiceAccount, Deployment, Service, autoscaler, disruption budget, NetworkPolicy
    Ingress

Secrets are the caller's: `infra.k8s.names.database_secret` and, with an own broker that asks for them,
`infra.k8s.environment.BROKER_SECRET`.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.k8s.broker import broker_objects
from infra.k8s.collector import collector_objects
from infra.k8s.database import database_objects
from infra.k8s.ingress import ingress_objects
from infra.k8s.names import labels, metadata, namespace_of, shared_namespace, system_namespace
from infra.k8s.policies import allow_dns, default_deny, service_policy
from infra.k8s.site import Manifest, Site
from infra.k8s.workload import service_object, service_objects
from stages.messaging import talkers
from stages.model import Kind, Stage


def objects(stage: Stage, site: Site, cluster: str | None = None) -> tuple[Manifest, ...]:
    """Everything but the secrets, which are the caller's, and the mesh's rules (`infra.k8s.mesh_objects`).

    `cluster`: only what belongs into this cluster of the model, where the others are Kubernetes clusters of their own;
    None: everything, in one Kubernetes cluster. Raise ValueError for a canary in a stage without a mesh.
    """
    if site.canaries and not stage.mesh:
        raise ValueError(f"stage {stage.name!r} has no mesh to split calls: no canary of {', '.join(site.canaries)}")
    here = [s.name for s in stage.services if cluster is None or stage.cluster_of(s.name) == cluster]
    return (
        *_namespaces(stage, site, here),
        *_shared(stage, site, cluster),
        *(manifest for service in here for manifest in service_objects(stage, site, service)),
        *(service_policy(stage, site, service, cluster) for service in here),
        *_names_of_others(stage, site, here),
        *(manifest for manifest in ingress_objects(stage, site) if manifest["metadata"]["name"] in here),
    )


def namespaces(stage: Stage, site: Site, services: list[str]) -> dict[str, str | None]:
    """Namespace -> the system it is of, None for the one of all."""
    if not stage.mesh:
        return {shared_namespace(stage, site): None}
    systems = dict.fromkeys(stage.service(name).system for name in services)
    return {system_namespace(stage, site, system): system for system in systems}


def _namespaces(stage: Stage, site: Site, here: list[str]) -> Iterator[Manifest]:
    for namespace, system in namespaces(stage, site, here).items():
        yield from _walled(stage, site, namespace, system)
        yield from collector_objects(stage, site, namespace, system)
        keepers = [s for s in here if stage.service(s).database and namespace_of(stage, site, s) == namespace]
        if keepers and site.database is None:
            yield from database_objects(stage, site, namespace, system, keepers)


def _shared(stage: Stage, site: Site, cluster: str | None) -> Iterator[Manifest]:
    """The broker belongs to nobody: in stage mesh it has a namespace of its own, and is in no system's cluster."""
    if cluster is not None:
        if site.broker is None and talkers(stage):
            raise ValueError(f"cluster {cluster!r} is one of several: the broker that they share has to be given")
        return  # and so have its queues
    made = tuple(broker_objects(stage, site))
    if made and stage.mesh:
        yield from _walled(stage, site, shared_namespace(stage, site), None)
    yield from made


def _walled(stage: Stage, site: Site, namespace: str, system: str | None) -> Iterator[Manifest]:
    yield _namespace(stage, site, namespace, system)
    yield default_deny(stage, site, namespace, system)
    yield allow_dns(stage, site, namespace, system)


def _namespace(stage: Stage, site: Site, name: str, system: str | None) -> Manifest:
    """In stage mesh pods get a sidecar, whose first container sets up the network: more than 'restricted' allows."""
    level = "privileged" if stage.mesh and system else "restricted"
    rules = {
        "pod-security.kubernetes.io/enforce": level,
        "pod-security.kubernetes.io/audit": "restricted",
        **({"istio-injection": "enabled"} if stage.mesh and system else {}),
    }
    its_labels = labels(stage, site, name, "namespace", system)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name, None, {**its_labels, **rules})}


def _names_of_others(stage: Stage, site: Site, here: list[str]) -> Iterator[Manifest]:
    """Namespace and Service of callees in other clusters: DNS knows what is in its own cluster only."""
    callees = [c.callee for c in stage.channels if c.kind is Kind.CALL and c.caller in here and c.callee not in here]
    known = set(namespaces(stage, site, here))
    for callee in dict.fromkeys(callees):
        namespace = namespace_of(stage, site, callee)
        if namespace not in known:
            known.add(namespace)
            yield _namespace(stage, site, namespace, stage.service(callee).system)
            yield default_deny(stage, site, namespace, stage.service(callee).system)
        yield service_object(stage, site, callee, elsewhere=True)
