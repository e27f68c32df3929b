"""Every fault is sound data: it round-trips, has an undo, a row per target and an experiment that uses it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from chaoslib.experiment import ensure_experiment_is_valid

import chaos
from chaos import experiment
from chaos.catalogue import NOT_KILLED, QUICK_COUNT, fault_named, faults_of
from chaos.decidable import problems
from chaos.faults import (
    Bandwidth,
    Blackhole,
    ClusterFreeze,
    ClusterOutage,
    CpuStarve,
    DatabaseSlow,
    Fault,
    Kill,
    Latency,
    Pause,
)
from chaos.faults_broker import BrokerOutage, BrokerPoison, BrokerSlow, BrokerThrottle, KillInFlight
from chaos.faults_mesh import (
    Canary,
    CertificateExpired,
    GarbageConfig,
    GarbageDiscovery,
    Partition,
    RegistryOutage,
    RootRotation,
)
from chaos.parts import EVERYWHERE, links, parts
from chaos.spec import CLASSES, FaultError, from_spec
from chaos.support import SUPPORT, refusal
from stages.blast_radius import Impact
from stages.catalogue import ASYNC, MESH, STAGES, SYNC, VARIANTS
from stages.check import INVARIANTS
from stages.check.policy import NAME as POLICY
from stages.messaging import messaging
from stages.model import Mesh
from suite.signals_breakers import CHECK as BREAKERS

TIMEOUT_MS = SYNC.channel("orders-payments").timeout_ms or 0
SLO_MS = SYNC.operation("track-order").latency_slo_ms

ALL = [(stage, named) for stage in STAGES.values() for named in faults_of(stage)]
IDS = [f"{stage.name}:{named.name}" for stage, named in ALL]


@pytest.mark.parametrize(("stage", "named"), ALL, ids=IDS)
def test_every_fault_of_the_catalogue_round_trips_and_can_be_decided(stage, named) -> None:
    assert from_spec(json.loads(json.dumps(named.fault.spec()))) == named.fault
    assert problems(named.fault, stage) == []


def test_every_class_of_fault_says_how_it_is_undone() -> None:
    assert [cls.kind for cls in CLASSES.values() if "Undo: " not in (cls.__doc__ or "")] == []


def test_every_class_of_fault_is_used_by_the_catalogue() -> None:
    assert {named.fault.kind for _, named in ALL} == set(CLASSES)


def test_a_fault_of_messages_is_one_of_the_stages_that_send_some() -> None:
    for_messages = {named.name for named in faults_of(ASYNC)} - {named.name for named in faults_of(SYNC)}
    assert for_messages == {
        "broker-outage",
        "broker-slow",
        "broker-throttled",
        "broker-duplicates",
        "payments-poisoned",
        "payments-killed-deleting",
        "accounts-killed-publishing",
    }
    assert for_messages < {named.name for named in faults_of(MESH)}


def test_every_target_has_a_row_for_every_class() -> None:
    assert {target: set(row) for target, row in SUPPORT.items()} == {t: set(CLASSES) for t in ("local", "k8s", "aws")}
    assert [kind for kind in CLASSES if refusal("local", kind)] == []
    assert "does not support kill" in (refusal("aws", "kill") or "")
    assert "unknown target 'moon'" in (refusal("moon", "kill") or "")


def test_a_spec_that_is_wrong_in_several_ways_is_refused_with_all_of_them() -> None:
    with pytest.raises(FaultError) as caught:
        from_spec({"kind": "latency", "delay_ms": "much", "colour": "red"})
    assert caught.value.problems == [
        "latency: unknown field 'colour'",
        "latency: 'wire' is missing",
        "latency: delay_ms='much' must be of type int",
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "explode"}, "must be one of kill"),
        ("kill payments", "not a fault: 'kill payments'"),
        ({"kind": "latency", "wire": "a-b", "delay_ms": 5, "jitter_ms": 9}, "jitter_ms=9 is more than delay_ms=5"),
        ({"kind": "bandwidth", "wire": "a-b", "bytes_per_s": 0}, "bytes_per_s=0 must be at least 1"),
        ({"kind": "cpu-starve", "service": "a", "share": 1.5, "period_ms": 5}, "share=1.5 must lie between 0 and 1"),
        ({"kind": "database-slow", "database": "a", "hold_ms": 9, "every_ms": 9}, "hold_ms=9 must be less than"),
        ({"kind": "pause", "service": True}, "service=True must be of type str"),
        ({"kind": "broker-slow", "broker": "broker", "delay_ms": 0}, "delay_ms=0 must be at least 1"),
        ({"kind": "broker-throttle", "broker": "broker", "share": 0.0}, "share=0.0 must lie between 0 and 1"),
        ({"kind": "broker-duplicate", "broker": "broker", "share": 1}, "share=1 must lie between 0 and 1"),
        ({"kind": "broker-poison", "queue": "q", "count": 0}, "count=0 must be at least 1"),
        ({"kind": "kill-in-flight", "service": "a", "delay_ms": 5}, "'wire' is missing"),
        ({"kind": "partition", "cluster": "a", "from_": "b"}, "unknown field 'from_'"),
        ({"kind": "canary", "service": "a", "share_percent": 101}, "share_percent=101 must be at most 100"),
        ({"kind": "canary", "service": "a", "share_percent": 0}, "share_percent=0 must be at least 1"),
        (
            {"kind": "canary", "service": "a", "share_percent": 5, "defect": "ugly"},
            "defect='ugly' must be one of failing, slow, none",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(spec, said) -> None:
    with pytest.raises(FaultError, match=said.replace("(", r"\(")):
        from_spec(spec)


@pytest.mark.parametrize(
    ("name", "impact"),
    [
        ("payments-killed", Impact(down=frozenset({"payments"}), crashed=frozenset({"payments"}))),
        ("payments-paused", Impact(down=frozenset({"payments"}))),
        ("orders-email-reset", Impact(cut=frozenset({"orders-email"}))),
        ("storefront-analytics-latency", Impact(delay_ms={"storefront-analytics": 20})),
        ("storefront-inventory-bandwidth", Impact(delay_ms={"storefront-inventory": 1700})),
        ("payments-database-locked", Impact(down=frozenset({"payments"}))),
        ("inventory-database-slow", Impact(delay_ms={"storefront-inventory": 60, "orders-inventory": 60})),
    ],
)
def test_a_fault_tells_the_model_what_it_does(name, impact) -> None:
    assert fault_named(SYNC, name).fault.impact(SYNC) == impact


@pytest.mark.parametrize(
    ("name", "impact"),
    [
        ("broker-outage", Impact(down=frozenset({"broker"}))),
        ("broker-slow", Impact(delay_ms={c.name: 3000 for c in ASYNC.channels if "broker" in c.via})),
        ("broker-throttled", Impact()),
        ("broker-duplicates", Impact()),
        ("payments-poisoned", Impact(poisoned=frozenset({"payments-commands"}))),
        ("payments-killed-deleting", Impact(down=frozenset({"payments"}), crashed=frozenset({"payments"}))),
        ("accounts-killed-publishing", Impact(down=frozenset({"accounts"}), crashed=frozenset({"accounts"}))),
    ],
)
def test_a_fault_of_messages_tells_the_model_what_it_does(name, impact) -> None:
    assert fault_named(ASYNC, name).fault.impact(ASYNC) == impact


def test_a_wire_to_the_broker_carries_all_messages_of_its_service() -> None:
    mine = {"orders-payments"}
    assert Blackhole(wire="payments-broker").impact(ASYNC) == Impact(cut=frozenset(mine))
    assert Latency(wire="payments-broker", delay_ms=10).impact(ASYNC) == Impact(delay_ms=dict.fromkeys(mine, 20))
    theirs = {c.name for c in ASYNC.channels if "orders" in (c.caller, c.callee) and c.kind != "call"}
    assert Blackhole(wire="orders-broker").impact(ASYNC).cut == theirs
    assert len(theirs) == 6


@pytest.mark.parametrize(
    ("fault", "spec"),
    [
        (Partition(cluster="a", from_="b"), {"kind": "partition", "cluster": "a", "from": "b"}),
        (Partition(cluster="a"), {"kind": "partition", "cluster": "a", "from": "*"}),
        (RegistryOutage(registry="registry"), {"kind": "registry-outage", "registry": "registry"}),
        (GarbageDiscovery(registry="registry"), {"kind": "garbage-discovery", "registry": "registry"}),
        (ClusterFreeze(cluster="payments"), {"kind": "cluster-freeze", "cluster": "payments"}),
        (CertificateExpired(service="inventory"), {"kind": "certificate-expired", "service": "inventory"}),
        (GarbageConfig(service="orders-sidecar"), {"kind": "garbage-config", "service": "orders-sidecar"}),
        (RootRotation(authority="authority"), {"kind": "root-rotation", "authority": "authority"}),
        (
            Canary(service="inventory", share_percent=10),
            {"kind": "canary", "service": "inventory", "share_percent": 10, "defect": "failing"},
        ),
    ],
)
def test_a_fault_of_the_mesh_is_asked_for_in_these_words(fault, spec) -> None:
    assert fault.spec() == spec
    assert from_spec(spec) == fault


TO_INVENTORY = frozenset({"storefront-inventory", "orders-inventory"})


@pytest.mark.parametrize(
    ("fault", "impact"),
    [
        (Kill(service="fulfilment-gateway"), Impact(down=frozenset({"fulfilment-gateway"}))),
        (Kill(service="inventory-sidecar"), Impact(cut=TO_INVENTORY)),
        (Pause(service="inventory-sidecar"), Impact(cut=TO_INVENTORY)),
        (Pause(service="fulfilment-control"), Impact(down=frozenset({"fulfilment-control"}))),
        (CertificateExpired(service="inventory"), Impact(cut=frozenset({"storefront-inventory"}))),
        (Partition(cluster="commerce", from_="payments"), Impact()),
        (Partition(cluster="fulfilment"), Impact(cut=frozenset({"storefront-inventory"}))),
        (
            Partition(cluster="commerce"),
            Impact(cut=frozenset({"storefront-inventory", "storefront-cache", "storefront-analytics"})),
        ),
        (RegistryOutage(registry="registry"), Impact(down=frozenset({"registry"}))),
        (GarbageDiscovery(registry="registry"), Impact()),
        (ClusterFreeze(cluster="fulfilment"), Impact(down=frozenset({"inventory", "shipping"}))),
        (GarbageConfig(service="storefront-sidecar"), Impact()),
        (RootRotation(authority="authority"), Impact()),
        (Canary(service="inventory", share_percent=50), Impact(cut=frozenset({"storefront-inventory"}))),
        (
            Canary(service="inventory", share_percent=50, defect="slow"),
            Impact(delay_ms={"storefront-inventory": 600}),
        ),
        (Canary(service="inventory", share_percent=50, defect="none"), Impact()),
    ],
    ids=lambda given: None if isinstance(given, Impact) else str(given),
)
def test_a_fault_of_the_mesh_tells_the_model_what_it_does(fault, impact) -> None:
    assert fault.impact(MESH) == impact


def test_the_storefronts_sidecar_takes_the_users_with_it() -> None:
    cut = Kill(service="storefront-sidecar").impact(MESH).cut
    assert cut == {"users-storefront", *(c.name for c in MESH.channels if c.caller == "storefront")}


def test_two_clusters_are_parted_in_both_directions_and_nothing_else_is() -> None:
    both = Partition(cluster="fulfilment", from_="commerce")
    assert both.touches(MESH) == {"storefront-inventory", "commerce-fulfilment-link", "fulfilment-commerce-link"}
    assert len([link for link in Partition(cluster="payments").touches(MESH) if link in links(MESH)]) == 6


def test_every_two_clusters_are_parted_once_and_each_from_all_others() -> None:
    parted = [f for named in faults_of(MESH) if isinstance(f := named.fault, Partition)]
    pairs = [{f.cluster, f.from_} for f in parted if f.from_ != EVERYWHERE]
    names = [c.name for c in MESH.clusters]
    assert [f.cluster for f in parted if f.from_ == EVERYWHERE] == names
    assert sorted(map(sorted, pairs)) == sorted(sorted((a, b)) for n, a in enumerate(names) for b in names[n + 1 :])


@pytest.mark.parametrize("fault", [ClusterOutage(cluster="payments"), ClusterFreeze(cluster="payments")], ids=str)
def test_what_befalls_a_cluster_befalls_its_sidecars_gateway_and_control_plane_too(fault) -> None:
    assert fault.touches(MESH) == {
        "payments",
        "payments-sidecar",
        "payments-gateway",
        "payments-control",
    }


@pytest.mark.parametrize("stage", [SYNC, ASYNC], ids=lambda s: s.name)
def test_without_a_mesh_there_is_none_of_its_parts_and_faults(stage) -> None:
    assert dict(parts(stage)) == dict(links(stage)) == {}
    of_mesh = (Partition, RegistryOutage, GarbageDiscovery, CertificateExpired, GarbageConfig, RootRotation, Canary)
    assert [named.name for named in faults_of(stage) if isinstance(named.fault, of_mesh)] == []
    for fault in (Kill(service="payments-sidecar"), RegistryOutage(registry="registry")):
        assert f"stage {stage.name!r} has no {fault.target.split()[0]}" in problems(fault, stage)[0]


def test_the_loss_of_a_cluster_kills_what_lives_there() -> None:
    impact = fault_named(MESH, "fulfilment-cluster-outage").fault.impact(MESH)
    assert impact == Impact(down=frozenset({"inventory", "shipping"}), crashed=frozenset({"inventory", "shipping"}))


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda s: s.name)
def test_every_cluster_is_lost_once_and_frozen_once_and_every_service_killed_but_the_few_with_a_reason(stage) -> None:
    faults = [named.fault for named in faults_of(stage)]
    lost = {f.cluster for f in faults if f.kind == "cluster-outage"}
    frozen = {f.cluster for f in faults if f.kind == "cluster-freeze"}
    killed = {f.service for f in faults if f.kind == "kill"} - {*parts(stage)}
    assert lost == frozen == {c.name for c in stage.clusters}
    assert killed | set(NOT_KILLED) == {s.name for s in stage.services}


def test_a_stage_that_sends_messages_has_no_wire_to_break_between_orders_and_payments() -> None:
    assert "orders-payments-latency" not in {named.name for named in faults_of(ASYNC)}


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda s: s.name)
def test_a_quick_run_takes_four_faults_of_several_classes(stage) -> None:
    quick = [named for named in faults_of(stage) if named.quick]
    assert len(quick) == QUICK_COUNT
    assert len({named.fault.kind for named in quick}) > 1


@pytest.mark.parametrize(
    ("stage", "own"),
    [(SYNC, "orders-payments-latency"), (ASYNC, "broker-outage"), (MESH, "fulfilment-cluster-outage")],
    ids=lambda s: getattr(s, "name", s),
)
def test_a_quick_run_shows_two_deaths_and_what_is_the_stages_own(stage, own) -> None:
    quick = {named.name for named in faults_of(stage) if named.quick}
    assert quick == {"payments-killed", "email-killed", own}


def test_every_variant_is_exposed_by_a_fault_of_the_catalogue() -> None:
    for variant in VARIANTS.values():
        assert variant.exposed_by in {named.name for named in faults_of(STAGES[variant.stage])}, variant.name


def test_every_variant_breaks_a_check_or_a_cell_of_the_fault_that_exposes_it() -> None:
    checks = {*INVARIANTS, POLICY, BREAKERS}
    for variant in VARIANTS.values():
        fault, _, operation = variant.breaks.partition(" x ")
        known = {o.name for o in STAGES[variant.stage].operations}
        is_cell = fault == variant.exposed_by and operation in known
        assert is_cell or variant.breaks in checks, variant.name


def test_an_unknown_fault_is_answered_with_what_there_is() -> None:
    with pytest.raises(KeyError, match="stage 'sync' has no fault 'payments-exploded'; it has accounts-killed, "):
        fault_named(SYNC, "payments-exploded")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Kill(service="payment"), "stage 'sync' has no service 'payment'"),
        (Latency(wire="orders-payments", delay_ms=TIMEOUT_MS // 2), f"too close to its timeout_ms={TIMEOUT_MS}"),
        (Latency(wire="orders-payments", delay_ms=2 * TIMEOUT_MS, jitter_ms=2 * TIMEOUT_MS - 1), "adds 2 to "),
        (Latency(wire="storefront-orders", delay_ms=SLO_MS // 2), f"too close to its SLO of {SLO_MS} ms"),
        (CpuStarve(service="email", share=0.5, period_ms=1000), "may or may not suffice"),
        (
            CpuStarve(service="email", share=0.02, period_ms=2 * TIMEOUT_MS),
            f"too close to the {2 * TIMEOUT_MS + 100} ms",
        ),
        (DatabaseSlow(database="inventory", hold_ms=150, every_ms=600), "too close to the busy timeout of 200 ms"),
        (DatabaseSlow(database="inventory", hold_ms=90, every_ms=100), "leaves too little of every_ms=100"),
        (from_spec({"kind": "database-locked", "database": "inventory"}), "waits 500 ms before it falls back"),
        (from_spec({"kind": "database-locked", "database": "storefront"}), "has no database 'storefront'"),
        (from_spec({"kind": "bandwidth", "wire": "storefront-inventory", "bytes_per_s": 5000}), "too close to its"),
    ],
)
def test_a_fault_next_to_a_limit_is_reported_as_undecidable(fault: Fault, said: str) -> None:
    assert said in " | ".join(problems(fault, SYNC))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (BrokerOutage(broker="rabbit"), "stage 'async' has no broker 'rabbit'; it has broker"),
        (
            BrokerPoison(queue="payments-commands-dlq", count=1),
            "has no queue 'payments-commands-dlq'; it has inventory-",
        ),
        (BrokerPoison(queue="payments-commands", count=50), "count=50 may delay more orders than a window bears"),
        (
            BrokerSlow(broker="broker", delay_ms=700),
            "'user-visible-in-analytics' of 'register' comes 2100 ms later, too",
        ),
        (BrokerSlow(broker="broker", delay_ms=1250), "4 trips of delay_ms=1250 exceed visibility_timeout_s=5 of 'inv"),
        (BrokerThrottle(broker="broker", share=0.8), "share=0.8 may make completions late"),
        (KillInFlight(service="payments", wire="email-broker", delay_ms=200), "wire 'email-broker' is that of 'email'"),
        (KillInFlight(service="payments", wire="payments-moon", delay_ms=200), "has no wire 'payments-moon'; it has "),
        (
            KillInFlight(service="payments", wire="payments-broker", delay_ms=1100),
            "delay_ms=1100 must lie between 100 and",
        ),
        (Latency(wire="orders-broker", delay_ms=250), "'email-sent' of 'place-order' comes 2500 ms later, too close"),
    ],
)
def test_a_fault_of_messages_next_to_a_limit_is_reported_as_undecidable(fault: Fault, said: str) -> None:
    assert said in " | ".join(problems(fault, ASYNC))


SHORT_LIVED = replace(MESH, mesh=Mesh(certificate_ttl_s=60))
LONG_CONNECTIONS = replace(MESH, mesh=Mesh(connection_age_ms=60_000))


@pytest.mark.parametrize(
    ("fault", "stage", "said"),
    [
        (Partition(cluster="commerce", from_="commerce"), MESH, "a cluster cannot be parted from itself"),
        (Partition(cluster="commerce", from_="moon"), MESH, "has no cluster 'moon'"),
        (RegistryOutage(registry="dns"), MESH, "has no registry 'dns'; it has registry"),
        (ClusterFreeze(cluster="moon"), MESH, "has no cluster 'moon'"),
        (ClusterFreeze(cluster="fulfilment"), SHORT_LIVED, "certificate_ttl_s=60 is too short"),
        (GarbageDiscovery(registry="dns"), MESH, "has no registry 'dns'; it has registry"),
        (RootRotation(authority="state"), MESH, "has no authority 'state'; it has authority"),
        (GarbageConfig(service="storefront-gateway"), MESH, "has no service 'storefront-gateway'"),
        (Canary(service="inventory", share_percent=10), MESH, "shows in 5.0% of the calls, less than the 20% it takes"),
        (Canary(service="payments", share_percent=50), MESH, "nobody calls it"),
        (
            Canary(service="orders", share_percent=50, defect="slow"),
            MESH,
            "adds up to 600 ms to 'track-order', too close to its SLO of 800 ms",
        ),
        (Pause(service="fulfilment-control"), SHORT_LIVED, "certificate_ttl_s=60 is too short"),
        (CertificateExpired(service="inventory"), LONG_CONNECTIONS, "live on for connection_age_ms=60000"),
        (RootRotation(authority="authority"), LONG_CONNECTIONS, "live on for connection_age_ms=60000"),
    ],
    ids=str,
)
def test_a_fault_of_the_mesh_that_hangs_on_chance_is_reported_as_undecidable(fault, stage, said) -> None:
    assert said in " | ".join(problems(fault, stage))


def test_between_sidecars_a_delay_counts_twice_since_a_new_connection_greets_first() -> None:
    delay = Latency(wire="storefront-analytics", delay_ms=100)
    assert problems(delay, ASYNC) == []
    assert "too close to its timeout_ms=500" in problems(delay, MESH)[0]


def test_what_trickles_between_sidecars_is_too_late_even_for_a_small_answer() -> None:
    assert problems(Bandwidth(wire="storefront-inventory", bytes_per_s=1000), MESH) == []


def test_a_short_distance_to_the_broker_can_be_decided() -> None:
    assert problems(Latency(wire="orders-broker", delay_ms=10), ASYNC) == []


def test_without_messages_there_is_no_broker_to_break() -> None:
    assert "stage 'sync' has no broker 'broker'; it has none" in problems(BrokerOutage(broker="broker"), SYNC)[0]


def test_a_slow_broker_does_not_make_messages_come_twice() -> None:
    fault = fault_named(ASYNC, "broker-slow").fault
    assert all(4 * fault.delay_ms < 1000 * queue.visibility_timeout_s for queue in messaging(ASYNC).queues)


def test_the_delay_that_exposes_double_charges_lets_the_request_arrive_before_its_caller_gives_up() -> None:
    fault = fault_named(SYNC, "orders-payments-latency").fault
    timeout_ms = SYNC.channel("orders-payments").timeout_ms
    assert fault.delay_ms < 0.8 * timeout_ms < timeout_ms < fault.round_trip_ms


def test_the_experiment_files_and_the_table_are_what_the_catalogue_gives() -> None:
    assert experiment.stale() == [], "run: python -m chaos.experiment --write"


@pytest.mark.parametrize("name", experiment.catalogue())
def test_every_experiment_file_is_valid_and_always_rolls_back(name) -> None:
    document = json.loads((experiment.DIRECTORY / f"{name}.json").read_text())
    ensure_experiment_is_valid(document)
    assert document["runtime"] == {"rollbacks": {"strategy": "always"}}
    assert [a["provider"]["func"] for a in document["method"]] == ["inject", "fault_bites", "hold"]
    assert [a["provider"]["func"] for a in document["rollbacks"]] == ["undo", "recovered"]


def test_discover_finds_every_action_and_probe() -> None:
    found = {a["name"]: a["type"] for a in chaos.discover(discover_system=False)["activities"]}
    assert found == {
        "inject": "action",
        "hold": "action",
        "undo": "action",
        "deployment_record": "probe",
        "experiment_token": "probe",
        "fault_bites": "probe",
        "operations_steady": "probe",
        "no_worse_than_predicted": "probe",
        "recovered": "probe",
        "order_confirmed": "probe",
        "queue_depth": "probe",
        "dead_letters": "probe",
    }
