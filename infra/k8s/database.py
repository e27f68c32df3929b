"""Where do services keep their records, if no database is given? PostgreSQL in the cluster. (pure)

One server per namespace, a database and a role of its own per service; nobody else may connect to it. One pod and one
volume: enough to try a stage, no replacement for a managed database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from infra.k8s import pods
from infra.k8s.names import database_secret, labels, metadata, selector
from infra.k8s.policies import DATABASE, DATABASE_PORT, of, part_policy, pods_of
from infra.k8s.site import Manifest, SecretRef, Site
from stages.model import Stage

ADMIN = SecretRef(name="postgres-admin", key="password")
"""Password of the server's own user."""
PASSWORD_KEY = "password"
"""Beside `url` in the Secret of each service's database."""
USER = 999
"""What the image calls postgres."""
CONNECTIONS = 400
"""Eight services, six pods each, five connections a pod, and some for the server itself."""
SIZE = "2Gi"

SCRIPT = """\
#!/bin/sh
# Runs once, when the volume is new: a role and a database per service, closed to everybody else.
set -eu
for file in /run/passwords/*; do
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \\
    --set name="${file##*/}" --set password="$(cat "$file")" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
"""


def database_url(service: str, password: str, namespace: str) -> str:
    """What `database_secret(service)` holds for the server of a namespace.

    >>> database_url("orders", "p", "shop")
    'postgresql+psycopg://orders:p@postgres.shop.svc.cluster.local:5432/orders'
    """
    return (
        f"postgresql+psycopg://{service}:{password}@{DATABASE}.{namespace}.svc.cluster.local:{DATABASE_PORT}/{service}"
    )


def database_objects(
    stage: Stage, site: Site, namespace: str, system: str | None, services: Sequence[str]
) -> Iterator[Manifest]:
    """The server of one namespace, for these services."""
    its_labels = labels(stage, site, DATABASE, "database", system)
    meta = metadata(DATABASE, namespace, its_labels)
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"databases.sh": SCRIPT}}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            "selector": selector(site, DATABASE),
            "ports": [{"name": "tcp-postgres", "port": DATABASE_PORT, "targetPort": "postgres", "protocol": "TCP"}],
        },
    }
    yield _stateful_set(site, meta, its_labels, services)
    yield pods.disruption_budget(meta, selector(site, DATABASE))
    callers = [pods_of(namespace, selector(site, name)) for name in services]
    yield part_policy(DATABASE, namespace, its_labels, site, [of(callers, DATABASE_PORT)], [])


def _stateful_set(site: Site, meta: dict[str, Any], its_labels: dict[str, str], services: Sequence[str]) -> Manifest:
    picked = selector(site, DATABASE)
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}}
    if site.storage_class:
        claim["storageClassName"] = site.storage_class
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta,
        "spec": {
            "replicas": 1,
            "serviceName": DATABASE,
            "selector": {"matchLabels": picked},
            "template": {
                "metadata": {"labels": {**its_labels, "sidecar.istio.io/inject": "false"}},
                "spec": {
                    "serviceAccountName": DATABASE,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 60,
                    "securityContext": pods.pod_security(USER),
                    "containers": [_container(site)],
                    "volumes": _volumes(services),
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }


def _container(site: Site) -> dict[str, Any]:
    ready = {"exec": {"command": ["pg_isready", "--quiet", "--username=postgres", "--host=127.0.0.1"]}}
    return {
        "name": DATABASE,
        "image": site.database_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-c", f"max_connections={CONNECTIONS}"],
        "env": [
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            {"name": "POSTGRES_INITDB_ARGS", "value": "--auth-host=scram-sha-256"},
            {"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": ADMIN.name, "key": ADMIN.key}}},
            {"name": "POSTGRES_USER", "value": "postgres"},
        ],
        "ports": [{"name": "postgres", "containerPort": DATABASE_PORT, "protocol": "TCP"}],
        "startupProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 2},
        "livenessProbe": {**ready, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "resources": pods.resources("100m", "256Mi", "1Gi"),
        "securityContext": pods.container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "scripts", "mountPath": "/docker-entrypoint-initdb.d", "readOnly": True},
            {"name": "passwords", "mountPath": "/run/passwords", "readOnly": True},
            {"name": "run", "mountPath": "/var/run/postgresql"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _volumes(services: Sequence[str]) -> list[dict[str, Any]]:
    passwords = [
        {"secret": {"name": database_secret(name).name, "items": [{"key": PASSWORD_KEY, "path": name}]}}
        for name in services
    ]
    return [
        # executable, or the image's own script would read it into itself, with its `set -u`
        {"name": "scripts", "configMap": {"name": DATABASE, "defaultMode": 0o755}},
        {"name": "passwords", "projected": {"sources": passwords}},
        {"name": "run", "emptyDir": {}},
        pods.tmp(),
    ]
