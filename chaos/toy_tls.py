"""Toys that are greeted instead of asked: whoever listens at a sidecar or gateway shows a certificate, and no more.

Their one mode more is 'expired': the certificate has run out. `certificates` makes both kinds for a test.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chaos.toys import Toy

NAMES = 100
"""In each certificate, so that it is long enough to be watched trickling."""

RECORD_HEAD = 5
"""Bytes before each record of TLS; the last two say how long it is."""


class GreetingToy(Toy):
    """One listening address that speaks TLS, up to the end of its own greeting."""

    def __init__(self, shows: Mapping[str, ssl.SSLContext]) -> None:
        """`shows` is what `certificates` returned."""
        super().__init__()
        self._shows = shows

    async def _hear(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(RECORD_HEAD)
        return head + await reader.readexactly(int.from_bytes(head[3:]))

    def _say(self, heard: bytes) -> tuple[bytes, bytes]:
        ear, mouth = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self._shows["expired" if self.mode == "expired" else "valid"]
        tls = context.wrap_bio(ear, mouth, server_side=True)
        ear.write(heard)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return b"", mouth.read()
        raise AssertionError("the other side has not said a word about the certificate yet")


def certificates(directory: Path) -> dict[str, ssl.SSLContext]:
    """One that is valid and one that has run out; their files lie in `directory`, a private one."""
    now = datetime.now(UTC)
    ends = {"valid": now + timedelta(hours=1), "expired": now - timedelta(seconds=5)}
    return {kind: _context(directory / f"{kind}.pem", until) for kind, until in ends.items()}


def _context(path: Path, until: datetime) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "toy")])
    names = x509.SubjectAlternativeName([x509.DNSName(f"toy-{n}.example.org") for n in range(NAMES)])
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=1))
        .not_valid_after(until)
        .add_extension(names, critical=False)
        .sign(key, SHA256())
    )
    path.touch(mode=0o600)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
