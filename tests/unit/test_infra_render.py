"""Does a stage become exactly the resources it needs, as data?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.local.render import Joined, Ref, Resource, refs, render, resolve
from stages.catalogue import STAGES
from stages.model import Channel, Cluster, Operation, Service, Stage, System

SMALL = Stage(
    name="sync",
    title="",
    previous=None,
    change="",
    reason="",
    operations=(Operation(name="browse", summary="", entry="storefront", latency_slo_ms=500),),
    services=(
        Service(name="storefront", summary="", system="shop", database=False),
        Service(name="inventory", summary="", system="shop"),
    ),
    channels=(Channel(caller="storefront", callee="inventory", operations=("browse",), timeout_ms=250, attempts=2),),
    systems=(System(name="shop", cluster="one"),),
    clusters=(Cluster(name="one", network="10.0.0.0/16"),),
)

DIRECTORY = Ref("deployment", "", "directory")


def _env(service: str, peers: str | Joined, database: str | Ref, disabled: str = "") -> dict[str, object]:
    return {
        "SHOP_SERVICE": service,
        "SHOP_STAGE": "sync",
        "SHOP_RUN_ID": "r1",
        "SHOP_LISTEN": "127.0.0.1:{port}",
        "SHOP_DATABASE_URL": database,
        "SHOP_PEERS": peers,
        "SHOP_DISABLED": disabled,
        "SHOP_TRACES": Joined((DIRECTORY, f"/traces/{service}.jsonl")),
        "SHOP_MAX_IN_FLIGHT": "40",
        "SHOP_DRAIN_S": "1.0",
    }


def _service(name: str, database: str | None, env: dict[str, object]) -> Resource:
    inputs = {
        "cluster": "one",
        "module": "workloads.services",
        "args": [name],
        "ready_path": "/ready",
        "database": database,
    }
    return Resource(kind="service", name=name, inputs=inputs, env=env)  # type: ignore[arg-type]


def test_a_small_stage_renders_to_these_very_resources() -> None:
    peers = Joined(
        (
            '{"inventory": {"attempts": 2, "breaker": true, "timeout_ms": 250, "url": "http://',
            Ref("wire", "storefront-inventory", "listen"),
            '"}}',
        )
    )
    expected = (
        Resource(kind="cluster", name="one", inputs={"network": "10.0.0.0/16", "preload": ["workloads.services"]}),
        Resource(kind="database", name="inventory", inputs={}),
        Resource(kind="wire", name="users-storefront", inputs={"caller": "users", "callee": "storefront"}),
        Resource(kind="wire", name="storefront-inventory", inputs={"caller": "storefront", "callee": "inventory"}),
        _service("storefront", None, _env("storefront", peers, "")),
        _service("inventory", "inventory", _env("inventory", "{}", Ref("database", "inventory", "url"))),
    )
    rendered = render(SMALL, run_id="r1")
    for resource, wanted in zip(rendered, expected, strict=True):
        assert _comparable(resource) == _comparable(wanted)


def _comparable(resource: Resource) -> Resource:
    """The peers' keys come in the order of the record's fields: compare them as JSON does."""
    return replace(resource, env={key: _sorted(value) for key, value in sorted(resource.env.items())})


def _sorted(value: object) -> object:
    if not isinstance(value, Joined):
        return value
    tokens = "".join(part.token if isinstance(part, Ref) else part for part in value.parts)
    return json.dumps(json.loads(tokens), sort_keys=True) if tokens.startswith("{") else value


def test_a_variant_disables_its_word_in_every_service() -> None:
    disabled = {r.env["SHOP_DISABLED"] for r in render(SMALL, run_id="r1", variant="no-fallback") if r.env}
    assert disabled == {"fallback"}


def test_an_unknown_variant_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no-sense"):
        render(SMALL, run_id="r1", variant="no-sense")


def test_the_shop_has_a_wire_per_call_and_one_for_users() -> None:
    stage = STAGES["sync"]
    rendered = render(stage, run_id="r1")
    wires = [r.name for r in rendered if r.kind == "wire"]
    assert wires == ["users-storefront", *(channel.name for channel in stage.channels)]
    assert [r.name for r in rendered if r.kind == "service"] == [s.name for s in stage.services]


@pytest.mark.parametrize("stage", STAGES)
def test_every_resource_comes_after_what_it_needs(stage: str) -> None:
    seen: set[tuple[str, str]] = set()
    for resource in render(STAGES[stage], run_id="r1"):
        assert resource.needs <= seen, resource.name
        seen.add((resource.kind, resource.name))


def test_no_reference_is_left_as_text() -> None:
    for resource in render(STAGES["sync"], run_id="r1"):
        for value in resource.env.values():
            parts = value.parts if isinstance(value, Joined) else (value,)
            assert not any(isinstance(part, str) and "${" in part for part in parts), resource.name


def test_resolving_puts_outputs_in_the_place_of_references() -> None:
    value = Joined(("http://", Ref("wire", "a-b", "listen"), "/x"))
    outputs = {("wire", "a-b"): {"listen": "127.0.0.1:1"}}
    assert refs(value) == (Ref("wire", "a-b", "listen"),)
    assert resolve(value, outputs) == "http://127.0.0.1:1/x"
    assert resolve("plain", {}) == "plain"
    with pytest.raises(KeyError):
        resolve(value, {})
