"""Which resources does a stack of target k8s have? A stage in any cluster that a kubeconfig context names.

    context -> Provider -> Secrets (passwords are drawn once), what services need, rules of the mesh -> services

In stage mesh all systems share that one cluster, each in a namespace of its own, and Istio has to be there: identity,
policy, retries and ejection are as modelled, but what a failure of a whole cluster does cannot be seen.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import pulumi

from infra.config import Options
from infra.k8s import database
from infra.k8s.environment import BROKER_SECRET
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.names import LABEL, database_secret, labels, metadata, namespace_of, service_labels, shared_namespace
from infra.k8s.objects import namespaces, objects
from infra.k8s.policies import DATABASE, DATABASE_PORT
from infra.k8s.site import ANYWHERE, BrokerAt, Collector, IngressAt, Manifest, Reach, SecretRef, Site
from stages.messaging import talkers
from stages.model import Stage

INGRESS_NAMESPACE = "ingress-nginx"
"""Where the ingress controller is taken to be; its pods alone may reach the entry."""
TRUST_DOMAIN = "cluster.local"
"""Istio takes it for whatever its own trust domain is."""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """What `broker_url` says."""

    at: BrokerAt
    keys: Mapping[str, str]
    """Access keys by variable, {} for a broker that wants none."""


def deploy(options: Options, stage: Stage) -> dict[str, pulumi.Input[object]]:
    """Register everything; returns the stack's outputs. Raise pulumi.RunError for options that cannot be used."""
    if problems := option_problems(options, stage):
        raise pulumi.RunError("\n".join(f"configuration: {problem}" for problem in problems))
    from pulumi_kubernetes import Provider

    from infra.k8s.pulumi import register

    provider = Provider("cluster", context=options.kubeconfig_context, enable_server_side_apply=True)
    broker = broker_at(options)
    site = site_of(options, stage, broker)
    manifests = (*objects(stage, site), *(mesh_objects(stage, None, site) if stage.mesh else ()))
    spaces = register((m for m in manifests if m["kind"] == "Namespace"), provider)
    there = list(spaces.values())
    # drawn anew by every run of the program, kept as they were by the engine
    register(drawn_secrets(stage, site), provider, depends_on=there, ignore_changes=["data"])
    register(given_secrets(stage, site, options, broker), provider, depends_on=there)
    parts = register((m for m in manifests if m["kind"] != "Namespace" and not _serves(m)), provider, depends_on=there)
    # an event that is published before its subscription stands is lost
    carriers = [part for name, part in parts.items() if name.endswith(("/broker-deployment", "-job"))]
    register((m for m in manifests if _serves(m)), provider, depends_on=[*there, *carriers])
    return {
        "stage": stage.name,
        "namespaces": list(namespaces(stage, site, [s.name for s in stage.services])),
        "url": f"https://{options.domain}" if options.domain else None,
        "forward": None if options.domain else _forward(stage, site),
    }


def option_problems(options: Options, stage: Stage) -> list[str]:
    """What this target cannot do, or must not guess."""
    found = []
    if not options.kubeconfig_context:
        found.append(
            "kubeconfig_context is not set, and no cluster is guessed; `kubectl config get-contexts`, then "
            "`pulumi config set kubeconfig_context ...`"
        )
    if options.broker != "sqs":
        found.append(
            f"broker is {options.broker!r}, but target 'k8s' makes queues of SQS and topics of SNS only; "
            "`pulumi config rm broker`"
        )
    if options.broker_url and not options.broker_url.startswith(("http://", "https://")):
        found.append("broker_url (not shown) must be http(s)://[key:secret@]host[:port][/account]")
    if options.broker_url and not talkers(stage):
        found.append(f"broker_url is set, but stage {stage.name!r} sends no messages; `pulumi config rm broker_url`")
    if options.database_url and not _is_database(options.database_url):
        found.append(
            "database_url (not shown) must be postgresql://user:password@host[:port]/{service}: every service has a "
            "database of its own, and its name takes the place of {service}"
        )
    return found


def site_of(options: Options, stage: Stage, broker: Broker | None) -> Site:
    """The site that a stack's options describe."""
    assert options.image is not None, "the configuration's own rule for this target"
    ingress = None
    if options.domain:
        ingress = IngressAt(host=options.domain, tls_secret=f"{options.name}-tls", from_namespaces=(INGRESS_NAMESPACE,))
    keys = {key: SecretRef(name=BROKER_SECRET, key=key) for key in broker.keys} if broker else {}
    return Site(
        deployment=options.name,
        image=options.image,
        owner=options.owner,
        broker=broker.at if broker else None,
        database=database_reach(options.database_url) if options.database_url else None,
        ingress=ingress,
        env=dict.fromkeys(talkers(stage), keys) if keys else {},
        collector=collector_to(options.otlp_endpoint) if options.otlp_endpoint else Collector(),
        trust_domain=TRUST_DOMAIN,
    )


def collector_to(endpoint: str) -> Collector:
    """A collector that passes everything on to another one, or to whatever speaks OTLP/HTTP.

    >>> collector_to("http://tempo.monitoring:4318").reach[0].namespaces
    ('monitoring',)
    """
    url = urlsplit(endpoint)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    exporters = {"otlphttp": {"endpoint": endpoint}}
    reach = Reach(cidrs=_addresses(host), ports=(port,), namespaces=_namespaces(host))
    return Collector(traces=exporters, metrics=exporters, reach=(reach,))


def broker_at(options: Options) -> Broker | None:
    """What `broker_url` names: http(s)://[key:secret@]host[:port][/account]."""
    if not options.broker_url:
        return None
    url = urlsplit(options.broker_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    given = (unquote(url.username or ""), unquote(url.password or ""))
    account = url.path.strip("/")
    at = BrokerAt(
        endpoint=f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}",
        account=account or BrokerAt().account,
        prefix=f"{options.name}-",
        signed=all(given),
        reach=Reach(cidrs=_addresses(url.hostname or ""), ports=(port,)),
    )
    return Broker(at=at, keys=dict(zip(KEYS, given, strict=True)) if all(given) else {})


def database_reach(url: str) -> Reach:
    """Where the databases of a `database_url` are."""
    parts = urlsplit(url.replace("{service}", "service"))
    return Reach(cidrs=_addresses(parts.hostname or ""), ports=(parts.port or DATABASE_PORT,))


def drawn_secrets(stage: Stage, site: Site) -> Iterator[Manifest]:
    """Passwords of the databases in the cluster; none where they are given."""
    if site.database is not None:
        return
    for service in (s.name for s in stage.services if s.database):
        password, namespace = secrets.token_hex(24), namespace_of(stage, site, service)
        content = {"url": database.database_url(service, password, namespace), database.PASSWORD_KEY: password}
        yield _secret(database_secret(service).name, namespace, service_labels(stage, site, service), content)
    keeping = {namespace_of(stage, site, s.name): s.system for s in stage.services if s.database}
    for namespace, system in keeping.items():
        its_labels = labels(stage, site, DATABASE, "database", system if stage.mesh else None)
        yield _secret(database.ADMIN.name, namespace, its_labels, {database.ADMIN.key: secrets.token_hex(24)})


def given_secrets(stage: Stage, site: Site, options: Options, broker: Broker | None) -> Iterator[Manifest]:
    """What the configuration says of databases and brokers that are there already."""
    if options.database_url:
        for service in (s.name for s in stage.services if s.database):
            url = service_url(options.database_url, service)
            place = namespace_of(stage, site, service)
            yield _secret(database_secret(service).name, place, service_labels(stage, site, service), {"url": url})
    if broker and broker.keys:
        places = dict.fromkeys([shared_namespace(stage, site), *(namespace_of(stage, site, n) for n in talkers(stage))])
        for place in places:
            yield _secret(BROKER_SECRET, place, labels(stage, site, "broker", "broker", None), broker.keys)


def service_url(url: str, service: str) -> str:
    """A service's database, in the form that SQLAlchemy knows the driver by.

    >>> service_url("postgresql://u:p@db/{service}", "orders")
    'postgresql+psycopg://u:p@db/orders'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}+psycopg://{rest.replace('{service}', service)}"


def _serves(manifest: Manifest) -> bool:
    """Whether these are the pods of a service."""
    component = manifest["metadata"]["labels"][f"{LABEL}/component"]
    return bool(manifest["kind"] == "Deployment" and component == "service")


def _is_database(url: str) -> bool:
    scheme, _, rest = url.partition("://")
    return scheme in ("postgresql", "postgresql+psycopg") and "{service}" in rest


def _addresses(host: str) -> tuple[str, ...]:
    """Network policies know numbers only, so what has a name is allowed by its port."""
    return (f"{host}/32",) if host.replace(".", "").isdecimal() else (ANYWHERE,)


def _namespaces(host: str) -> tuple[str, ...]:
    """The namespace in the name of a Kubernetes Service: '<service>.<namespace>[.svc[.cluster.local]]'."""
    service, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    return (namespace,) if service and namespace and domain in ("", "svc", "svc.cluster.local") else ()


def _secret(name: str, namespace: str, its_labels: dict[str, str], content: Mapping[str, str]) -> Manifest:
    data: dict[str, Any] = {
        key: pulumi.Output.secret(b64encode(value.encode()).decode()) for key, value in content.items()
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, namespace, its_labels),
        "type": "Opaque",
        "data": data,
    }


def _forward(stage: Stage, site: Site) -> str:
    entry = stage.operations[0].entry
    return f"kubectl --namespace {namespace_of(stage, site, entry)} port-forward service/{entry} 8080:8080"
