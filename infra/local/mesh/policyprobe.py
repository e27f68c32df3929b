"""Which calls does the mesh let through, as seen from outside? Every pair of services is tried, with every credential.

Nothing is believed from a configuration: a probe speaks TLS itself, from where the caller would (its own cluster:
straight to the callee's sidecar; another one: over the link to its gateway), and asks for /ready.

    own         the caller's identity                     works if the model has such a call, else 403
    other       a service's that may not call the callee  403
    expired     the caller's, until an hour ago           no connection
    foreign     the caller's, by a root nobody trusts     no connection
    plaintext   none, and no TLS                          no connection
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from infra.local.mesh import authority, pki
from stages.check import Credential, PolicyTry
from stages.deployment import Deployment
from stages.mesh import STABLE, allowed, identity, link_of, server_name, sidecar_of
from stages.model import Stage

TTL_S = 300
TIMEOUT_S = 5.0
LOOKS = 3
"""How often is tried what gave no clue."""
THREADS = 8
ALLOWED = "allowed"
DENIED = "denied"
FORBIDDEN = f"{DENIED}: rbac 403"
UNTRUSTED = f"{DENIED}: tls"
HUNG_UP = f"{DENIED}: plaintext"
LET_THROUGH = {ALLOWED: True, DENIED: False}
"""By an answer's first word; any other says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a callee can be reached from a caller's cluster."""

    host: str
    port: int
    server_name: str
    identity: str
    """Who has to answer there."""


def measure(stage: Stage, deployment: Deployment) -> list[PolicyTry]:
    """Try every pair of services of a local deployment with every credential; a few seconds.

    Raise KeyError if the deployment lacks a sidecar or a link, ValueError if it lacks an authority.
    """
    doors = {
        (caller.name, callee.name): door(stage, deployment, caller.name, callee.name)
        for caller, callee in permutations(stage.services, 2)
    }
    return measure_at(stage, Path(deployment.directory) / "mesh", doors)


def measure_at(stage: Stage, mesh: Path, doors: Mapping[tuple[str, str], Door]) -> list[PolicyTry]:
    """Try these pairs (caller, callee). `mesh`: where the authority's files are."""
    with _contexts(stage, mesh) as contexts, ThreadPoolExecutor(THREADS) as pool:

        def attempt(case: tuple[tuple[str, str], Credential]) -> PolicyTry:
            (caller, callee), credential = case
            shown = _shown(stage, caller, callee, credential)
            context = contexts.get((shown, Credential.OWN if credential is Credential.OTHER else credential))
            answer = knock(doors[caller, callee], context)
            return PolicyTry(
                caller=caller,
                callee=callee,
                credential=credential,
                shown=shown,
                allowed=LET_THROUGH.get(answer.partition(":")[0]),
                answer=answer,
            )

        return list(pool.map(attempt, ((pair, c) for pair in doors for c in Credential)))


def door(stage: Stage, deployment: Deployment, caller: str, callee: str) -> Door:
    """The way from a caller's cluster to a callee."""
    here, there = stage.cluster_of(caller), stage.cluster_of(callee)
    if here == there:
        listen = f"127.0.0.1:{deployment.parts[sidecar_of(callee)].ports['inbound']}"
    else:
        listen = deployment.wires[link_of(here, there)].listen
    host, _, port = listen.rpartition(":")
    name = server_name(callee, STABLE, there)
    return Door(host=host, port=int(port), server_name=name, identity=identity(stage, callee))


def _shown(stage: Stage, caller: str, callee: str, credential: Credential) -> str:
    """The service that the certificate names, '' in plaintext."""
    if credential is Credential.PLAINTEXT:
        return ""
    return stranger(stage, caller, callee) if credential is Credential.OTHER else caller


def stranger(stage: Stage, caller: str, callee: str) -> str:
    """A service, neither of the two, that may not call the callee: the first by name."""
    friends = {a for a, b in allowed(stage) if b == callee}
    return min(s.name for s in stage.services if s.name not in {caller, callee, *friends})


def knock(door: Door, context: ssl.SSLContext | None) -> str:
    """Call, with a credential's context or in plaintext; raises nothing.

    What came of it: 'allowed', 'denied: rbac 403', 'denied: tls', 'denied: plaintext', or 'unknown: ' and why.
    """
    seen = ""
    for _ in range(LOOKS):
        seen = _plain(door) if context is None else _encrypted(door, context)
        if not seen.startswith("unknown"):
            break
    return seen


def _plain(door: Door) -> str:
    try:
        with socket.create_connection((door.host, door.port), TIMEOUT_S) as connection:
            try:
                return _asked(connection) or HUNG_UP
            except ConnectionError:
                return HUNG_UP
    except OSError as error:
        return f"unknown: {_words(error)}"


def _encrypted(door: Door, context: ssl.SSLContext) -> str:
    try:
        with (
            socket.create_connection((door.host, door.port), TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=door.server_name) as connection,
        ):
            names = (connection.getpeercert() or {}).get("subjectAltName", ())
            if names != (("URI", door.identity),):
                return f"unknown: {names} answered"
            # In TLS 1.3 the server looks at our certificate only now
            try:
                return _asked(connection) or UNTRUSTED
            except (ssl.SSLError, ConnectionError):
                return UNTRUSTED
    except OSError as error:
        return f"unknown: {_words(error)}"


def _asked(connection: socket.socket) -> str:
    """What an HTTP request is answered, '' if the other side hangs up."""
    connection.sendall(b"GET /ready HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer and (more := connection.recv(4096)):
        answer += more
    if not answer.startswith(b"HTTP/1.1 "):
        return ""
    status = answer[9:12].decode("ascii", "replace")
    return FORBIDDEN if status == "403" else ALLOWED


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return f"{type(error).__name__}: {reason}"


@contextlib.contextmanager
def _contexts(stage: Stage, mesh: Path) -> Iterator[Mapping[tuple[str, Credential], ssl.SSLContext]]:
    """A TLS context for every service and every kind of certificate. The keys are in files for a moment only."""
    home = mesh / "probe"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    try:
        yield {
            (service.name, credential): _context(home, trust, leaf)
            for service in stage.services
            for credential, leaf, trust in _leaves(stage, mesh, service.name)
        }
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _leaves(stage: Stage, mesh: Path, service: str) -> Sequence[tuple[Credential, pki.Leaf, str]]:
    now = pki.utc_now()
    name = identity(stage, service)
    known = authority.read(authority.pki_directory(mesh, stage.cluster_of(service)))
    return [
        (Credential.OWN, pki.make_leaf(known.issuer, name, TTL_S, now), known.trust),
        (Credential.EXPIRED, pki.make_expired_leaf(known.issuer, name, now), known.trust),
        (Credential.FOREIGN, pki.make_foreign_leaf(name, TTL_S, now), known.trust),
    ]


def _context(home: Path, trust: str, leaf: pki.Leaf) -> ssl.SSLContext:
    path = home / "leaf.pem"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(leaf.chain + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # names are identities here, looked at above
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=trust)
    context.load_cert_chain(path)
    path.unlink()
    return context
