"""Are requests read exactly, with every problem at once, and does the state survive its file?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.local import requests
from infra.local.errors import CloudError, Conflict, Invalid, NotFound, Unavailable
from infra.local.faultspec import KINDS, Fault
from infra.local.home import Home, read_json, tail, write_atomically
from infra.local.ports import SLICE, Ports, port_range, slices
from infra.local.processes import ProcessId
from infra.local.state import (
    Broker,
    BrokerSpec,
    Cluster,
    ClusterSpec,
    DeploymentState,
    Instance,
    Lease,
    Queue,
    QueueSpec,
    Service,
    ServiceSpec,
    Subscription,
    SubscriptionSpec,
    Topic,
    TopicSpec,
    Wire,
    WireSpec,
    boot_id,
)
from infra.local.target import LocalTarget


def _state(boot: str) -> DeploymentState:
    return DeploymentState(
        name="d",
        stage="sync",
        run_id="r",
        variant="no-timeout",
        owner=ProcessId(7, 70),
        boot=boot,
        wire_host=ProcessId(8, 80),
        clusters={"c": Cluster(ClusterSpec("10.0.0.0/16", ("m",)), ProcessId(9, 90))},
        databases={"b": {"url": "sqlite:///x"}},
        brokers={
            "k": Broker(BrokerSpec(), 20000, ProcessId(12, 120)),
            "own": Broker(BrokerSpec("https://sqs.example", "eu-north-1", {"AWS_PROFILE": "p"})),
        },
        queues={"q.fifo": Queue(QueueSpec("k", 5, True, "q-dlq.fifo", 3), "http://x/q.fifo", "arn:q")},
        topics={"t.fifo": Topic(TopicSpec("k", True), "arn:t")},
        subscriptions={"t-to-q": Subscription(SubscriptionSpec("k", "t.fifo", "q.fifo", ("A", "B")), "arn:s")},
        wires={"w": Wire(WireSpec("users", "s"), 20001)},
        services={
            "s": Service(
                ServiceSpec("c", "m", ("a",), {"K": "v"}, "/r", "b"),
                Instance(20002, 10, ProcessId(10, 100)),
                Instance(20003),
                None,
                "was ended by SIGKILL",
            )
        },
        leases={
            "l": Lease(Fault("kill", "s"), 5.0, 100.0, "on", {"pids": [10]}, ProcessId(11, 110), "why"),
            "f": Lease(Fault("kill-in-flight", "s", {"delay_ms": 200}, "w"), 5.0, 100.0),
        },
    )


def test_state_survives_its_file(tmp_path: Path) -> None:
    state = _state(boot_id())
    state.write(tmp_path)
    assert DeploymentState.read(tmp_path) == state


def test_after_another_boot_no_process_is_believed_and_every_lease_is_over(tmp_path: Path) -> None:
    _state("another boot").write(tmp_path)
    state = DeploymentState.read(tmp_path)
    assert state is not None
    instance = state.services["s"].instance
    assert (state.wire_host, state.clusters["c"].host, instance and instance.process) == (None, None, None)
    assert state.brokers["k"].host is None
    assert state.leases["l"].expires_s == 0
    assert state.boot == boot_id()


def test_a_file_that_is_no_state_is_no_state(tmp_path: Path) -> None:
    assert DeploymentState.read(tmp_path) is None
    (tmp_path / "state.json").write_text("{")
    assert DeploymentState.read(tmp_path) is None
    (tmp_path / "state.json").write_text('{"format": 99}')
    assert DeploymentState.read(tmp_path) is None


FAULTS: list[dict[str, object]] = [
    {"kind": "kill", "service": "s"},
    {"kind": "pause", "service": "s"},
    {"kind": "cpu-starve", "service": "s", "share": 0.02, "period_ms": 500},
    {"kind": "latency", "wire": "w", "delay_ms": 50, "jitter_ms": 10, "seed": 3},
    {"kind": "blackhole", "wire": "w"},
    {"kind": "reset", "wire": "w"},
    {"kind": "refuse", "wire": "w"},
    {"kind": "bandwidth", "wire": "w", "bytes_per_s": 1000},
    {"kind": "cluster-outage", "cluster": "c"},
    {"kind": "cluster-freeze", "cluster": "c"},
    {"kind": "database-locked", "database": "d"},
    {"kind": "database-slow", "database": "d", "hold_ms": 100, "every_ms": 300},
    {"kind": "broker-outage", "broker": "b"},
    {"kind": "broker-slow", "broker": "b", "delay_ms": 1000},
    {"kind": "broker-throttle", "broker": "b", "share": 0.3},
    {"kind": "broker-duplicate", "broker": "b", "share": 0.5},
    {"kind": "broker-poison", "queue": "q.fifo", "count": 1},
    {"kind": "kill-in-flight", "service": "s", "wire": "w", "delay_ms": 200},
    {"kind": "partition", "cluster": "c", "from": "*"},
    {"kind": "registry-outage", "registry": "r"},
    {"kind": "garbage-discovery", "registry": "r"},
    {"kind": "certificate-expired", "service": "s"},
    {"kind": "garbage-config", "service": "s-sidecar"},
    {"kind": "root-rotation", "authority": "a"},
    {"kind": "canary", "service": "s", "share_percent": 10, "defect": "failing"},
]


@pytest.mark.parametrize("raw", FAULTS, ids=lambda raw: raw["kind"])
def test_fault_objects_round_trip(raw: dict[str, object]) -> None:
    assert Fault.from_json(raw).to_json() == raw


def test_every_kind_of_fault_has_an_undo_and_a_round_trip() -> None:
    assert {raw["kind"] for raw in FAULTS} == KINDS.keys()
    assert all(kind.undo for kind in KINDS.values())


def test_defaults_are_filled_in() -> None:
    assert Fault.from_json({"kind": "latency", "wire": "w", "delay_ms": 5}).numbers == {
        "delay_ms": 5,
        "jitter_ms": 0,
        "seed": 0,
    }


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        ("text", ["kind is 'text', known are"]),
        ({"kind": "meteor"}, ["kind is 'meteor', known are"]),
        ({"kind": "kill", "wire": "w"}, ["kill needs the name of a service", "kill knows no 'wire'"]),
        (
            {"kind": "cpu-starve", "service": "s", "share": 2, "period_ms": 1.5},
            ["share is 2", "period_ms is 1.5"],
        ),
        ({"kind": "bandwidth", "wire": "w", "bytes_per_s": True}, ["bytes_per_s is True"]),
        ({"kind": "latency", "wire": "w", "delay_ms": 1.5}, ["delay_ms is 1.5, must be a whole number"]),
        ({"kind": "latency", "wire": "w", "delay_ms": float("nan")}, ["delay_ms is nan"]),
        ({"kind": "database-slow", "database": "d", "hold_ms": 9, "every_ms": 9}, ["hold_ms is 9, must be below"]),
        ({"kind": "broker-throttle", "broker": "b", "share": 0}, ["share is 0, must be a number from 0.01 to 1"]),
        (
            {"kind": "kill-in-flight", "service": "s"},
            ["kill-in-flight needs the name of a wire as 'wire'", "delay_ms is None"],
        ),
        ({"kind": "partition", "cluster": "c"}, ["partition needs the name of a cluster as 'from'"]),
        ({"kind": "partition", "cluster": "c", "from": "c"}, ["partition needs two of a kind, not 'c' twice"]),
        (
            {"kind": "canary", "service": "s", "share_percent": 101, "defect": "ugly"},
            ["defect is 'ugly', must be one of none, slow, failing", "share_percent is 101"],
        ),
    ],
)
def test_malformed_faults_are_refused_with_every_problem(raw: object, problems: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        Fault.from_json(raw)
    assert len(caught.value.problems) == len(problems)
    assert all(seen.startswith(wanted) for seen, wanted in zip(caught.value.problems, problems, strict=True))


def test_a_deployment_request_lists_every_problem() -> None:
    with pytest.raises(Invalid) as caught:
        requests.read_deployment({"stage": 1, "run_id": "../x", "owner_pid": True, "more": 1})
    assert len(caught.value.problems) == 4


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(Invalid, match="the body must be a JSON object, not list"):
        requests.read_wire([])


def test_a_service_spec_is_read_with_its_defaults() -> None:
    assert requests.read_service({"cluster": "c", "module": "a.b"}) == ServiceSpec("c", "a.b")


def test_a_state_from_before_there_were_brokers_can_be_read(tmp_path: Path) -> None:
    old = json.loads(_state(boot_id()).to_json())
    for kind in ("brokers", "queues", "topics", "subscriptions"):
        del old[kind]
    for kind in ("nursery", "authority", "registries", "ports", "canaries", "afflictions"):
        del old[kind]
    (tmp_path / "state.json").write_text(json.dumps(old))
    state = DeploymentState.read(tmp_path)
    assert state is not None
    assert (state.brokers, state.queues, state.topics, state.subscriptions) == ({}, {}, {}, {})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://mq.example:9324", "mq.example:9324"),
        ("http://mq.example", "mq.example:80"),
        ("https://mq.example", None),
        ("aws", None),
    ],
)
def test_only_a_broker_without_tls_can_be_reached_through_a_wire(url: str, address: str | None) -> None:
    assert Broker(BrokerSpec(url)).address == address


@pytest.mark.parametrize("url", ["mq.example", "http://", "ftp://x", "http://x:y", "http://x/path", "http://x:0"])
def test_an_address_that_is_no_brokers_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="give http://host:port, https://host or 'aws'"):
        requests.read_broker({"url": url})


def test_the_body_of_a_queue_is_read_with_every_problem() -> None:
    assert requests.read_queue("q", {"broker": "b", "visibility_timeout_s": 5}) == QueueSpec("b", 5)
    with pytest.raises(Invalid) as caught:
        requests.read_queue(
            "q", {"visibility_timeout_s": 0, "fifo": True, "dead_letters": "d", "max_receives": 0, "colour": "red"}
        )
    assert caught.value.problems == (
        "broker is None, must be a text",
        "visibility_timeout_s is 0, must be a number from 1 to 43200",
        "max_receives is 0, must be a whole number from 1 to 1000, or null",
        "dead_letters is 'd', must be of the same type as the queue",
        "dead_letters and max_receives must be given together",
        "fifo is True, but the name is 'q'",
        "unknown field 'colour'",
    )


def test_a_fifo_queue_needs_a_fifo_topic() -> None:
    with pytest.raises(Invalid, match="can only be fed by a FIFO topic"):
        requests.read_subscription({"broker": "b", "topic": "t", "queue": "q.fifo"})
    assert requests.read_topic("t.fifo", {"broker": "b", "fifo": True}) == TopicSpec("b", True)


def test_a_machine_without_the_embedded_broker_needs_one_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = LocalTarget(tmp_path)
    before = target.problems({})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = "ministack, the embedded broker, is not installed: `make setup`, or set STAGES_BROKER_URL"
    assert set(target.problems({})) == {*before, missing}
    assert target.problems({"STAGES_BROKER_URL": "http://mq:9324"}) == before
    nonsense = target.problems({"STAGES_BROKER_URL": "mq"})
    assert set(nonsense) == {*before, "STAGES_BROKER_URL is 'mq'; give http://host:port, https://host or 'aws'"}


def test_an_environment_that_cannot_be_set_is_refused() -> None:
    with pytest.raises(Invalid, match="which an environment cannot hold"):
        requests.read_service({"cluster": "c", "module": "m", "env": {"A=B": "x"}})


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (422, Invalid), (500, Unavailable)])
def test_errors_keep_their_kind_over_http(status: int, kind: type[CloudError]) -> None:
    error = CloudError.of_status(status, "why", ["a", "b"])
    assert (type(error), str(error), error.problems, error.status) == (kind, "why", ("a", "b"), status)


def test_a_home_whose_socket_paths_would_be_too_long_is_refused_by_name(tmp_path: Path) -> None:
    home = Home.at(tmp_path / ("x" * 100))
    with pytest.raises(Invalid, match=r"STAGES_HOME .* is too long"):
        home.create()
    assert not home.path.exists()


def test_a_home_that_others_can_enter_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "open"
    path.mkdir(mode=0o755)
    Home.at(path).create()
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    with pytest.raises(Invalid, match="has mode 0755"):
        Home.at(path).create()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Invalid, match="is not a directory"):
        Home.at(tmp_path / "file").create()


def test_control_sockets_of_different_hosts_differ_and_are_found_by_their_deployment(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    home.create()
    mine = [home.control("a", "wires"), home.control("a", "cluster/c")]
    for path in (*mine, home.control("b", "wires")):
        path.touch()
    assert home.controls("a") == sorted(mine)


def test_an_atomic_write_leaves_no_scratch_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", '{"x": 1}')
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_tail_gives_the_last_lines_from_an_offset(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\none\ntwo\nthree\n")
    assert tail(tmp_path / "log", 2) == ["two", "three"]
    assert tail(tmp_path / "log", 9, offset=4) == ["one", "two", "three"]
    assert tail(tmp_path / "missing", 9) == []


@pytest.mark.parametrize("text", ["x", "1-2", "5000-4000", "20000", "20000-70000"])
def test_nonsense_as_port_range_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="STAGES_PORTS"):
        port_range({"STAGES_PORTS": text})


def test_two_holders_of_ports_never_get_the_same_one() -> None:
    one, two = Ports(range(24000, 24020)), Ports(range(24000, 24020))
    mine = {one.reserve() for _ in range(5)}
    theirs = {two.reserve() for _ in range(5)}
    assert mine & theirs == set()
    for port in mine:
        one.release(port)
    for port in theirs:
        two.release(port)


def test_ranges_of_clusters_leave_room_for_the_rest_and_do_not_overlap() -> None:
    assert slices(range(24000, 24000 + SLICE)) == []
    found = slices(range(20000, 21000))
    assert [(s[0], s[-1]) for s in found[:2]] == [(20872, 20999), (20744, 20871)]
    assert (len(found), {len(s) for s in found}) == (6, {SLICE})
    assert len({port for claimed in found for port in claimed}) == 6 * SLICE


def test_a_range_is_claimed_once_also_by_two_clouds_and_can_be_had_again() -> None:
    allowed = range(28000, 28000 + 3 * SLICE)
    one, two = Ports(allowed), Ports(allowed)
    first, second = one.claim(), two.claim()
    assert first is not None
    assert second is not None
    assert first != second
    assert one.claim() is None, "both are had, and the rest is for what is in no cluster"
    assert {one.reserve(within=first) for _ in range(5)} <= {*first[1:]}
    assert one.reserve() not in first
    two.give_back(second)
    assert one.claim() == second
    one.give_back(second)
    assert one.claim(second) == second, "the next daemon takes over what the last one had"
    for port in allowed:
        one.release(port)


def test_a_range_that_is_full_says_which_one() -> None:
    ports = Ports(range(28500, 28500 + 2 * SLICE))
    claimed = ports.claim()
    assert claimed is not None
    with pytest.raises(Unavailable, match=f"no free port between {claimed[0]} and {claimed[-1]} .* of one cluster"):
        ports.reserve(taken=claimed, within=claimed)
    ports.give_back(claimed)


def test_a_port_that_was_had_before_can_be_had_again_and_taken_ones_are_left() -> None:
    ports = Ports(range(24020, 24040))
    first = ports.reserve()
    ports.release(first)
    assert ports.hold(first)
    assert ports.reserve(taken=[first + 1]) > first + 1
    for port in range(24020, 24040):
        ports.release(port)
