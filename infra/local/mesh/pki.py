"""How is an identity proven? Certificates: a root, an intermediate per cluster, short-lived leaves. (in memory)

    root (of the deployment) -> intermediate (of a cluster) -> leaf (of a service; its URI name is the SPIFFE ID)

Everything is P-256 and text in PEM. Nobody but `infra.local.mesh.authority` ever holds a root's private key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER_TTL = timedelta(days=365)
"""Life of roots and intermediates; a deployment gets new ones, so it only has to be longer than that."""
SKEW = timedelta(seconds=60)
"""A certificate counts from this much before it was issued, for clocks that are behind."""
EXPIRED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A root or an intermediate: a certificate that may sign others, and its key."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a service proves its identity with."""

    identity: str
    chain: str
    """Its certificate, then the intermediate's."""
    key: str = field(repr=False)
    serial: str
    """Hexadecimal, as admin interfaces print it."""
    not_before: datetime
    not_after: datetime

    @property
    def half_life(self) -> datetime:
        """When the next one has to be issued."""
        return self.not_before + SKEW + (self.not_after - self.not_before - SKEW) / 2


def make_root(name: str, now: datetime) -> Issuer:
    """A new root that nobody trusts yet; two of the same name are two roots."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(name)
    return _issuer(subject, subject, key, key, now, path_length=1)


def make_intermediate(root: Issuer, cluster: str, now: datetime) -> Issuer:
    """What a cluster's control plane signs leaves with. It can sign nothing that signs."""
    parent = x509.load_pem_x509_certificate(root.certificate.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    return _issuer(_named(f"{cluster} intermediate"), parent.subject, key, _key(root), now, path_length=0)


def make_leaf(issuer: Issuer, identity: str, ttl_s: int, now: datetime) -> Leaf:
    """A certificate for an identity such as 'spiffe://shop/commerce/orders', for clients and servers."""
    return _leaf(issuer, identity, now - SKEW, now + timedelta(seconds=ttl_s))


def make_expired_leaf(issuer: Issuer, identity: str, now: datetime) -> Leaf:
    """A certificate that was good until an hour ago."""
    return _leaf(issuer, identity, now - 2 * EXPIRED_FOR, now - EXPIRED_FOR)


def make_foreign_leaf(identity: str, ttl_s: int, now: datetime) -> Leaf:
    """A certificate that claims an identity, under a root that nobody trusts."""
    return make_leaf(make_intermediate(make_root("elsewhere root", now), "elsewhere", now), identity, ttl_s, now)


def fingerprint(certificate: str) -> str:
    """SHA-256 of the first certificate of a PEM text, hexadecimal.

    Raise ValueError if there is none.
    """
    return x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256()).hex()


def fingerprints(bundle: str) -> tuple[str, ...]:
    """SHA-256 of every certificate of a PEM text, in its order."""
    return tuple(c.fingerprint(hashes.SHA256()).hex() for c in x509.load_pem_x509_certificates(bundle.encode()))


def signed_by(certificate: str, roots: str) -> str | None:
    """Fingerprint of the root, among those of a PEM text, that signed a certificate; None if none of them did."""
    child = x509.load_pem_x509_certificate(certificate.encode())
    for root in x509.load_pem_x509_certificates(roots.encode()):
        try:
            child.verify_directly_issued_by(root)
        except Exception:  # of three kinds, by what differs: name, type of key, signature
            continue
        return root.fingerprint(hashes.SHA256()).hex()
    return None


def belong_together(issuer: Issuer) -> bool:
    """Whether the key is the certificate's: two files may be read while they are being replaced."""
    certificate = x509.load_pem_x509_certificate(issuer.certificate.encode())
    return _key(issuer).public_key() == certificate.public_key()


def utc_now() -> datetime:
    """The wall clock, which certificates are about."""
    return datetime.now(UTC)


def _leaf(issuer: Issuer, identity: str, not_before: datetime, not_after: datetime) -> Leaf:
    parent = x509.load_pem_x509_certificate(issuer.certificate.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _certificate(x509.Name([]), parent.subject, key, not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # SPIFFE X509-SVID, 4.1 and 5: critical where the subject is empty; exactly one URI
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(_authority(parent), critical=False)
        .sign(_key(issuer), hashes.SHA256())
    )
    return Leaf(
        identity=identity,
        chain=_pem(certificate) + issuer.certificate,
        key=_key_pem(key),
        serial=f"{certificate.serial_number:x}",
        not_before=not_before,
        not_after=not_after,
    )


def _issuer(
    subject: x509.Name,
    signer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signing: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    path_length: int,
) -> Issuer:
    certificate = (
        _certificate(subject, signer, key, now - SKEW, now + ISSUER_TTL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .sign(signing, hashes.SHA256())
    )
    return Issuer(certificate=_pem(certificate), key=_key_pem(key))


def _certificate(
    subject: x509.Name,
    signer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _named(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "shop"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(parent: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    known = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _key(issuer: Issuer) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(issuer.key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "all keys here are P-256"
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
