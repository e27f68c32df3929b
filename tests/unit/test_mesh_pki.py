"""Certificates of a mesh, and how its root is replaced."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from infra.local.mesh import authority, pki

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = "spiffe://shop/commerce/orders"
CLUSTERS = ("commerce", "payments")


def accepted(leaf: pki.Leaf, roots: str, at: datetime = NOW) -> list[str]:
    """The names that a verifier finds in a certificate. Raise VerificationError for a bad one."""
    certificate, *chain = x509.load_pem_x509_certificates(leaf.chain.encode())
    store = Store(x509.load_pem_x509_certificates(roots.encode()))
    verified = PolicyBuilder().store(store).time(at).build_client_verifier().verify(certificate, chain)
    return [name.value for name in verified.subjects or ()]


def chain() -> tuple[pki.Issuer, pki.Issuer]:
    root = pki.make_root("shop root", NOW)
    return root, pki.make_intermediate(root, "commerce", NOW)


def test_a_leaf_leads_back_to_its_root_and_says_who_it_is() -> None:
    root, intermediate = chain()
    leaf = pki.make_leaf(intermediate, NAME, 600, NOW)
    assert accepted(leaf, root.certificate) == [NAME]
    assert (leaf.identity, leaf.not_after - NOW) == (NAME, timedelta(seconds=600))
    assert leaf.half_life == NOW + timedelta(seconds=300)
    certificate = x509.load_pem_x509_certificate(leaf.chain.encode())
    assert f"{certificate.serial_number:x}" == leaf.serial
    assert pki.signed_by(intermediate.certificate, root.certificate) == pki.fingerprint(root.certificate)


def test_what_must_not_be_trusted_is_not() -> None:
    root, intermediate = chain()
    for leaf in (pki.make_expired_leaf(intermediate, NAME, NOW), pki.make_foreign_leaf(NAME, 600, NOW)):
        with pytest.raises(VerificationError):
            accepted(leaf, root.certificate)
    good = pki.make_leaf(intermediate, NAME, 600, NOW)
    with pytest.raises(VerificationError):
        accepted(good, root.certificate, NOW + timedelta(seconds=601))
    twin = pki.make_root("shop root", NOW)
    assert pki.signed_by(intermediate.certificate, twin.certificate) is None


def test_an_intermediate_cannot_make_another_one() -> None:
    root, intermediate = chain()
    second = pki.make_intermediate(intermediate, "payments", NOW)
    leaf = pki.make_leaf(second, NAME, 600, NOW)
    with pytest.raises(VerificationError):
        accepted(pki.Leaf(**{**_fields(leaf), "chain": leaf.chain + intermediate.certificate}), root.certificate)


def test_no_key_is_shown_by_accident() -> None:
    root, intermediate = chain()
    assert "PRIVATE" not in repr((root, intermediate, pki.make_leaf(intermediate, NAME, 600, NOW)))


def test_files_of_the_authority_are_ours_alone_and_stay_when_it_is_made_again(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh"
    made = authority.create(mesh, "shop", CLUSTERS, NOW)
    before = {path: path.read_bytes() for path in mesh.rglob("*") if path.is_file()}
    assert {str(path.relative_to(mesh)) for path in before} == {
        "root/current.pem",
        *(f"{c}/pki/{f}" for c in CLUSTERS for f in ("trust.pem", "intermediate.pem", "intermediate.key")),
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in before}
    homes = {stat.S_IMODE(path.stat().st_mode) for path in (mesh, *mesh.rglob("*")) if path.is_dir()}
    assert (modes, homes) == ({0o600}, {0o700})
    assert authority.create(mesh, "shop", CLUSTERS, NOW) == made
    assert {path: path.read_bytes() for path in before} == before


def test_a_root_is_replaced_in_steps_that_can_be_repeated(tmp_path: Path) -> None:
    old = authority.create(tmp_path, "shop", CLUSTERS, NOW)

    def seen() -> set[tuple[tuple[str, ...], str | None]]:
        found = (authority.read(authority.pki_directory(tmp_path, c)) for c in CLUSTERS)
        return {(pki.fingerprints(p.trust), p.root) for p in found}

    with pytest.raises(ValueError, match="holds no next root"):
        authority.issue(tmp_path, CLUSTERS, NOW)
    new = authority.begin(tmp_path, "shop", CLUSTERS, NOW)
    assert (authority.begin(tmp_path, "shop", CLUSTERS, NOW), seen()) == (new, {((old, new), old)})
    with pytest.raises(ValueError, match="`issue` comes before `finish`"):
        authority.finish(tmp_path, CLUSTERS)
    for _ in range(2):
        authority.issue(tmp_path, CLUSTERS, NOW)
    assert seen() == {((old, new), new)}
    assert [authority.finish(tmp_path, CLUSTERS) for _ in range(2)] == [new, new]
    assert seen() == {((new,), new)}
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["current.pem"]


def test_half_a_replacement_is_not_read(tmp_path: Path) -> None:
    authority.create(tmp_path, "shop", CLUSTERS, NOW)
    home, other = (authority.pki_directory(tmp_path, c) for c in CLUSTERS)
    (home / "intermediate.key").write_text((other / "intermediate.key").read_text())
    with pytest.raises(ValueError, match="no intermediate with its key"):
        authority.read(home)


def _fields(leaf: pki.Leaf) -> dict[str, object]:
    return {name: getattr(leaf, name) for name in pki.Leaf.__dataclass_fields__}
