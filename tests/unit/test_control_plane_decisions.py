"""What does a control plane decide: health, registration, belief, shares, certificates, files?"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.local.mesh import envoyconf as conf
from infra.local.mesh import pki
from infra.local.mesh.controlplane_discovery import Known, Rejected, believed, edge_to, endpoints, from_json, to_json
from infra.local.mesh.controlplane_files import Files
from infra.local.mesh.controlplane_health import Checked, followed, health
from infra.local.mesh.controlplane_leaves import Authority, authority_in, due, leaf_of, renewed
from infra.local.mesh.controlplane_registration import Deregister, Register, Report, Wanted, steps, wanted
from infra.local.mesh.controlplane_render import GARBAGE, Inputs, files_of, shares
from infra.local.mesh.controlplane_view import Affliction, Part, View
from infra.local.mesh.registry import HEALTHY, UNHEALTHY, Entry, Found, Named
from stages.catalogue import MESH
from stages.mesh import cluster_plan

COMMERCE = cluster_plan(MESH, "commerce")
FULFILMENT = cluster_plan(MESH, "fulfilment")
EDGE = edge_to(COMMERCE, "inventory")
V1, V2 = Named("inventory", "v1"), Named("inventory", "v2")
STABLE = Entry("127.0.0.1:20040", "v1", "fulfilment", "spiffe://shop/fulfilment/inventory")
CANARY = replace(STABLE, address="127.0.0.1:20041", version="v2")
BOTH = Found({"inventory-v1": STABLE, "inventory-v2": CANARY}, 7)
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PATHS = conf.Paths(directory="/d", traces="/t")


def view(**fields: object) -> View:
    return replace(View(), **fields)  # type: ignore[arg-type]


def test_a_view_is_read_as_it_is_written() -> None:
    text = json.dumps(
        {
            "format": 1,
            "instances": {"inventory": {"v1": "127.0.0.1:1"}},
            "sidecars": {"inventory": {"v1": "127.0.0.1:2"}},
            "parts": {
                "inventory-sidecar": {"role": "sidecar", "of": "inventory", "version": "v1", "ports": {"admin": 3}},
                "fulfilment-gateway": {"role": "gateway", "ports": {"admin": 4, "mtls": 5}},
            },
            "routes": {"storefront-inventory": {"v1": "127.0.0.1:6"}},
            "broker_routes": {"orders": "127.0.0.1:7"},
            "registry": "http://127.0.0.1:8",
            "splits": {"inventory": {"v2": 10}},
            "variant": ["mtls"],
            "afflictions": {"l1": {"kind": "certificate-expired", "service": "inventory"}},
        }
    )
    assert View.from_json(text) == View(
        instances={"inventory": {"v1": "127.0.0.1:1"}},
        sidecars={"inventory": {"v1": "127.0.0.1:2"}},
        parts={
            "inventory-sidecar": Part("sidecar", "inventory", "v1", {"admin": 3}),
            "fulfilment-gateway": Part("gateway", None, "v1", {"admin": 4, "mtls": 5}),
        },
        routes={"storefront-inventory": {"v1": "127.0.0.1:6"}},
        broker_routes={"orders": "127.0.0.1:7"},
        registry="http://127.0.0.1:8",
        splits={"inventory": {"v2": 10}},
        variant=frozenset({"mtls"}),
        afflictions={"l1": Affliction("certificate-expired", "inventory")},
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "instances": null}'])
def test_what_is_no_view_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"view|format|Expecting"):
        View.from_json(text)


def test_two_failures_in_a_row_make_unhealthy_and_one_success_healthy() -> None:
    seen = Checked("127.0.0.1:1")
    history = []
    for good in (False, False, True, False, True, False, False):
        seen = seen.after(good)
        history.append(seen.healthy)
    assert history == [None, False, True, True, True, True, False]


def test_a_dead_application_is_unhealthy_and_one_that_was_not_asked_yet_is_not_known() -> None:
    there = view(
        instances={"inventory": {"v1": "127.0.0.1:1"}},
        sidecars={"inventory": {"v1": "127.0.0.1:2", "v2": "127.0.0.1:3"}},
    )
    checks = followed({V1: Checked("127.0.0.1:9", healthy=True)}, there)
    assert health(checks, there) == {V1: None, V2: UNHEALTHY}, "at another address it is another process"
    assert health({V1: Checked("127.0.0.1:1", healthy=True)}, there) == {V1: HEALTHY, V2: UNHEALTHY}


def test_registration_says_only_what_differs() -> None:
    there = view(sidecars={"inventory": {"v2": CANARY.address, "v1": STABLE.address}})
    want = wanted(FULFILMENT, there, {V1: UNHEALTHY, V2: HEALTHY})
    assert want == {V1: Wanted(STABLE, UNHEALTHY), V2: Wanted(CANARY, HEALTHY)}
    assert list(want) == [V1, V2], "the stable version first"

    def said(*entries: tuple[str, Entry]) -> list[object]:
        return list(steps(FULFILMENT, want, {"inventory": Found(dict(entries), 1)}))

    down = replace(STABLE, health=UNHEALTHY)
    assert said() == [Register(V1, down), Register(V2, CANARY)]
    assert said(("inventory-v1", STABLE), ("inventory-v2", CANARY)) == [Report(V1, UNHEALTHY)]
    assert said(("inventory-v1", down), ("inventory-v2", CANARY)) == []
    moved = replace(CANARY, address="127.0.0.1:1")
    assert said(("inventory-v1", down), ("inventory-v2", moved)) == [Register(V2, CANARY)]
    stray = Deregister(Named("inventory", "v9"))
    assert said(("inventory-v1", down), ("inventory-v2", CANARY), ("inventory-v9", STABLE)) == [stray]


def test_nothing_is_said_or_taken_back_of_an_instance_whose_health_is_not_known() -> None:
    want = wanted(FULFILMENT, view(sidecars={"inventory": {"v1": STABLE.address}}), {V1: None})
    assert list(steps(FULFILMENT, want, {"inventory": Found({"inventory-v1": STABLE}, 1)})) == []
    assert list(steps(FULFILMENT, want, {"inventory": Found({}, 0)})) == []
    assert list(steps(FULFILMENT, want, {})) == []


def test_unhealthy_instances_are_believed() -> None:
    down = Found({"inventory-v1": replace(STABLE, health=UNHEALTHY)}, 8)
    assert believed(EDGE, down, Known(BOTH.entries, 7)).healthy == frozenset()


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Found({}, 1), "not there any more"),
        (Found({"inventory-v2": CANARY}, 1), "not there any more"),
        (Found({"inventory-v1": replace(STABLE, address="192.0.2.1:80")}, 1), "address"),
        (Found({"inventory-v1": replace(STABLE, address="127.0.0.1:70000")}, 1), "address"),
        (Found({"inventory-v1": replace(STABLE, address=":")}, 1), "address"),
        (Found({"inventory-v1": replace(STABLE, identity="spiffe://shop/payments/payments")}, 1), "foreign identity"),
        (Found({"inventory-v1": replace(STABLE, version="v3")}, 1), "unknown version"),
        (Found({"inventory-v1": replace(STABLE, version="v2")}, 1), "not its name's"),
        (Found({"inventory-v1": replace(STABLE, cluster="commerce")}, 1), "wrong cluster"),
        (Found({"inventory-v1": replace(STABLE, health="FINE")}, 1), "unknown health"),
    ],
)
def test_garbage_is_refused_with_the_reason(found: Found, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        believed(EDGE, found, Known({"inventory-v1": STABLE}, 7))


def test_a_callee_that_nobody_has_registered_yet_is_believed_to_be_nowhere() -> None:
    assert believed(EDGE, Found({}, 0), None) == Known({}, 0)


def test_a_canary_may_leave() -> None:
    assert believed(EDGE, Found({"inventory-v1": STABLE}, 8), Known(BOTH.entries, 7)).healthy == {"v1"}


def test_what_is_known_survives_on_disk_and_nonsense_there_does_not() -> None:
    known = {"inventory": Known(BOTH.entries, 7)}
    raw = json.loads(json.dumps(to_json(known)))
    assert from_json(COMMERCE, raw) == known
    raw["inventory"]["entries"]["inventory-v1"]["identity"] = "spiffe://elsewhere"
    assert from_json(COMMERCE, raw) == {}
    assert from_json(COMMERCE, {"inventory": 7, "orders": {"entries": {"x": {}}, "revision": 1}}) == {}


def test_calls_go_to_wires_of_versions_that_are_healthy() -> None:
    routes = {"storefront-inventory": {"v1": "127.0.0.1:1", "v2": "127.0.0.1:2"}}
    there = view(routes=routes, splits={"inventory": {"v2": 10}})
    storefront = COMMERCE.members[0]
    down = {"inventory-v1": replace(STABLE, health=UNHEALTHY), "inventory-v2": CANARY}
    assert endpoints(there, {}, EDGE) == {}
    assert endpoints(there, {"inventory": Known(BOTH.entries, 1)}, EDGE) == routes["storefront-inventory"]
    assert endpoints(there, {"inventory": Known(down, 1)}, EDGE) == {"v2": "127.0.0.1:2"}
    assert shares(there, {"inventory": Known(down, 1)}, storefront)["inventory"] == {"v2": 10}, "never more than asked"
    alone = Known({"inventory-v1": STABLE}, 1)
    assert shares(there, {"inventory": alone}, storefront)["inventory"] == {"v2": 0}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("pki")
    root = pki.make_root("root", NOW)
    issuer = pki.make_intermediate(root, "fulfilment", NOW)
    for name, text in (
        ("trust.pem", root.certificate),
        ("intermediate.pem", issuer.certificate),
        ("intermediate.key", issuer.key),
    ):
        (directory / name).write_text(text, "ascii")
    found = authority_in(directory)
    assert (found.issuer, found.root) == (issuer, pki.fingerprint(root.certificate))
    return found


def test_leaves_are_kept_until_half_of_their_life_is_over(authority: Authority) -> None:
    first = renewed(FULFILMENT, {}, authority, frozenset(), NOW)
    ttl = timedelta(seconds=FULFILMENT.mesh.certificate_ttl_s)
    assert {service: leaf.identity for service, leaf in first.items()} == {
        m.service: m.identity for m in FULFILMENT.members
    }
    assert renewed(FULFILMENT, first, authority, frozenset(), NOW + ttl * 0.49) == first
    later = renewed(FULFILMENT, first, authority, frozenset(), NOW + ttl * 0.51)
    assert all(later[service].serial != first[service].serial for service in first)


def test_a_new_issuer_and_an_affliction_and_its_end_make_leaves_due(authority: Authority) -> None:
    good = renewed(FULFILMENT, {}, authority, frozenset(), NOW)
    bad = renewed(FULFILMENT, good, authority, frozenset({"inventory"}), NOW)
    assert bad["inventory"].not_after < NOW
    assert bad["shipping"] is good["shipping"]
    assert renewed(FULFILMENT, bad, authority, frozenset({"inventory"}), NOW) == bad, "one bad leaf is enough"
    assert renewed(FULFILMENT, bad, authority, frozenset(), NOW)["inventory"].not_after > NOW
    root = pki.make_root("root", NOW)
    other = replace(authority, issuer=pki.make_intermediate(root, "fulfilment", NOW))
    assert due(good["inventory"], other, False, NOW)


def test_a_leaf_is_read_back_as_it_was_issued(authority: Authority) -> None:
    leaf = renewed(FULFILMENT, {}, authority, frozenset(), NOW)["inventory"]
    assert leaf_of(leaf.chain, leaf.key) == leaf
    with pytest.raises(ValueError, match="key"):
        leaf_of(leaf.chain, authority.issuer.key)


def test_files_that_do_not_belong_together_are_no_authority(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        authority_in(tmp_path)
    other = pki.make_root("other", NOW)
    for name, text in (
        ("trust.pem", authority.trust),
        ("intermediate.pem", authority.issuer.certificate),
        ("intermediate.key", other.key),
    ):
        (tmp_path / name).write_text(text, "ascii")
    with pytest.raises(ValueError, match="holds no"):
        authority_in(tmp_path)
    (tmp_path / "intermediate.key").write_text(authority.issuer.key, "ascii")
    (tmp_path / "trust.pem").write_text(other.certificate, "ascii")
    with pytest.raises(ValueError, match="no root"):
        authority_in(tmp_path)


def inputs(authority: Authority, **fields: object) -> Inputs:
    ports = {name: n for n, name in enumerate(("admin", *conf.port_names(FULFILMENT.members[0])), start=1)}
    parts = {
        "inventory-sidecar": Part("sidecar", "inventory", "v1", ports),
        "fulfilment-gateway": Part("gateway", None, "v1", {"admin": 11, "mtls": 12}),
    }
    there = view(
        parts=parts,
        instances={"inventory": {"v1": "127.0.0.1:20011"}},
        sidecars={"inventory": {"v1": "127.0.0.1:20040", "v2": "127.0.0.1:20041"}},
        **fields,
    )
    return Inputs(there, {}, renewed(FULFILMENT, {}, authority, frozenset(), NOW), authority.trust)


def test_the_bootstrap_is_written_last_and_the_secrets_first(authority: Authority) -> None:
    files = list(files_of(FULFILMENT, inputs(authority), "inventory-sidecar", PATHS))
    assert files[0].startswith("sds/")
    assert files[-1] == conf.BOOTSTRAP


def test_a_gateway_passes_on_to_both_versions_whoever_is_alive(authority: Authority) -> None:
    files = files_of(FULFILMENT, inputs(authority), "fulfilment-gateway", PATHS)
    assert {"20040", "20041"} <= set(re.findall(r"\d{5}", files["cds/clusters.json"]))
    assert [name for name in files if name.startswith("sds/")] == [], "it proves nothing, it has no key"


def test_garbage_replaces_what_is_watched_and_nothing_else(authority: Authority) -> None:
    good = files_of(FULFILMENT, inputs(authority), "inventory-sidecar", PATHS)
    fault = {"l1": Affliction("garbage-config", "inventory-sidecar")}
    bad = files_of(FULFILMENT, inputs(authority, afflictions=fault), "inventory-sidecar", PATHS)
    watched = {name for name in good if name.startswith(("cds/", "rds/"))}
    assert {name for name, text in bad.items() if text == GARBAGE} == watched
    assert bad[conf.BOOTSTRAP] == good[conf.BOOTSTRAP]


def test_files_are_replaced_only_where_they_differ(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.write({"a/b/x": "1", "a/y": "2"}) == ["a/b/x", "a/y"]
    stamp = (tmp_path / "a/y").stat().st_ino
    assert Files(tmp_path).write({"a/b/x": "3", "a/y": "2"}) == ["a/b/x"]
    assert (tmp_path / "a/y").stat().st_ino == stamp
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "a", tmp_path / "a/b")} == {"0o700"}
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "a/y", tmp_path / "a/b/x")} == {"0o600"}


def test_what_a_killed_writer_left_is_removed_and_so_are_parts_that_are_gone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write({"envoy/a/x": "1", "envoy/b/x": "1"})
    (tmp_path / "envoy/a/.new-7-x").write_text("half", "utf-8")
    files.tidy()
    files.keep("envoy", frozenset({"a"}))
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["envoy", "envoy/a", "envoy/a/x"]
    assert files.write({"envoy/b/x": "1"}) == ["envoy/b/x"], "it comes back with all of its files"
