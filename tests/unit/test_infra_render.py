"""Does a stage become exactly the resources it needs, as data?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.local.render import render
from infra.local.render_messages import OwnBroker, own_broker, own_broker_problems
from infra.local.resource import Joined, Ref, Resource, refs, resolve
from stages.catalogue import STAGES
from stages.messaging import messaging, talkers
from stages.model import Channel, Cluster, Kind, Operation, Service, Stage, System
from workloads.settings import Broker, Inbound, Peer, Settings

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
        Resource(
            kind="cluster",
            name="one",
            inputs={"network": "10.0.0.0/16", "preload": ["workloads.services"], "nursery": True},
        ),
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


TALKING = replace(
    SMALL,
    name="async",
    services=(
        *SMALL.services,
        Service(name="orders", summary="", system="shop"),
        Service(name="cache", summary="", system="shop"),
    ),
    channels=(
        Channel(caller="orders", callee="inventory", kind=Kind.COMMAND, operations=(), messages=("ReserveStock",)),
        Channel(
            caller="orders",
            callee="cache",
            kind=Kind.EVENT,
            operations=(),
            messages=("OrderConfirmed", "OrderCancelled"),
        ),
    ),
)


def _queue(name: str, **inputs: object) -> Resource:
    fifo = name.endswith(".fifo")
    known = {"broker": "broker", "fifo": fifo, "visibility_timeout_s": 5, "dead_letters": None, "max_receives": None}
    return Resource(kind="queue", name=name, inputs={**known, **inputs})


def _of(kind: str, name: str, **inputs: object) -> Resource:
    return Resource(kind=kind, name=name, inputs=inputs)


MESSAGING = (
    _of("broker", "broker"),
    _queue("inventory-commands-dlq"),
    _queue("orders-replies-dlq"),
    _queue("cache-events-dlq.fifo"),
    _queue("inventory-commands", dead_letters="inventory-commands-dlq", max_receives=5),
    _queue("orders-replies", dead_letters="orders-replies-dlq", max_receives=5),
    _queue("cache-events.fifo", dead_letters="cache-events-dlq.fifo", max_receives=5),
    _of("topic", "orders-events.fifo", broker="broker", fifo=True),
    _of(
        "subscription",
        "orders-events-to-cache-events",
        broker="broker",
        topic="orders-events.fifo",
        queue="cache-events.fifo",
        messages=["OrderConfirmed", "OrderCancelled"],
    ),
)
BROKER_WIRES = tuple(
    _of("wire", f"{service}-broker", caller=service, callee="broker") for service in ("inventory", "orders", "cache")
)


def test_messages_add_these_very_resources() -> None:
    rendered = render(TALKING, run_id="r1")
    kinds = ("broker", "queue", "topic", "subscription")
    assert tuple(resource for resource in rendered if resource.kind in kinds) == MESSAGING
    assert tuple(r for r in rendered if r.kind == "wire" and r.inputs["callee"] == "broker") == BROKER_WIRES


AT_THE_BROKER: dict[tuple[str, str], dict[str, object]] = {
    **{("queue", q.name): {"url": f"http://b/1/{q.name}"} for q in MESSAGING if q.kind == "queue"},
    ("topic", "orders-events.fifo"): {"arn": "arn:orders-events.fifo"},
    **{("wire", w.name): {"listen": f"127.0.0.1:{n}"} for n, w in enumerate(BROKER_WIRES, start=21000)},
    **{("database", name): {"url": f"sqlite:////{name}.db"} for name in ("inventory", "orders", "cache")},
}


def _brokers(variant: str | None = None, own: OwnBroker | None = None) -> dict[str, Broker | None]:
    """What each service reads of its messages."""
    found = {}
    for resource in render(TALKING, run_id="r1", variant=variant, broker=own):
        if resource.kind == "service":
            outputs = {**OUTPUTS, **AT_THE_BROKER}
            env = {key: resolve(value, outputs).replace("{port}", "20002") for key, value in resource.env.items()}
            found[resource.name] = Settings.from_env(env).broker
    return found


def _inbound(name: str, visibility_timeout_s: int = 5) -> Inbound:
    dead = name.replace(".fifo", "-dlq.fifo") if name.endswith(".fifo") else f"{name}-dlq"
    return Inbound(
        url=f"http://b/1/{name}",
        dead_letters_url=f"http://b/1/{dead}",
        visibility_timeout_s=visibility_timeout_s,
        max_receives=5,
        fifo=name.endswith(".fifo"),
    )


def test_each_service_reads_these_very_settings_of_its_messages() -> None:
    assert _brokers() == {
        "storefront": None,
        "inventory": Broker(
            endpoint="http://127.0.0.1:21000",
            signed=False,
            inbound=_inbound("inventory-commands"),
            queues={"orders": "http://b/1/orders-replies"},
        ),
        "orders": Broker(
            endpoint="http://127.0.0.1:21001",
            signed=False,
            inbound=_inbound("orders-replies"),
            queues={"inventory": "http://b/1/inventory-commands"},
            topic="arn:orders-events.fifo",
        ),
        "cache": Broker(endpoint="http://127.0.0.1:21002", signed=False, inbound=_inbound("cache-events.fifo")),
    }


def test_every_talking_service_of_the_shop_has_a_wire_to_the_broker_and_a_queue_to_read() -> None:
    stage = STAGES["async"]
    rendered = render(stage, run_id="r1")
    wires = [r.name for r in rendered if r.kind == "wire" and r.inputs["callee"] == "broker"]
    assert wires == [f"{service}-broker" for service in talkers(stage)]
    needed = messaging(stage)
    names = {r.name for r in rendered if r.kind == "queue"}
    assert names == {name for queue in needed.queues for name in (queue.name, queue.dead_letters)}
    assert {r.name for r in rendered if r.kind == "subscription"} == {s.name for s in needed.subscriptions}


def test_credentials_of_the_embedded_broker_go_to_those_who_talk_and_to_nobody_else() -> None:
    services = {r.name: r.env for r in render(TALKING, run_id="r1") if r.kind == "service"}
    assert {name for name, env in services.items() if "AWS_ACCESS_KEY_ID" in env} == {"inventory", "orders", "cache"}
    assert services["orders"]["AWS_CONFIG_FILE"] == "/dev/null"
    assert not [r for r in render(STAGES["sync"], run_id="r1") if any(key.startswith("AWS_") for key in r.env)]


def test_short_visibility_is_the_queues_as_well_as_the_consumers() -> None:
    rendered = [r for r in render(TALKING, run_id="r1", variant="short-visibility") if r.kind == "queue"]
    assert {r.inputs["visibility_timeout_s"] for r in rendered} == {1}
    brokers = _brokers("short-visibility").values()
    assert {b.inbound.visibility_timeout_s for b in brokers if b and b.inbound} == {1}


def test_without_dead_letters_no_queue_has_a_redrive_policy() -> None:
    rendered = [r for r in render(TALKING, run_id="r1", variant="no-dlq") if r.kind == "queue"]
    assert {(r.inputs["dead_letters"], r.inputs["max_receives"]) for r in rendered} == {(None, None)}


@pytest.mark.parametrize(
    ("url", "endpoint", "wires"),
    [
        ("http://mq:9324", "http://127.0.0.1:21001", 3),
        ("https://mq.example", "https://mq.example", 0),
        ("aws", None, 0),
    ],
)
def test_a_users_own_broker_gets_wires_unless_tls_forbids_it(url: str, endpoint: str | None, wires: int) -> None:
    own = own_broker({"STAGES_BROKER_URL": url, "AWS_PROFILE": "p", "AWS_REGION": "eu-north-1", "HOME": "/h"})
    assert own == OwnBroker(url=url, region="eu-north-1", env={"AWS_PROFILE": "p", "AWS_REGION": "eu-north-1"})
    rendered = render(TALKING, run_id="r1", broker=own)
    assert [r.inputs for r in rendered if r.kind == "broker"] == [
        {"url": url, "region": "eu-north-1", "env": {"AWS_PROFILE": "p", "AWS_REGION": "eu-north-1"}}
    ]
    assert len([r for r in rendered if r.kind == "wire" and r.inputs["callee"] == "broker"]) == wires
    told = _brokers(own=own)["orders"]
    assert told is not None
    assert (told.endpoint, told.region) == (endpoint, "eu-north-1")
    env = next(r.env for r in rendered if r.name == "orders" and r.kind == "service")
    assert (env["AWS_PROFILE"], "AWS_CONFIG_FILE" in env) == ("p", False)


def test_nonsense_as_a_users_broker_is_a_problem() -> None:
    assert own_broker({}) is None
    assert own_broker_problems({}) == own_broker_problems({"STAGES_BROKER_URL": "aws"}) == []
    assert own_broker_problems({"STAGES_BROKER_URL": "mq:9324"}) == [
        "STAGES_BROKER_URL is 'mq:9324'; give http://host:port, https://host or 'aws'"
    ]


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


@pytest.mark.parametrize("stage", STAGES)
def test_no_reference_is_left_as_text(stage: str) -> None:
    for resource in render(STAGES[stage], run_id="r1"):
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
