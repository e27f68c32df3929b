"""Which certificates have to be issued now, by whom, and which are good for longer? (no files are written here)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from infra.local.mesh import pki
from infra.local.mesh.authority import read
from stages.mesh import ClusterPlan

CERTIFICATE_EXPIRED = "certificate-expired"
"""Affliction: a service is given a certificate that was good once."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What a cluster may sign with now, and whom it trusts."""

    issuer: pki.Issuer
    trust: str
    """Every root that is trusted, PEM."""
    root: str
    """Fingerprint of the one among them that signed the intermediate."""
    trusted: tuple[str, ...]
    """Fingerprints of all of them."""


def authority_in(directory: Path) -> Authority:
    """What pki/ says. Raise ValueError if its files do not belong together, as for a moment while they are replaced."""
    found = read(directory)
    if found.root is None:
        raise ValueError("no root that is trusted has signed the intermediate")
    return Authority(found.issuer, found.trust, found.root, pki.fingerprints(found.trust))


def renewed(
    plan: ClusterPlan,
    leaves: Mapping[str, pki.Leaf],
    authority: Authority,
    expired: frozenset[str],
    now: datetime,
) -> dict[str, pki.Leaf]:
    """A leaf per service, those that are still good as they were. `expired`: services that must have a bad one."""
    found = {}
    for member in plan.members:
        leaf = leaves.get(member.service)
        bad = member.service in expired
        if leaf is None or leaf.identity != member.identity or due(leaf, authority, bad, now):
            issuer, identity = authority.issuer, member.identity
            leaf = (
                pki.make_expired_leaf(issuer, identity, now)
                if bad
                else pki.make_leaf(issuer, identity, plan.mesh.certificate_ttl_s, now)
            )
        found[member.service] = leaf
    return found


def due(leaf: pki.Leaf, authority: Authority, expired: bool, now: datetime) -> bool:
    """Whether a leaf has to be replaced: half its life is over, another issuer signs now, or it should be a bad one."""
    if not leaf.chain.endswith(authority.issuer.certificate):
        return True
    return leaf.not_after > now if expired else leaf.half_life <= now


def leaf_of(chain: str, key: str) -> pki.Leaf:
    """A leaf as it was issued, from its two texts. Raise ValueError if they are not a leaf's."""
    certificate = x509.load_pem_x509_certificate(chain.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identities = names.get_values_for_type(x509.UniformResourceIdentifier)
    private = load_pem_private_key(key.encode(), password=None)
    if len(identities) != 1 or private.public_key() != certificate.public_key():
        raise ValueError("not one identity and its key")
    return pki.Leaf(
        identity=identities[0],
        chain=chain,
        key=key,
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )
