"""Where do messages go if no broker is given, and who makes the queues? An emulator here, or a Job for it. (pure)

    broker given       a Job makes queues and topics there, once per change of theirs
    none given         Deployment "broker": the emulator, and beside it what makes the queues again if it restarts

The emulator keeps messages in memory: whoever relies on "nothing is lost" gives the address of a broker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from infra.k8s import broker_setup, pods
from infra.k8s.environment import BROKER, BROKER_PORT, BROKER_SECRET, WITHOUT_CREDENTIALS, broker_of
from infra.k8s.names import labels, metadata, namespace_of, selector, shared_namespace
from infra.k8s.policies import NAMESPACE_LABEL, all_services, of, part_policy, reach
from infra.k8s.site import Manifest, Site
from stages.messaging import Queue, messaging, talkers
from stages.model import Stage

SETUP = "broker-setup"


def broker_objects(stage: Stage, site: Site) -> Iterator[Manifest]:
    """Nothing for a stage without messages, or where the queues are somebody else's business (AWS itself)."""
    if not talkers(stage) or (site.broker and site.broker.endpoint is None):
        return
    if site.broker is None:
        yield from _emulator(stage, site)
    else:
        yield from _setup_job(stage, site)


def setup_plan(stage: Stage, site: Site) -> dict[str, Any]:
    """What `infra.k8s.broker_setup` reads: names with their prefix, dead-letter queues first."""
    needed, at = messaging(stage), broker_of(stage, site)

    def queue(name: str, of_it: Queue, dead_letters: str | None) -> dict[str, Any]:
        return {
            "name": at.prefix + name,
            "fifo": of_it.fifo,
            "visibility_timeout_s": of_it.visibility_timeout_s,
            "dead_letters": at.prefix + dead_letters if dead_letters else None,
            "max_receives": of_it.max_receives,
        }

    return {
        "endpoint": at.endpoint if site.broker else f"http://127.0.0.1:{BROKER_PORT}",  # the emulator's own pod
        "region": at.region,
        "signed": at.signed,
        "queues": [
            *(queue(q.dead_letters, q, None) for q in needed.queues),
            *(queue(q.name, q, q.dead_letters) for q in needed.queues),
        ],
        "topics": [{"name": at.prefix + t.name, "fifo": t.fifo} for t in needed.topics],
        "subscriptions": [
            {"topic": at.prefix + s.topic, "queue": at.prefix + s.queue, "messages": list(s.messages)}
            for s in needed.subscriptions
        ],
    }


def _emulator(stage: Stage, site: Site) -> Iterator[Manifest]:
    namespace = shared_namespace(stage, site)
    its_labels = labels(stage, site, BROKER, "broker", None)
    meta = metadata(BROKER, namespace, its_labels)
    files = _files(stage, site)
    yield _account(meta)
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**meta, "name": SETUP}, "data": files}
    picked = selector(site, BROKER)
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two of them would each have half of the messages
            "selector": {"matchLabels": picked},
            "template": {
                "metadata": {
                    "labels": {**its_labels, "sidecar.istio.io/inject": "false"},
                    "annotations": {"checksum/plan": _checksum(files)},
                },
                "spec": {
                    **_pod(BROKER),
                    "containers": [_emulating(site), {**_making(site, ["--forever"], signed=False), **_made()}],
                    "volumes": [_scripts(SETUP), pods.tmp()],
                },
            },
        },
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            "selector": picked,
            "ports": [{"name": "http", "port": BROKER_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }
    yield pods.disruption_budget(meta, picked)
    everywhere = {"namespaceSelector": {"matchExpressions": [_namespaces_of_services(stage, site)]}}
    callers = [{**everywhere, "podSelector": {"matchLabels": all_services(site)}}]
    yield part_policy(BROKER, namespace, its_labels, site, [of(callers, BROKER_PORT)], [])


def _setup_job(stage: Stage, site: Site) -> Iterator[Manifest]:
    """A Job cannot be changed, so its name says what it makes."""
    namespace, files = shared_namespace(stage, site), _files(stage, site)
    name = f"{SETUP}-{_checksum({**files, 'image': site.image})[:8]}"
    its_labels = labels(stage, site, SETUP, "broker", None)
    meta = metadata(SETUP, namespace, its_labels)
    at = broker_of(stage, site)
    yield _account(meta)
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, namespace, its_labels), "data": files}
    yield part_policy(SETUP, namespace, its_labels, site, [], [reach(at.reach)])
    yield {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(name, namespace, its_labels),
        "spec": {
            "backoffLimit": 3,
            "template": {
                "metadata": {"labels": {**its_labels, "sidecar.istio.io/inject": "false"}},
                "spec": {
                    **_pod(SETUP),
                    "restartPolicy": "OnFailure",
                    "containers": [_making(site, [], signed=at.signed)],
                    "volumes": [_scripts(name), pods.tmp()],
                },
            },
        },
    }


def _namespaces_of_services(stage: Stage, site: Site) -> dict[str, Any]:
    names = dict.fromkeys(namespace_of(stage, site, name) for name in talkers(stage))
    return {"key": NAMESPACE_LABEL, "operator": "In", "values": list(names)}


def _files(stage: Stage, site: Site) -> dict[str, str]:
    return {
        "broker_setup.py": Path(broker_setup.__file__).read_text(encoding="utf-8"),
        "plan.json": json.dumps(setup_plan(stage, site), indent=1, sort_keys=True),
    }


def _checksum(files: dict[str, str]) -> str:
    return sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def _account(meta: dict[str, Any]) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False}


def _pod(account: str) -> dict[str, Any]:
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
    }


def _scripts(config_map: str) -> dict[str, Any]:
    return {"name": "setup", "configMap": {"name": config_map}}


def _emulating(site: Site) -> dict[str, Any]:
    probe = {**pods.http_get("/_ministack/health"), "periodSeconds": 5, "timeoutSeconds": 3}
    return {
        "name": BROKER,
        "image": site.broker_image,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            {"name": "GATEWAY_PORT", "value": str(BROKER_PORT)},
            {"name": "HOME", "value": "/tmp"},
            {"name": "SERVICES", "value": "sqs,sns"},
        ],
        "ports": [{"name": "http", "containerPort": BROKER_PORT, "protocol": "TCP"}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "failureThreshold": 6},
        "resources": pods.resources("100m", "192Mi", "512Mi"),
        "securityContext": pods.container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _made() -> dict[str, Any]:
    """Nobody is let in before the queues are there: an event that is published before its subscription is lost."""
    made = {"exec": {"command": ["test", "-f", str(broker_setup.MADE)]}}
    return {"readinessProbe": {**made, "periodSeconds": 2, "timeoutSeconds": 2}}


def _making(site: Site, arguments: list[str], *, signed: bool) -> dict[str, Any]:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    secret = [
        {"name": k, "valueFrom": {"secretKeyRef": {"name": BROKER_SECRET, "key": k}}} for k in (keys if signed else ())
    ]
    return {
        "name": "setup",
        "image": site.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/setup/broker_setup.py", "/setup/plan.json", *arguments],
        "env": [*secret, *({"name": n, "value": v} for n, v in WITHOUT_CREDENTIALS.items())],
        "resources": pods.resources("10m", "64Mi", "192Mi"),
        "securityContext": pods.container_security(),
        "volumeMounts": [
            {"name": "setup", "mountPath": "/setup", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
