"""Does a stage become exactly the resources it needs, as data?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.local.render import render
from infra.local.resource import Joined, Ref, Resource, refs, resolve
from stages.catalogue import STAGES
from stages.model import Channel, Cluster, Operation, Service, Stage, System
from workloads.settings import Peer, Settings

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

OUTPUTS = {
    ("deployment", ""): {"directory": "/home/d"},
    ("database", "inventory"): {"url": "sqlite:////home/d/databases/inventory.db"},
    ("wire", "storefront-inventory"): {"listen": "127.0.0.1:20001"},
}
"""What the local cloud says once the resources before the services are there."""


def _service(name: str, database: str | None) -> Resource:
    inputs = {
        "cluster": "one",
        "module": "workloads.services",
        "args": [name],
        "ready_path": "/ready",
        "database": database,
    }
    return Resource(kind="service", name=name, inputs=inputs)


def test_a_small_stage_renders_to_these_very_resources() -> None:
    assert tuple(replace(resource, env={}) for resource in render(SMALL, run_id="r1")) == (
        Resource(kind="cluster", name="one", inputs={"network": "10.0.0.0/16", "preload": ["workloads.services"]}),
        Resource(kind="database", name="inventory", inputs={}),
        Resource(kind="wire", name="users-storefront", inputs={"caller": "users", "callee": "storefront"}),
        Resource(kind="wire", name="storefront-inventory", inputs={"caller": "storefront", "callee": "inventory"}),
        _service("storefront", None),
        _service("inventory", "inventory"),
    )


def test_each_service_reads_these_very_settings_from_its_resolved_environment() -> None:
    services = [resource for resource in render(SMALL, run_id="r1") if resource.kind == "service"]
    read = [Settings.from_env(_resolved(service)) for service in services]
    assert read == [
        Settings(
            service="storefront",
            run_id="r1",
            listen="127.0.0.1:20002",
            peers={"inventory": Peer(url="http://127.0.0.1:20001", timeout_ms=250, attempts=2, breaker=True)},
            traces="/home/d/traces/storefront.jsonl",
        ),
        Settings(
            service="inventory",
            run_id="r1",
            listen="127.0.0.1:20002",
            database_url="sqlite:////home/d/databases/inventory.db",
            traces="/home/d/traces/inventory.jsonl",
        ),
    ]


def _resolved(resource: Resource) -> dict[str, str]:
    return {key: resolve(value, OUTPUTS).replace("{port}", "20002") for key, value in resource.env.items()}


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
