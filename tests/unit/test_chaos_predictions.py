"""What every fault of the catalogue is predicted to do, written out: a change of the model or of a stage shows here.

Marks as in the table of chaos/README.md, for browse, register, place-order, track-order, cancel-order, insights.
"""

from __future__ import annotations

import pytest

from chaos.catalogue import faults_of
from chaos.table import MARKS
from stages.blast_radius import Prediction, blast_radius, predict
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.model import Stage

CALLS = {
    "accounts-killed": ". X . . . .",
    "orders-killed": ". . X X X .",
    "inventory-killed": "o . X . X .",
    "payments-killed": ". . X . X .",
    "email-killed": ". X X . . .",
    "analytics-killed": ". X X . . X",
    "cache-killed": ". X X . . .",
    "payments-paused": ". . X . X .",
    "inventory-paused": "o . X . X .",
    "email-cpu-starved": ". X X . . .",
    "orders-payments-latency": ". . X . X .",
    "storefront-inventory-blackhole": "o . . . . .",
    "orders-email-reset": ". . X . . .",
    "accounts-email-refused": ". X . . . .",
    "storefront-inventory-bandwidth": "o . . . . .",
    "orders-shipping-blackhole": ". . X . X .",
    "storefront-analytics-latency": ". . . . . .",
    "payments-database-locked": ". . X . X .",
    "inventory-database-slow": ". . . . . .",
    "shop-cluster-outage": "X X X X X X",
    "shop-cluster-frozen": "X X X X X X",
}

MESSAGES = {
    "accounts-killed": ". X . . . .",
    "orders-killed": ". . X X X .",
    "inventory-killed": "o . ~ . ~ .",
    "payments-killed": ". . ~ . ~ .",
    "email-killed": ". . ~ . . .",
    "analytics-killed": ". ~ . . . X",
    "cache-killed": ". . . . . .",
    "payments-paused": ". . ~ . ~ .",
    "inventory-paused": "o . ~ . ~ .",
    "email-cpu-starved": ". . ~ . . .",
    "storefront-inventory-blackhole": "o . . . . .",
    "storefront-inventory-bandwidth": "o . . . . .",
    "storefront-analytics-latency": ". . . . . .",
    "payments-database-locked": ". . ~ . ~ .",
    "inventory-database-slow": ". . . . . .",
    "broker-outage": ". ~ ~ . ~ .",
    "broker-slow": ". ~ ~ . ~ .",
    "broker-throttled": ". . . . . .",
    "broker-duplicates": ". . . . . .",
    "payments-poisoned": ". . . . . .",
    "payments-killed-deleting": ". . ~ . ~ .",
    "accounts-killed-publishing": ". X . . . .",
}

CLUSTERS = {
    "commerce-cluster-outage": "X X X X X X",
    "fulfilment-cluster-outage": "o . ~ . ~ .",
    "payments-cluster-outage": ". . ~ . ~ .",
    "engagement-cluster-outage": ". ~ ~ . . X",
    "commerce-cluster-frozen": "X X X X X X",
    "fulfilment-cluster-frozen": "o . ~ . ~ .",
    "payments-cluster-frozen": ". . ~ . ~ .",
    "engagement-cluster-frozen": ". ~ ~ . . X",
}

SIDECARS = {
    "analytics-killed": ". ~ . . . o",  # across clusters the storefront has a fallback: the cache's last figures
    "fulfilment-gateway-killed": "o . . . . .",  # storefront-inventory is the only call into it
    "engagement-gateway-killed": ". . . . . X",  # analytics, and the cache that would answer instead
    "inventory-sidecar-killed": "o . ~ . ~ .",  # neither called nor at the broker: as if inventory were gone
    "payments-sidecar-killed": ". . ~ . ~ .",
    "registry-outage": ". . . . . .",
    "registry-garbage": ". . . . . .",
    "fulfilment-control-paused": ". . . . . .",
    "storefront-garbage-config": ". . . . . .",
    "inventory-certificate-expired": "o . . . . .",  # its messages need no certificate
    "root-rotated": ". . . . . .",
    "inventory-canary-failing": "o . . . . .",  # of a quarter of the requests
    "commerce-fulfilment-partitioned": "o . . . . .",  # orders commands inventory over the broker
    "commerce-payments-partitioned": ". . . . . .",  # nobody calls payments
    "commerce-engagement-partitioned": ". . . . . X",  # mails and figures come over the broker
    "fulfilment-payments-partitioned": ". . . . . .",
    "fulfilment-engagement-partitioned": ". . . . . .",
    "payments-engagement-partitioned": ". . . . . .",
    "commerce-partitioned": "X . . . . X",  # the cache that would answer instead lives in engagement
    "fulfilment-partitioned": "o . . . . .",
    "payments-partitioned": ". . . . . .",
    "engagement-partitioned": ". . . . . X",
}

EXPECTED = {
    "sync": CALLS,
    "async": {**MESSAGES, "shop-cluster-outage": "X X X X X X", "shop-cluster-frozen": "X X X X X X"},
    "mesh": {**MESSAGES, **CLUSTERS, **SIDECARS},
}


def predictions(stage: Stage) -> dict[str, dict[str, Prediction]]:
    return {named.name: predict(stage, named.fault.impact(stage)) for named in faults_of(stage)}


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda s: s.name)
def test_every_fault_is_predicted_as_written_here(stage: Stage) -> None:
    found = {name: " ".join(MARKS[p.effect.value] for p in by.values()) for name, by in predictions(stage).items()}
    assert found == EXPECTED[stage.name]


def test_a_slow_broker_delays_by_the_messages_and_says_how_much() -> None:
    because = predictions(ASYNC)["broker-slow"]["place-order"].because
    assert because == (
        "place-order is delayed because storefront calls orders synchronously, and orders commands shipping by "
        "message, and its messages take 12000 ms longer in all, past the 3000 ms of order-completed"
    )


def test_a_sidecar_takes_its_service_with_it_and_the_sentence_says_so() -> None:
    because = {name: p.because for name, p in predictions(MESH)["inventory-sidecar-killed"].items()}
    assert because["browse"] == (
        "browse is degraded because storefront calls inventory synchronously, and nothing gets through between "
        "storefront and inventory, so cache answers instead"
    )
    assert because["place-order"] == (
        "place-order is delayed because storefront calls orders synchronously, and orders commands inventory by "
        "message, and nothing gets through between orders and inventory"
    )


def test_the_loss_of_a_cluster_spares_every_operation_that_does_not_live_there() -> None:
    lost = {named.fault.cluster: predictions(MESH)[named.name] for named in faults_of(MESH) if named.name in CLUSTERS}
    alone = {c: [o for o, p in by.items() if p.effect == "failing"] for c, by in lost.items() if c != "commerce"}
    assert alone == {"fulfilment": [], "payments": [], "engagement": ["insights"]}


def test_the_radius_over_the_faults_that_two_stages_share_falls_and_never_rises() -> None:
    by_stage = {stage.name: predictions(stage) for stage in STAGES.values()}
    for before, after in ((SYNC, ASYNC), (ASYNC, MESH)):
        shared = by_stage[before.name].keys() & by_stage[after.name].keys()
        radii = [blast_radius(s, {n: by_stage[s.name][n] for n in shared}) for s in (before, after)]
        assert radii[0] >= radii[1], (before.name, after.name, shared)
    assert blast_radius(SYNC, by_stage["sync"]) > blast_radius(ASYNC, by_stage["async"])
