"""Who holds the roots of a deployment, and how is one replaced without breaking a connection? Files below mesh/.

    root/current.pem                       the root that everything leads back to, with its key
    root/next.pem                          the one that is to replace it, while that is under way
    <cluster>/pki/trust.pem                roots that the cluster trusts now
    <cluster>/pki/intermediate.pem .key    what its control plane signs leaves with

A root is replaced in three steps. After each one has to be waited until every control plane has taken it over and
connections made before are gone:

    begin    everybody trusts the old and the new root
    issue    intermediates, and so new leaves, come from the new root
    finish   nobody trusts the old root; its key is gone

Each step can be repeated after a crash. All directories are 0700, all files 0600.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.local.mesh import pki
from infra.local.mesh.pki import Issuer

ROOT, CURRENT, NEXT = "root", "current", "next"
KEY_BEGINS = "-----BEGIN PRIVATE KEY-----"
TRUST, INTERMEDIATE = "trust", "intermediate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPki:
    """What a control plane issues with."""

    trust: str
    """PEM of every root trusted now."""
    issuer: Issuer
    root: str | None
    """Fingerprint of the root that signed the issuer; None if it is not among those trusted."""


def create(directory: Path, trust_domain: str, clusters: Sequence[str], now: datetime | None = None) -> str:
    """Make the root and the intermediates that are missing, below a deployment's mesh/; return the root's fingerprint.

    What is there already is kept, so it may be called again.
    """
    now = now or pki.utc_now()
    root = _read_root(directory, CURRENT)
    if root is None:
        root = pki.make_root(f"{trust_domain} root", now)
        _write_root(directory, CURRENT, root)
    for cluster in clusters:
        home = pki_directory(directory, cluster)
        if _read(home, INTERMEDIATE) is None:
            _write_issuer(home, INTERMEDIATE, pki.make_intermediate(root, cluster, now))
        if not (home / f"{TRUST}.pem").exists():
            _write(home / f"{TRUST}.pem", root.certificate)
    return pki.fingerprint(root.certificate)


def begin(directory: Path, trust_domain: str, clusters: Sequence[str], now: datetime | None = None) -> str:
    """Make a new root and let every cluster trust it beside the old one; return the new one's fingerprint."""
    old = _known(directory, CURRENT)
    new = _read_root(directory, NEXT)
    if new is None:
        new = pki.make_root(f"{trust_domain} root", now or pki.utc_now())
        _write_root(directory, NEXT, new)
    _trust(directory, clusters, old.certificate + new.certificate)
    return pki.fingerprint(new.certificate)


def issue(directory: Path, clusters: Sequence[str], now: datetime | None = None) -> None:
    """Give every cluster an intermediate of the new root. Raise ValueError before `begin`."""
    new = _known(directory, NEXT)
    for cluster in clusters:
        home = pki_directory(directory, cluster)
        known = _read(home, INTERMEDIATE)
        if known is None or pki.signed_by(known.certificate, new.certificate) is None:
            _write_issuer(home, INTERMEDIATE, pki.make_intermediate(new, cluster, now or pki.utc_now()))


def finish(directory: Path, clusters: Sequence[str]) -> str:
    """Let nobody trust the old root any more, and forget it; return the fingerprint of the one that is left.

    Raise ValueError if a cluster still issues by the old one.
    """
    new = _read_root(directory, NEXT) or _known(directory, CURRENT)
    for cluster in clusters:
        known = _read(pki_directory(directory, cluster), INTERMEDIATE)
        if known is None or pki.signed_by(known.certificate, new.certificate) is None:
            raise ValueError(
                f"cluster {cluster} has no intermediate of the new root yet: `issue` comes before `finish`"
            )
    _trust(directory, clusters, new.certificate)
    if (directory / ROOT / f"{NEXT}.pem").exists():
        os.replace(directory / ROOT / f"{NEXT}.pem", directory / ROOT / f"{CURRENT}.pem")
    return pki.fingerprint(new.certificate)


def pki_directory(directory: Path, cluster: str) -> Path:
    """Where a cluster's control plane finds what `read` reads."""
    return directory / cluster / "pki"


def read(home: Path) -> ClusterPki:
    """What a cluster issues with now, of its `pki_directory`.

    Raise ValueError if something is missing, or the files do not fit: they may be just being replaced, so try again.
    """
    issuer = _read(home, INTERMEDIATE)
    trust = _text(home / f"{TRUST}.pem")
    if issuer is None or not trust:
        raise ValueError(f"{home} holds no intermediate with its key, or no roots")
    return ClusterPki(trust=trust, issuer=issuer, root=pki.signed_by(issuer.certificate, trust))


def _known(directory: Path, name: str) -> Issuer:
    found = _read_root(directory, name)
    if found is None:
        raise ValueError(f"{directory / ROOT} holds no {name} root with its key")
    return found


def _read_root(directory: Path, name: str) -> Issuer | None:
    certificate, begins, key = _text(directory / ROOT / f"{name}.pem").partition(KEY_BEGINS)
    return Issuer(certificate=certificate, key=begins + key) if key else None


def _write_root(directory: Path, name: str, root: Issuer) -> None:
    """In one file, so that no crash separates the two."""
    _write(directory / ROOT / f"{name}.pem", root.certificate + root.key)


def _read(home: Path, name: str) -> Issuer | None:
    """None as well for a certificate and a key that do not belong together."""
    issuer = Issuer(certificate=_text(home / f"{name}.pem"), key=_text(home / f"{name}.key"))
    if not issuer.certificate or not issuer.key or not pki.belong_together(issuer):
        return None
    return issuer


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def _trust(directory: Path, clusters: Sequence[str], roots: str) -> None:
    for cluster in clusters:
        path = pki_directory(directory, cluster) / f"{TRUST}.pem"
        if _text(path) != roots:
            _write(path, roots)


def _write_issuer(home: Path, name: str, issuer: Issuer) -> None:
    _write(home / f"{name}.key", issuer.key)
    _write(home / f"{name}.pem", issuer.certificate)


def _write(path: Path, text: str) -> None:
    """Replace a file that nobody else may read, at no moment: its scratch file is 0600 from its birth."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for home in (path.parent, path.parent.parent):
        home.chmod(0o700)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    os.replace(scratch, path)
