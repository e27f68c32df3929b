"""Is what the mesh promises in force: mTLS everywhere, and a limit on every wait for another system?

An edge across systems is read off the callers themselves: a Deployment whose environment names a host in another
system's namespace calls it. That host needs a DestinationRule (when is the callee left alone?) and a VirtualService
with a timeout (how long does a caller wait?) among the same resources: both act in the caller's cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from infra.policy.rows import UNKNOWN, Row, Said, Unjudged, Wrong, at, items, kubernetes, unknown_in

ROOT_NAMESPACE = "istio-system"
SECURITY, NETWORKING = "security.istio.io", "networking.istio.io"
SHARED = "shared"
"""Label 'system' of what belongs to no system, such as the broker: a wait for it is not one for another system."""

_HOST = re.compile(r"\b([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\b")


def strict_mtls(rows: Sequence[Row]) -> Iterator[Said]:
    """Where a mesh is, every namespace in it takes mTLS only, and nobody is told to speak without."""
    if not has_mesh(rows):
        return
    policies = list(kubernetes(rows, "PeerAuthentication", SECURITY))
    for policy in policies:
        yield from _modes(policy)
    for rule in kubernetes(rows, "DestinationRule", NETWORKING):
        if at(rule.inputs, "spec", "trafficPolicy", "tls", "mode") == "DISABLE":
            yield Wrong(rule, "callers are told to speak plaintext", "set tls.mode to ISTIO_MUTUAL")
    wide = [p for p in policies if at(p.inputs, "spec", "selector") is None]
    covered = [p.namespace for p in wide]
    if ROOT_NAMESPACE in covered:
        return
    for namespace in kubernetes(rows, "Namespace"):
        name = at(namespace.inputs, "metadata", "name")
        if not _injected(namespace) or name in covered:
            continue
        if UNKNOWN in covered or name is UNKNOWN:
            yield Unjudged(namespace, "which namespace a PeerAuthentication is for is not known yet")
        else:
            yield Wrong(
                namespace,
                "no PeerAuthentication is for all of it: its sidecars take plaintext too",
                f"add one with mtls.mode STRICT and no selector, there or in {ROOT_NAMESPACE}",
            )


def bounded_edges(rows: Sequence[Row]) -> Iterator[Said]:
    """Where a mesh is, a DestinationRule and a VirtualService with a timeout for every host of another system."""
    if not has_mesh(rows):
        return
    rules = [at(r.inputs, "spec", "host") for r in kubernetes(rows, "DestinationRule", NETWORKING)]
    routes = list(kubernetes(rows, "VirtualService", NETWORKING))
    shared = {_name(n) for n in kubernetes(rows, "Namespace") if _label(n, "system") == SHARED}
    for row in kubernetes(rows, "Deployment", "apps"):
        if row.namespace is UNKNOWN:
            yield Unjudged(row, "its namespace is not known yet")
            continue
        hosts, vague = _called(row)
        if vague:
            yield Unjudged(row, f"the address in {', '.join(vague)} is not known yet")
        for service, namespace in hosts:
            if namespace == row.namespace or namespace in shared or namespace.endswith(f"-{SHARED}"):
                continue
            yield from _bounded(row, service, namespace, rules, routes)


def has_mesh(rows: Sequence[Row]) -> bool:
    """Whether Istio is installed or told anything here."""
    if any(f":{group}/" in row.type for row in rows for group in (SECURITY, NETWORKING)):
        return True
    if any(_injected(n) for n in kubernetes(rows, "Namespace")):
        return True
    return any(at(r.inputs, "chart") == "istiod" for r in kubernetes(rows, "Release"))


def _modes(policy: Row) -> Iterator[Said]:
    ports = at(policy.inputs, "spec", "portLevelMtls")
    said = [("", at(policy.inputs, "spec", "mtls", "mode"))]
    if isinstance(ports, dict):
        said += [(f" on port {port}", at(ports, port, "mode")) for port in ports]
    for where, mode in said:
        if mode is UNKNOWN:
            yield Unjudged(policy, f"its mode{where} is not known yet")
        elif mode != "STRICT":
            yield Wrong(policy, f"its mode{where} is {mode or 'unset'}", "set STRICT")


def _injected(namespace: Row) -> bool:
    return _label(namespace, "istio-injection") == "enabled" or isinstance(_label(namespace, "istio.io/rev"), str)


def _label(row: Row, key: str) -> Any:
    return at(row.inputs, "metadata", "labels", key)


def _name(row: Row) -> str:
    name = at(row.inputs, "metadata", "name")
    return name if isinstance(name, str) else row.name


def _called(row: Row) -> tuple[list[tuple[str, str]], list[str]]:
    """(Service, namespace) of every host in the environment; variables whose value is not known yet."""
    hosts: dict[tuple[str, str], None] = {}
    vague: list[str] = []
    for container in items(at(row.inputs, "spec", "template", "spec", "containers")):
        for variable in items(at(container, "env")):
            value = at(variable, "value")
            if value is UNKNOWN:
                vague.append(str(at(variable, "name")))
            elif isinstance(value, str):
                hosts.update(dict.fromkeys(_HOST.findall(value)))
    return list(hosts), vague


def _bounded(row: Row, service: str, namespace: str, rules: Sequence[Any], routes: Sequence[Row]) -> Iterator[Said]:
    called = f"{service}.{namespace}"
    if not any(_takes(host, service, namespace) for host in rules):
        if UNKNOWN in rules:
            yield Unjudged(row, f"whether a DestinationRule is for {called} is not known yet")
        else:
            yield Wrong(
                row,
                f"it calls {called} of another system, and no DestinationRule says when to leave it alone",
                "add one with outlierDetection and connectionPool",
            )
    mine = [r for r in routes if any(_takes(h, service, namespace) for h in items(at(r.inputs, "spec", "hosts")))]
    if not mine and any(unknown_in(at(r.inputs, "spec", "hosts")) for r in routes):
        yield Unjudged(row, f"whether a VirtualService is for {called} is not known yet")
    elif not mine:
        yield Wrong(
            row,
            f"it calls {called} of another system, and no VirtualService says how long to wait",
            "add one with a timeout",
        )
    for route in mine:
        for rule in items(at(route.inputs, "spec", "http")):
            if at(rule, "timeout") in (None, "0s", ""):
                yield Wrong(route, f"a route to {called} waits without limit", "set its timeout")


def _takes(host: Any, service: str, namespace: str) -> bool:
    """Whether a rule's host is that service: its name, or a wildcard over its namespace."""
    full = f"{service}.{namespace}.svc.cluster.local"
    if not isinstance(host, str):
        return False
    return host in (full, f"{service}.{namespace}") or (host.startswith("*.") and full.endswith(host[1:]))
