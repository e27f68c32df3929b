"""Does a stage with a mesh become the resources it needs, and is every control plane told what it has to know?"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from infra.local import requests
from infra.local.context import Context
from infra.local.edges import Edges
from infra.local.errors import Invalid, NotFound
from infra.local.home import Home, read_json
from infra.local.inject_mesh import wires_between
from infra.local.namedports import NamedPorts
from infra.local.ports import SLICE, Ports
from infra.local.processes import ProcessId, Reaper, identify
from infra.local.record import record
from infra.local.render import render
from infra.local.render_messages import OwnBroker
from infra.local.resource import Ref, Resource, refs, resolve, value_of
from infra.local.state import (
    AuthoritySpec,
    Broker,
    BrokerSpec,
    Canary,
    Cluster,
    ClusterSpec,
    DeploymentState,
    Instance,
    Service,
    ServiceSpec,
    Wire,
    WireSpec,
    boot_id,
)
from infra.local.views import views
from stages.catalogue import ASYNC, MESH
from stages.deployment import Part
from stages.mesh import cluster_plan
from stages.model import Channel, Mesh, Operation, Stage, System
from stages.model import Cluster as ClusterModel
from stages.model import Service as ServiceModel
from workloads.settings import Peer, Settings

SMALL = Stage(
    name="mesh",
    title="",
    previous=None,
    change="",
    reason="",
    operations=(Operation(name="browse", summary="", entry="storefront", latency_slo_ms=500),),
    services=(
        ServiceModel(name="storefront", summary="", system="front", database=False),
        ServiceModel(name="orders", summary="", system="front", database=False),
        ServiceModel(name="inventory", summary="", system="back", database=False),
    ),
    channels=(
        Channel(caller="storefront", callee="orders", operations=("browse",), timeout_ms=200),
        Channel(caller="storefront", callee="inventory", operations=("browse",), timeout_ms=250, attempts=2),
    ),
    systems=(System(name="front", cluster="one"), System(name="back", cluster="two")),
    clusters=(ClusterModel(name="one", network="10.1.0.0/16"), ClusterModel(name="two", network="10.2.0.0/16")),
    mesh=Mesh(),
)


def _of(kind: str, name: str, **inputs: object) -> Resource:
    return Resource(kind=kind, name=name, inputs=inputs)


def _wire(name: str, caller: str, callee: str, **to: str) -> Resource:
    return _of("wire", name, caller=caller, callee=callee, **to)


def _cluster(name: str, network: str) -> Resource:
    preload = ["workloads.services", "infra.local.mesh.controlplane", "infra.local.mesh.registry"]
    return _of("cluster", name, network=network, preload=preload, nursery=True)


def _control(cluster: str) -> Resource:
    resource = _of(
        "service",
        f"{cluster}-control",
        cluster=cluster,
        module="infra.local.mesh.control",
        ready_path="/ready",
        role="control",
    )
    return replace(
        resource,
        args=(value_of("${deployment::directory}/mesh/" + cluster), "{port}"),
        env={"STAGES_MESH_PLAN": cluster_plan(SMALL, cluster).to_json()},
        after=frozenset({("authority", "authority"), ("wire", f"{cluster}-registry")}),
    )


def _envoy(cluster: str, name: str, **inputs: object) -> Resource:
    resource = _of("service", name, cluster=cluster, module="infra.local.mesh.envoy", ready_path="/ready", **inputs)
    return replace(
        resource,
        args=(value_of(f"${{deployment::directory}}/mesh/{cluster}/envoy/{name}"),),
        after=frozenset({("port", name), ("authority", "authority")}),
    )


def test_a_small_stage_with_a_mesh_renders_to_these_very_resources() -> None:
    storefronts = ["inbound", "ingress", "egress_orders", "egress_inventory"]
    assert [r for r in render(SMALL, run_id="r1") if r.kind != "service" or r.inputs.get("role")] == [
        _cluster("one", "10.1.0.0/16"),
        _cluster("two", "10.2.0.0/16"),
        _of("authority", "authority", trust_domain="shop", clusters=["one", "two"]),
        _of("registry", "registry"),
        _of("port", "storefront-sidecar", names=storefronts),
        _of("port", "orders-sidecar", names=["inbound"]),
        _of("port", "inventory-sidecar", names=["inbound"]),
        _of("port", "one-gateway", names=["mtls"]),
        _of("port", "two-gateway", names=["mtls"]),
        _wire("one-registry", "one-control", "registry"),
        _wire("two-registry", "two-control", "registry"),
        _wire("one-two-link", "one", "two", to="two-gateway", port="mtls"),
        _wire("two-one-link", "two", "one", to="one-gateway", port="mtls"),
        _control("one"),
        _envoy("one", "storefront-sidecar", role="sidecar", of="storefront", ports=storefronts),
        _envoy("one", "orders-sidecar", role="sidecar", of="orders", ports=["inbound"]),
        _envoy("one", "one-gateway", role="gateway", ports=["mtls"]),
        _control("two"),
        _envoy("two", "inventory-sidecar", role="sidecar", of="inventory", ports=["inbound"]),
        _envoy("two", "two-gateway", role="gateway", ports=["mtls"]),
        _wire("users-storefront", "users", "storefront", to="storefront-sidecar", port="ingress"),
        _wire("storefront-orders", "storefront", "orders", to="orders-sidecar", port="inbound"),
        _wire("storefront-inventory", "storefront", "inventory", to="two-gateway", port="mtls"),
    ]


def test_a_service_speaks_with_its_sidecar_only_and_leaves_attempts_to_it() -> None:
    outputs = {
        ("deployment", ""): {"directory": "/home/d"},
        ("port", "storefront-sidecar"): {
            "listen_egress_orders": "127.0.0.1:20001",
            "listen_egress_inventory": "127.0.0.1:20002",
        },
    }
    storefront = next(r for r in render(SMALL, run_id="r1") if (r.kind, r.name) == ("service", "storefront"))
    env = {key: resolve(value, outputs).replace("{port}", "21000") for key, value in storefront.env.items()}
    assert Settings.from_env(env).peers == {
        "orders": Peer(url="http://127.0.0.1:20001", timeout_ms=300, attempts=1, breaker=False),
        "inventory": Peer(url="http://127.0.0.1:20002", timeout_ms=700, attempts=1, breaker=False),
    }


def _talkers_references(broker: OwnBroker | None) -> set[tuple[str, str]]:
    orders = next(r for r in render(MESH, run_id="r", broker=broker) if (r.kind, r.name) == ("service", "orders"))
    return {(ref.kind, ref.attribute) for value in orders.env.values() for ref in refs(value)}


def test_the_broker_is_reached_through_the_sidecar_unless_it_wants_tls() -> None:
    assert ("port", "listen_broker") in _talkers_references(None)
    assert ("port", "listen_broker") in _talkers_references(OwnBroker(url="http://mq:9324"))
    assert ("port", "listen_broker") not in _talkers_references(OwnBroker(url="https://mq.example"))


def test_a_stage_without_a_mesh_has_nothing_of_it() -> None:
    resources = render(ASYNC, run_id="r")
    assert {"authority", "registry", "port"} & {r.kind for r in resources} == set()
    assert all({"role", "of", "ports"} & r.inputs.keys() == set() and not r.args for r in resources)
    assert all({"to", "port"} & r.inputs.keys() == set() for r in resources)


def test_nothing_is_missing_that_a_resource_needs() -> None:
    resources = render(MESH, run_id="r")
    there = {(r.kind, r.name) for r in resources}
    assert [(r.name, r.needs - there) for r in resources if r.needs - there] == []
    assert Ref("port", "storefront-sidecar", "listen_ingress").token == "${port:storefront-sidecar:listen_ingress}"


# views


def _here(port: int) -> Instance:
    return Instance(port, 0, identify(os.getpid()))


def _gone(port: int) -> Instance:
    return Instance(port, 0, ProcessId(2**22 - 1, 1))


def _sidecar(of: str, cluster: str, version: str = "v1") -> ServiceSpec:
    return ServiceSpec(cluster, "e", role="sidecar", of=of, version=version, ports=("inbound",))


STATE = DeploymentState(
    name="d",
    stage="mesh",
    run_id="r",
    boot=boot_id(),
    authority=AuthoritySpec("shop", ("one", "two")),
    clusters={"one": Cluster(ClusterSpec("10.1.0.0/16")), "two": Cluster(ClusterSpec("10.2.0.0/16"))},
    brokers={"broker": Broker(BrokerSpec(), 20100)},
    registries={"registry": Broker(BrokerSpec(), 20101)},
    ports={
        "front-sidecar": {"inbound": 20001},
        "back-sidecar": {"inbound": 20002},
        "back-canary-sidecar": {"inbound": 20003},
        "two-gateway": {"mtls": 20004},
    },
    services={
        "front": Service(ServiceSpec("one", "m"), _here(21000)),
        "front-sidecar": Service(_sidecar("front", "one"), None, _here(21001)),
        "one-control": Service(ServiceSpec("one", "c", role="control"), _here(21002)),
        "back": Service(ServiceSpec("two", "m"), _gone(21003)),
        "back-sidecar": Service(_sidecar("back", "two"), _gone(21004)),
        "back-canary": Service(ServiceSpec("two", "m", of="back", version="v2"), _here(21005)),
        "back-canary-sidecar": Service(_sidecar("back", "two", "v2"), _here(21006)),
        "two-gateway": Service(ServiceSpec("two", "e", role="gateway", ports=("mtls",)), _here(21007)),
    },
    wires={
        "users-front": Wire(WireSpec("users", "front", "front-sidecar", "ingress"), 22000),
        "front-back": Wire(WireSpec("front", "back", "two-gateway", "mtls"), 22001),
        "front-broker": Wire(WireSpec("front", "broker"), 22002),
        "one-registry": Wire(WireSpec("one-control", "registry"), 22003),
        "one-two-link": Wire(WireSpec("one", "two", "two-gateway", "mtls"), 22004),
    },
    canaries={"back": Canary(10, "none")},
    afflictions={"l1": {"kind": "certificate-expired", "service": "back"}},
)


def test_a_control_plane_is_told_of_its_cluster_and_of_every_share() -> None:
    assert views(STATE) == {
        "one": {
            "format": 1,
            "instances": {"front": {"v1": "127.0.0.1:21000"}},
            "sidecars": {"front": {"v1": "127.0.0.1:20001"}},
            "parts": {
                "front-sidecar": {
                    "role": "sidecar",
                    "of": "front",
                    "version": "v1",
                    "ports": {"admin": 21001, "inbound": 20001},
                }
            },
            "routes": {"front-back": {"v1": "127.0.0.1:22001", "v2": "127.0.0.1:22001"}},
            "broker_routes": {"front": "127.0.0.1:22002"},
            "registry": "http://127.0.0.1:22003",
            "splits": {"back": {"v2": 10}},
            "variant": [],
            "afflictions": {},
        },
        "two": {
            "format": 1,
            "instances": {"back": {"v2": "127.0.0.1:21005"}},
            "sidecars": {"back": {"v1": "127.0.0.1:20002", "v2": "127.0.0.1:20003"}},
            "parts": {
                "back-sidecar": {
                    "role": "sidecar",
                    "of": "back",
                    "version": "v1",
                    "ports": {"admin": 21004, "inbound": 20002},
                },
                "back-canary-sidecar": {
                    "role": "sidecar",
                    "of": "back",
                    "version": "v2",
                    "ports": {"admin": 21006, "inbound": 20003},
                },
                "two-gateway": {"role": "gateway", "ports": {"admin": 21007, "mtls": 20004}},
            },
            "routes": {},
            "broker_routes": {},
            "registry": None,
            "splits": {"back": {"v2": 10}},
            "variant": [],
            "afflictions": {"l1": {"kind": "certificate-expired", "service": "back"}},
        },
    }


def test_a_deployment_without_identities_has_no_views() -> None:
    assert views(replace(STATE, authority=None)) == {}


def test_the_record_has_the_mesh_apart_from_the_shop(tmp_path: Path) -> None:
    seen = record(STATE, Home.at(tmp_path))
    assert list(seen.services) == ["front", "back"]
    assert list(seen.parts) == ["one-control", "back-sidecar", "back-canary", "back-canary-sidecar", "two-gateway"]
    assert seen.parts["two-gateway"] == Part(
        role="gateway",
        of=None,
        cluster="two",
        version="v1",
        admin="http://127.0.0.1:21007",
        pid=os.getpid(),
        log=str(Home.at(tmp_path).deployment("d") / "logs" / "two-gateway.log"),
        ports={"mtls": 20004},
    )


@pytest.mark.parametrize("other", ["two", "*"])
def test_a_partition_is_every_wire_and_link_between_two_clusters(other: str) -> None:
    assert wires_between(STATE, "one", other) == ["front-back", "one-two-link"]
    assert wires_between(STATE, "two", "one") == ["front-back", "one-two-link"]


# state and ports


def test_the_state_of_a_mesh_is_read_back_as_written(tmp_path: Path) -> None:
    STATE.write(tmp_path)
    assert DeploymentState.read(tmp_path) == STATE


def test_what_is_of_a_cluster_or_leads_into_it_has_a_port_of_its_range(tmp_path: Path) -> None:
    allowed = range(29000, 29000 + 6 * SLICE)
    context = _context(tmp_path, allowed)
    of = {
        "commerce": ["orders", "orders-sidecar", "orders-canary-sidecar", "commerce-gateway"],
        "fulfilment": ["inventory-sidecar", "fulfilment-gateway"],
    }
    ports = {cluster: [context.reserve(name) for name in names] for cluster, names in of.items()}
    assert context.state.ranges.keys() == of.keys()
    for cluster, (first, last) in context.state.ranges.items():
        assert all(first < port <= last for port in ports[cluster])
    shared = context.reserve("registry")
    assert not any(first <= shared <= last for first, last in context.state.ranges.values())
    again = Context(context.home, context.state, Ports(allowed), Reaper())
    assert context.state.ranges["commerce"][0] < again.reserve("accounts") <= context.state.ranges["commerce"][1]
    for port in allowed:
        context.ports.release(port)
        again.ports.release(port)


def test_a_wire_leads_where_it_should_although_its_callee_comes_while_it_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = _context(tmp_path)
    edges = Edges(context)
    heard: list[object] = []

    async def story() -> None:
        late = asyncio.Event()

        async def host(message: dict[str, object]) -> dict[str, object]:
            if message.get("endpoint") is None:
                await late.wait()
            heard.append(message.get("endpoint"))
            return {"wires": {}}

        monkeypatch.setattr(edges, "ask", host)
        put = asyncio.create_task(edges.put("a-broker", WireSpec("a", "broker")))
        await asyncio.sleep(0)
        context.state.brokers["broker"] = Broker(BrokerSpec(url="http://127.0.0.1:9"))
        await edges.point("broker")
        late.set()
        await put

    asyncio.run(story())
    assert heard[:3] == ["127.0.0.1:9", None, "127.0.0.1:9"], "whoever was heard last looked again"


def _context(tmp_path: Path, allowed: range = range(24100, 24140)) -> Context:
    home = Home.at(tmp_path)
    home.create()
    (home.deployment("d") / "mesh" / "one").mkdir(parents=True)
    state = DeploymentState(name="d", stage="mesh", run_id="r", boot=boot_id(), authority=AuthoritySpec("x", ("one",)))
    return Context(home, state, Ports(allowed), Reaper())


def test_named_ports_stay_the_same_and_differ_from_all_others(tmp_path: Path) -> None:
    context = _context(tmp_path)
    ports = NamedPorts(context)
    first = ports.put("a-sidecar", ["inbound", "egress_b"])
    other = ports.put("b-sidecar", ["inbound"])
    assert ports.put("a-sidecar", ["inbound", "egress_b"]) == first
    taken = {first["listen_inbound"], first["listen_egress_b"], other["listen_inbound"]}
    assert len(taken) == 3
    assert context.taken_ports() == {int(str(text).rpartition(":")[2]) for text in taken}
    for name in ("a-sidecar", "b-sidecar"):
        ports.delete(name)
    with pytest.raises(NotFound, match="there are no ports of 'a-sidecar'"):
        ports.get("a-sidecar")


def test_a_view_is_written_when_it_changes_and_left_alone_otherwise(tmp_path: Path) -> None:
    context = _context(tmp_path)
    path = context.directory / "mesh" / "one" / "view.json"
    context.save()
    first = path.stat()
    context.save()
    assert (path.stat().st_ino, path.stat().st_mode & 0o777) == (first.st_ino, 0o600)
    context.state.canaries["a"] = Canary(5, "none")
    context.save()
    seen = read_json(path)
    assert seen is not None
    assert seen["splits"] == {"a": {"v2": 5}}


@pytest.mark.parametrize(
    ("what", "raw", "problem"),
    [
        (requests.read_wire, {"caller": "a", "callee": "b", "to": "c"}, "to and port must be given together"),
        (requests.read_ports, {"names": ["In"]}, "port name 'In' may hold only lower-case letters"),
        (requests.read_authority, {"trust_domain": "x", "clusters": []}, "clusters is empty"),
        (requests.read_authority, {"trust_domain": "x", "clusters": ["../y"]}, "cluster name '../y' may hold only"),
        (requests.read_canary, {"share_percent": 5, "defect": "x"}, "defect is 'x', not one of none, slow, failing"),
        (requests.read_service, {"cluster": "c", "module": "m", "role": "king"}, "role is 'king'"),
        (requests.read_service, {"cluster": "c", "module": "m", "version": "v3"}, "version is 'v3'"),
        (requests.read_service, {"cluster": "c", "module": "m", "args": ["{port:in}"]}, "there is no port 'in'"),
    ],
)
def test_requests_of_a_mesh_are_refused_with_what_is_wrong(what: object, raw: object, problem: str) -> None:
    assert callable(what)
    with pytest.raises(Invalid, match=problem.replace("{", r"\{").replace("(", r"\(")):
        what(raw)
