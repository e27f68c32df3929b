"""Does a fault of the mesh bite? Paths between sidecars are greeted, certificates read, the parts' figures asked for.

A path between clusters is greeted through its link, which leads to the other cluster's gateway as every channel does,
but which nobody else uses. What a sidecar refused, and whether all trust was replaced, is told by the fault's holder
too: figures that only ever go up cannot say when.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from chaos.ask import SILENCE_S, Reply, Sight, ask
from chaos.faults_mesh import Canary, CertificateExpired, GarbageConfig, Partition, RootRotation
from chaos.greet import greet
from chaos.parts import EVERYWHERE, REGISTRY
from chaos.wires import BROKER
from stages.blast_radius import USERS
from stages.deployment import Deployment, Part
from stages.mesh import STABLE, link_of, server_name, sidecar_of

REFUSED = "/stats?filter=update_(rejected|failure)"
"""Envoy's counts of what it was told and would not believe."""


def encrypted(deployment: Deployment, wire: str) -> bool:
    """Whether a wire runs between sidecars, so that only a greeting gets an answer; KeyError for an unknown wire."""
    found = deployment.wires[wire]
    return bool(deployment.parts) and found.caller != USERS and found.callee not in {BROKER, REGISTRY}


def knock(deployment: Deployment, wire: str, *, timeout_s: float, for_s: float | None = None) -> Reply:
    """Greet whoever is at the other end of an encrypted wire."""
    found = deployment.wires[wire]
    there = next(
        server_name(name, STABLE, i.cluster)
        for name, i in deployment.services.items()
        if found.callee in (name, i.cluster)
    )
    return greet(found.listen, server_name=there, timeout_s=timeout_s, for_s=for_s)


def own(deployment: Deployment, process: str) -> str:
    """Base URL of a service's or a part's own interface; KeyError for an unknown one."""
    service = deployment.services.get(process)
    return service.url if service else deployment.parts[process].admin


def parted(fault: Partition, deployment: Deployment) -> Sight:
    """Every link between the two, in both directions, is silent."""
    links = list(_links(fault, deployment))
    with ThreadPoolExecutor() as at_once:  # each silence takes its time
        replies = at_once.map(lambda link: knock(deployment, link, timeout_s=SILENCE_S), links)
        ends = {link: reply.end for link, reply in zip(links, replies, strict=True)}
    through = [f"{link} {end}" for link, end in ends.items() if end != "silent"]
    said = f"still heard: {', '.join(through)}" if through else f"{', '.join(ends)} are silent"
    return Sight(bites=bool(ends) and not through, said=said)


def expired(fault: CertificateExpired, deployment: Deployment, evidence: Mapping[str, Any]) -> Sight:
    """The service's sidecar shows a certificate that has run out, and its callers have turned away from it."""
    sidecar = sidecar_of(fault.service)
    reply = _greeted(deployment.parts[sidecar], fault.service)
    if not reply.body:
        return Sight(bites=False, said=f"{sidecar} shows no certificate ({reply.end})")
    until = x509.load_der_x509_certificate(reply.body).not_valid_after_utc
    over = until < datetime.now(UTC)
    said = f"{sidecar} shows a certificate {'that ended at' if over else 'valid until'} {until:%H:%M:%S} UTC"
    seen = evidence.get("seen")
    return Sight(bites=over and bool(seen), said=f"{said}; {seen or 'nobody has turned away from it yet'}")


def refuses(fault: GarbageConfig, deployment: Deployment, evidence: Mapping[str, Any]) -> Sight:
    """The sidecar counts what it refused, and lives; that it did so just now is what the holder saw."""
    reply = ask(deployment.parts[fault.service].admin, timeout_s=SILENCE_S, path=REFUSED)
    counted = sum(_counts(reply.body.decode(errors="replace")))
    seen = evidence.get("seen")
    said = f"{fault.service} has refused {counted} updates so far; {seen or 'none of them since then'}"
    return Sight(bites=counted > 0 and bool(seen), said=said)


def disbelieved(deployment: Deployment, evidence: Mapping[str, Any]) -> Sight:
    """Some control plane counts answers that it did not believe; that it did so just now is what the holder saw."""
    planes = {name: part.admin for name, part in deployment.parts.items() if part.role == "control"}
    replies = {name: ask(url, timeout_s=SILENCE_S, path="/status") for name, url in planes.items()}
    counted = {name: _refused_answers(reply.body) for name, reply in replies.items()}
    told = ", ".join(f"{name} has refused {count} answers" for name, count in counted.items() if count)
    seen = evidence.get("seen")
    said = f"{told or 'no control plane has refused an answer'}; {seen or 'none of them since then'}"
    return Sight(bites=any(counted.values()) and bool(seen), said=said)


def renewed(fault: RootRotation, deployment: Deployment, evidence: Mapping[str, Any]) -> Sight:
    """The holder compared all roots; from outside, every sidecar shows a certificate that is valid."""
    sidecars = {name: part for name, part in deployment.parts.items() if part.role == "sidecar"}
    with ThreadPoolExecutor() as at_once:
        replies = at_once.map(lambda part: _greeted(part, part.of or ""), sidecars.values())
        shown = {name: reply.body for name, reply in zip(sidecars, replies, strict=True)}
    now = datetime.now(UTC)
    bare = [name for name, der in shown.items() if not der or not _valid(der, now)]
    said = f"without a valid certificate: {', '.join(bare)}" if bare else f"{len(shown)} sidecars show valid ones"
    seen = evidence.get("seen")
    return Sight(bites=bool(seen) and bool(shown) and not bare, said=f"{seen or 'no new root yet'}; {said}")


def answers(fault: Canary, deployment: Deployment, evidence: Mapping[str, Any]) -> Sight:
    """The second version lives beside the first; that it gets its share is what the holder saw."""
    twins = [
        p.admin
        for p in deployment.parts.values()
        if (p.role, p.of, p.version == STABLE) == ("service", fault.service, False)
    ]
    if not twins:
        return Sight(bites=False, said=f"{fault.service} has one version only")
    reply = ask(twins[0], timeout_s=SILENCE_S)
    seen = evidence.get("seen")
    said = f"a second version of {fault.service} at {twins[0]} is {reply.end}; {seen or 'it has no share yet'}"
    return Sight(bites=reply.end == "answered" and bool(seen), said=said)


def _links(fault: Partition, deployment: Deployment) -> Iterator[str]:
    here = fault.cluster
    others = sorted({i.cluster for i in deployment.services.values()} - {here})
    for there in others if fault.from_ == EVERYWHERE else (fault.from_,):
        yield link_of(here, there)
        yield link_of(there, here)


def _greeted(part: Part, service: str) -> Reply:
    name = server_name(service, part.version, part.cluster)
    return greet(f"127.0.0.1:{part.ports['inbound']}", server_name=name, timeout_s=SILENCE_S)


def _valid(der: bytes, now: datetime) -> bool:
    certificate = x509.load_der_x509_certificate(der)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _refused_answers(status: bytes) -> int:
    """The figure of a control plane's status; 0 where that cannot be read."""
    try:
        said = json.loads(status)
    except ValueError:
        return 0
    return int(said.get("rejected", 0)) if isinstance(said, dict) else 0


def _counts(text: str) -> Iterator[int]:
    """The figures of 'cluster.orders.update_rejected: 3', a line each."""
    for line in text.splitlines():
        name, _, value = line.rpartition(": ")
        if name.endswith(("update_rejected", "update_failure")) and value.isdigit():
            yield int(value)
