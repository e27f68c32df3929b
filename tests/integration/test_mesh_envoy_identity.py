"""Who gets through a pair of real Envoys with a gateway between them, and who does not?"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.mesh import authority, envoy, pki
from infra.local.mesh.policyprobe import FORBIDDEN, HUNG_UP, UNTRUSTED, Door, knock, measure_at
from infra.local.mesh.testing import BRIEF, App, Envoy, Rig, app_of, ask
from infra.local.testing import until
from stages.catalogue import MESH
from stages.check import Credential, PolicyTry
from stages.mesh import identity, server_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(envoy.find_envoy() is None, reason="; ".join(envoy.problems())),
]

PROBLEM = "application/problem+json"


class Pair:
    """storefront -> its sidecar -> the gateway of fulfilment -> inventory's sidecar -> inventory"""

    def __init__(self, rig: Rig, disabled: tuple[str, ...] = ()) -> None:
        self.rig = rig
        self.inventory: App = rig.app()
        self.front: App = rig.app()
        self.callee = rig.sidecar("inventory", app_of(self.inventory), disabled=disabled)
        self.gateway = rig.gateway("fulfilment", {"inventory_v1": [self.callee.address("inbound")]})
        self.caller: Envoy = rig.sidecar(
            "storefront",
            {**app_of(self.front), "inventory_v1": [self.gateway.address("mtls")]},
            disabled=disabled,
        )
        rig.ready()

    @property
    def egress(self) -> int:
        return self.caller.ports["egress_inventory"]

    def doors(self) -> dict[tuple[str, str], Door]:
        """From the storefront through the gateway, from shipping straight."""
        there = {"server_name": server_name("inventory", "v1", "fulfilment"), "identity": identity(MESH, "inventory")}
        return {
            ("storefront", "inventory"): Door(host="127.0.0.1", port=self.gateway.ports["mtls"], **there),
            ("shipping", "inventory"): Door(host="127.0.0.1", port=self.callee.ports["inbound"], **there),
        }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Rig(tmp_path_factory.mktemp("pair"), BRIEF) as rig:
        yield Pair(rig)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, BRIEF) as rig:
        yield rig


def test_a_call_arrives_with_its_callers_identity_and_no_other(pair: Pair) -> None:
    pair.inventory.seen.clear()
    forged = {"x-forwarded-client-cert": "URI=spiffe://shop/commerce/orders", "idempotency-key": "k", "host": "me:1"}
    status, headers, _ = ask(pair.egress, "PUT", "/reservations/1?a=%2F", forged, b"{}")
    ((method, path, seen),) = pair.inventory.seen
    assert (status, headers["x-envoy-attempt-count"], method, path) == (200, "1", "PUT", "/reservations/1?a=%2F")
    assert (seen["host"], seen["idempotency-key"]) == ("me:1", "k")
    proof = dict(part.split("=", 1) for part in seen["x-forwarded-client-cert"].split(";"))
    assert (proof["By"], proof["URI"]) == (identity(MESH, "inventory"), identity(MESH, "storefront"))


def test_users_enter_without_identity_and_cannot_claim_one(pair: Pair) -> None:
    pair.front.seen.clear()
    forged = {"x-forwarded-client-cert": "URI=spiffe://shop/commerce/orders"}
    assert ask(pair.caller.ports["ingress"], "GET", "/catalogue", forged)[0] == 200
    ((_, _, seen),) = pair.front.seen
    assert "x-forwarded-client-cert" not in seen


def test_every_call_leaves_a_line_on_both_sides(pair: Pair) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert ask(pair.egress, "GET", "/stock/line", {"traceparent": trace})[0] == 200

    def lines(part: str) -> list[dict[str, object]]:
        return [line for line in pair.rig.lines(part) if line["path"] == "/stock/line"]

    until(lambda: lines("storefront-sidecar") and lines("inventory-sidecar"), "both lines are written")
    ((out,), (came,)) = lines("storefront-sidecar"), lines("inventory-sidecar")
    assert str(came["start"]) > str(out["start"]) > "1700000000.000000"
    for line in (out, came):
        assert line.pop("start")
        assert 0 <= line.pop("upstream_ms") <= line["duration_ms"] < 5000  # type: ignore[operator]
        assert line.pop("duration_us") // 1000 - line.pop("duration_ms") in {0, 1}  # type: ignore[operator]
    same = {"method": "GET", "path": "/stock/line", "status": 200, "flags": "-", "bytes": 2, "attempts": 1}
    assert out == {
        **same,
        "side": "out",
        "part": "storefront-sidecar",
        "edge": "storefront-inventory",
        "version": "v1",
        "gateway": "fulfilment-gateway",
        "traceparent": trace,
    }
    assert came == {
        **same,
        "side": "in",
        "part": "inventory-sidecar",
        "version": "v1",
        "peer": identity(MESH, "storefront"),
        "traceparent": trace,
    }


def test_only_the_right_identity_of_the_right_root_in_time_gets_through(pair: Pair) -> None:
    tries = measure_at(MESH, pair.rig.mesh, pair.doors())

    def tried(caller: str, credential: Credential, shown: str, answer: str) -> PolicyTry:
        return PolicyTry(
            caller=caller,
            callee="inventory",
            credential=credential,
            shown=shown,
            allowed=answer == "allowed",
            answer=answer,
        )

    assert tries == [
        tried("storefront", Credential.OWN, "storefront", "allowed"),
        tried("storefront", Credential.OTHER, "accounts", FORBIDDEN),
        tried("storefront", Credential.EXPIRED, "storefront", UNTRUSTED),
        tried("storefront", Credential.FOREIGN, "storefront", UNTRUSTED),
        tried("storefront", Credential.PLAINTEXT, "", HUNG_UP),
        tried("shipping", Credential.OWN, "shipping", FORBIDDEN),
        tried("shipping", Credential.OTHER, "accounts", FORBIDDEN),
        tried("shipping", Credential.EXPIRED, "shipping", UNTRUSTED),
        tried("shipping", Credential.FOREIGN, "shipping", UNTRUSTED),
        tried("shipping", Credential.PLAINTEXT, "", HUNG_UP),
    ]
    assert not (pair.rig.mesh / "probe").exists(), "no key stays behind"


def test_a_gateway_hangs_up_on_a_name_it_does_not_know(pair: Pair) -> None:
    name = f"listener.127.0.0.1_{pair.gateway.ports['mtls']}.no_filter_chain_match"
    before = pair.gateway.stat(name)
    with socket.create_connection(("127.0.0.1", pair.gateway.ports["mtls"]), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: v1.inventory.fulfilment.shop\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert plain.recv(100) == b""
    until(lambda: pair.gateway.stat(name) == before + 1, "the gateway counted it")


def test_a_refusal_is_a_problem_document(pair: Pair) -> None:
    """A sidecar that calls with another service's certificate."""
    pair.caller.write(pair.rig.secrets("storefront", pair.rig.leaf("shipping")))
    try:
        found = until(lambda: (a := ask(pair.egress))[0] == 403 and a, "the new certificate is used")
        assert found[1]["content-type"] == PROBLEM
        assert json.loads(found[2]) == {
            "type": "urn:shop:problem:not-allowed",
            "title": "The caller may not call this service",
            "status": 403,
            "detail": f"mesh: {identity(MESH, 'shipping')}",
            "definite": True,
        }
        assert pair.callee.stat("http.inbound.rbac.denied") > 0
    finally:
        pair.caller.write(pair.rig.secrets("storefront"))
    until(lambda: ask(pair.egress)[0] == 200, "the own certificate is back")


def _expired(rig: Rig) -> pki.Leaf:
    issuer = authority.read(authority.pki_directory(rig.mesh, "fulfilment")).issuer
    return pki.make_expired_leaf(issuer, identity(MESH, "inventory"), pki.utc_now())


def _foreign(rig: Rig) -> pki.Leaf:
    return pki.make_foreign_leaf(identity(MESH, "inventory"), 600, pki.utc_now())


@pytest.mark.parametrize(
    ("shown", "counter"),
    [
        (lambda rig: rig.leaf("shipping"), "fail_verify_san"),
        (_expired, "fail_verify_error"),
        (_foreign, "fail_verify_error"),
    ],
    ids=["another identity", "expired", "foreign root"],
)
def test_a_caller_refuses_a_callee_that_cannot_prove_itself(pair: Pair, shown: object, counter: str) -> None:
    name = f"cluster.inventory_v1.ssl.{counter}"
    before = pair.caller.stat(name)
    pair.callee.write(pair.rig.secrets("inventory", shown(pair.rig)))  # type: ignore[operator]
    try:
        status, headers, body = until(lambda: (a := ask(pair.egress))[0] != 200 and a, "a new connection is needed")
        assert (status, headers["content-type"]) == (503, PROBLEM)
        assert json.loads(body)["type"] == "urn:shop:problem:dependency-unavailable"
        assert pair.caller.stat(name) > before
    finally:
        pair.callee.write(pair.rig.secrets("inventory"))
    until(lambda: ask(pair.egress)[0] == 200, "the own certificate is back, the ejection over")


def test_without_policy_everybody_with_a_certificate_gets_through(rig: Rig) -> None:
    pair = Pair(rig, disabled=("policy",))
    seen = {(t.caller, t.credential): t.answer for t in measure_at(MESH, rig.mesh, pair.doors())}
    assert seen["shipping", "own"] == seen["storefront", "other"] == "allowed"
    assert seen["shipping", "foreign"] == UNTRUSTED


def test_permissive_sidecars_take_plaintext_too(rig: Rig) -> None:
    pair = Pair(rig, disabled=("mtls",))
    assert knock(pair.doors()["shipping", "inventory"], None) == "allowed"
    seen = {(t.caller, t.credential): t.answer for t in measure_at(MESH, rig.mesh, pair.doors())}
    assert (seen["storefront", "own"], seen["shipping", "own"]) == ("allowed", FORBIDDEN)
    assert ask(pair.egress)[0] == 200
