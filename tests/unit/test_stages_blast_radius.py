"""What a fault is predicted to do, on graphs small enough to see the answer, and on the shop's stages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.blast_radius import Effect, Impact, Prediction, blast_radius, predict
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.model import (
    Channel,
    Cluster,
    Completion,
    Gap,
    Kind,
    Operation,
    Service,
    SharedPart,
    Stage,
    System,
    Transport,
)


def call(caller: str, callee: str, **more: object) -> Channel:
    return replace(
        Channel(caller=caller, callee=callee, operations=("buy",), timeout_ms=300, attempts=2),
        **more,  # type: ignore[arg-type]
    )


def send(caller: str, callee: str, kind: Kind = Kind.COMMAND, **more: object) -> Channel:
    transport = Transport.SQS if kind is Kind.COMMAND else Transport.SNS
    return replace(
        Channel(caller=caller, callee=callee, kind=kind, transport=transport, operations=("buy",), via=("broker",)),
        **more,  # type: ignore[arg-type]
    )


def shop(*channels: Channel, completions: tuple[Completion, ...] = (), gaps: tuple[Gap, ...] = ()) -> Stage:
    """One operation 'buy' with an SLO of 1 s, entering at 'web'."""
    names = dict.fromkeys(("web", *(end for c in channels for end in (c.caller, c.callee))))
    return Stage(
        name="small",
        title="",
        previous=None,
        change="",
        reason="",
        operations=(Operation(name="buy", summary="", entry="web", latency_slo_ms=1000, completions=completions),),
        services=tuple(Service(name=n, summary="", system="all") for n in names),
        channels=channels,
        systems=(System(name="all", cluster="one"),),
        clusters=(Cluster(name="one", network="10.0.0.0/16"),),
        shared=(SharedPart(name="broker", summary=""),),
        gaps=gaps,
    )


def buy(stage: Stage, **impact: object) -> Prediction:
    sets = {k: frozenset(v) if k != "delay_ms" else v for k, v in impact.items()}  # type: ignore[call-overload]
    return predict(stage, Impact(**sets))["buy"]  # type: ignore[arg-type]


CHAIN = shop(call("web", "orders", timeout_ms=1500, attempts=1), call("orders", "pay"))


def test_a_fault_elsewhere_changes_nothing() -> None:
    assert buy(CHAIN, down=["nobody"], cut=["a-b"]) == Prediction(
        effect=Effect.UNAFFECTED, because="buy is unaffected: nothing it waits for is touched", path=("web",)
    )


def test_a_dead_callee_fails_the_whole_chain_and_the_sentence_names_it() -> None:
    assert buy(CHAIN, down=["pay"]) == Prediction(
        effect=Effect.FAILING,
        because="buy fails because web calls orders and orders calls pay synchronously, and pay does not answer",
        path=("web", "orders", "pay"),
    )


def test_a_dead_entry_fails_without_any_path() -> None:
    assert buy(CHAIN, down=["web"]) == Prediction(
        effect=Effect.FAILING, because="buy fails because web does not answer", path=("web",)
    )


def test_a_cut_channel_fails_like_a_dead_callee() -> None:
    found = buy(CHAIN, cut=["orders-pay"])
    assert (found.effect, found.path) == (Effect.FAILING, ("web", "orders", "pay"))
    assert "nothing gets through between orders and pay" in found.because


def test_a_cut_edge_fails() -> None:
    assert buy(CHAIN, cut=["users-web"]).effect is Effect.FAILING


def test_a_failure_that_is_ignored_changes_nothing() -> None:
    assert buy(shop(call("web", "log", essential=False)), down=["log"]).effect is Effect.UNAFFECTED


FALLBACK = shop(call("web", "stock", fallback="web-copy"), call("web", "copy", essential=False, timeout_ms=150))


def test_a_fallback_degrades() -> None:
    found = buy(FALLBACK, down=["stock"])
    assert found.effect is Effect.DEGRADED
    assert found.because == (
        "buy is degraded because web calls stock synchronously, and stock does not answer, so copy answers instead"
    )


def test_a_dead_fallback_alone_changes_nothing() -> None:
    assert buy(FALLBACK, down=["copy"]).effect is Effect.UNAFFECTED


def test_a_dead_fallback_does_not_help() -> None:
    found = buy(FALLBACK, down=["stock", "copy"])
    assert found.effect is Effect.FAILING
    assert "nor can copy answer instead (copy does not answer)" in found.because


def test_without_a_breaker_every_request_first_waits_out_its_attempts() -> None:
    slow = shop(call("web", "stock", fallback="web-copy", breaker=False, timeout_ms=500), call("web", "copy"))
    assert buy(slow, down=["stock"]).effect is Effect.FAILING


def test_a_failure_behind_the_callee_reaches_the_fallback_too() -> None:
    deep = shop(call("web", "stock", fallback="web-copy"), call("web", "copy", essential=False), call("stock", "store"))
    assert buy(deep, down=["store"]).effect is Effect.DEGRADED


@pytest.mark.parametrize(
    ("delay_ms", "effect"), [(100, Effect.UNAFFECTED), (299, Effect.UNAFFECTED), (300, Effect.FAILING)]
)
def test_a_delay_up_to_the_timeout_passes_and_from_there_on_no_attempt_gets_through(
    delay_ms: int, effect: Effect
) -> None:
    assert buy(CHAIN, delay_ms={"orders-pay": delay_ms}).effect is effect


def test_delays_add_up_along_the_chain_until_an_outer_timeout() -> None:
    tight = shop(call("web", "orders", timeout_ms=400), call("orders", "pay"), call("orders", "ship", step=1))
    found = buy(tight, delay_ms={"orders-pay": 250, "orders-ship": 250})
    assert found.effect is Effect.FAILING
    assert "past the timeout of 400 ms" in found.because


def test_calls_of_the_same_step_run_side_by_side() -> None:
    tight = shop(call("web", "orders", timeout_ms=400), call("orders", "pay"), call("orders", "ship"))
    assert buy(tight, delay_ms={"orders-pay": 250, "orders-ship": 250}).effect is Effect.UNAFFECTED


def test_a_delay_that_eats_the_slo_fails() -> None:
    found = buy(CHAIN, delay_ms={"users-web": 1000})
    assert found.effect is Effect.FAILING
    assert "1000 ms later than its 1000 ms allow" in found.because


def test_a_delay_of_what_nobody_waits_for_is_not_added() -> None:
    assert buy(FALLBACK, delay_ms={"web-copy": 5000}).effect is Effect.UNAFFECTED


COMMANDED = shop(call("web", "orders"), send("orders", "pay"))


@pytest.mark.parametrize("down", ["pay", "broker"])
def test_a_command_waits_for_a_dead_receiver_or_broker(down: str) -> None:
    assert buy(COMMANDED, down=[down]).effect is Effect.DELAYED


def test_a_cut_message_channel_delays() -> None:
    assert buy(COMMANDED, cut=["orders-pay"]).effect is Effect.DELAYED


def test_work_behind_a_received_command_delays_it_too() -> None:
    assert buy(shop(send("web", "orders"), call("orders", "pay")), down=["pay"]).effect is Effect.DELAYED


def test_an_event_matters_only_where_a_completion_shows() -> None:
    mail = Completion(name="mail-sent", at="mail", within_ms=5000)
    told = shop(send("web", "mail", Kind.EVENT), send("web", "log", Kind.EVENT), completions=(mail,))
    assert buy(told, down=["mail"]).effect is Effect.DELAYED
    assert buy(told, down=["log"]).effect is Effect.UNAFFECTED


def test_an_event_matters_where_the_completion_shows_behind_its_consumer() -> None:
    mail = Completion(name="mail-sent", at="mail", within_ms=5000)
    told = shop(send("web", "hub", Kind.EVENT), send("hub", "mail", Kind.EVENT), completions=(mail,))
    assert buy(told, down=["hub"]).effect is Effect.DELAYED


def test_a_message_that_takes_longer_than_its_completion_may_is_late() -> None:
    mail = Completion(name="mail-sent", at="mail", within_ms=5000)
    told = shop(send("web", "mail", Kind.EVENT), completions=(mail,))
    assert buy(told, delay_ms={"web-mail": 4999}).effect is Effect.UNAFFECTED
    assert buy(told, delay_ms={"web-mail": 5000}).effect is Effect.DELAYED


def test_the_worst_of_several_counts() -> None:
    both = shop(call("web", "stock", fallback="web-copy"), call("web", "copy", essential=False), send("web", "pay"))
    assert buy(both, down=["stock", "pay"]).effect is Effect.DELAYED


def test_a_circle_of_calls_ends() -> None:
    assert buy(shop(call("web", "a"), call("a", "b"), call("b", "a")), down=["x"]).effect is Effect.UNAFFECTED


def test_a_gap_is_named_only_when_its_service_dies_in_mid_request() -> None:
    gap = Gap(name="lost-mail", effect="mail-sent", operation="buy", crash_of="orders", reason="")
    stage = replace(CHAIN, gaps=(gap,))
    assert buy(stage, down=["orders"]).gaps == ()
    crashed = buy(stage, down=["orders"], crashed=["orders"])
    assert crashed.gaps == ("lost-mail",)
    assert "orders dying in mid-request may lose mail-sent (known gap 'lost-mail')" in crashed.because


def test_effects_are_ordered_by_what_users_notice_not_by_letter() -> None:
    ordered = [Effect.UNAFFECTED, Effect.DEGRADED, Effect.DELAYED, Effect.FAILING]
    assert sorted(ordered, key=str) != ordered == sorted(ordered)
    assert max(ordered) is Effect.FAILING
    assert Effect.DEGRADED <= Effect.DEGRADED < Effect.DELAYED
    assert Effect.FAILING >= Effect.DELAYED


def test_the_radius_weighs_cells_by_traffic() -> None:
    down = predict(SYNC, Impact(down=frozenset({"payments"})))
    # place-order weighs 3, cancel-order 2, of 13
    assert blast_radius(SYNC, {"payments-killed": down}) == pytest.approx(5 / 13)
    assert blast_radius(SYNC, {"payments-killed": down, "nothing": predict(SYNC, Impact())}) == pytest.approx(5 / 26)
    assert blast_radius(SYNC, {}) == 0.0


def effects(stage: Stage, **impact: object) -> dict[str, str]:
    sets = {k: frozenset(v) for k, v in impact.items()}  # type: ignore[call-overload]
    return {o: p.effect.value for o, p in predict(stage, Impact(**sets)).items() if p.effect is not Effect.UNAFFECTED}


def test_sync_payments_takes_orders_with_it_and_async_only_delays_them() -> None:
    assert effects(SYNC, down=["payments"]) == {"place-order": "failing", "cancel-order": "failing"}
    assert effects(ASYNC, down=["payments"]) == {"place-order": "delayed", "cancel-order": "delayed"}


def test_sync_inventory_degrades_browsing_and_fails_orders() -> None:
    assert effects(SYNC, down=["inventory"]) == {
        "browse": "degraded",
        "place-order": "failing",
        "cancel-order": "failing",
    }


def test_a_dead_broker_only_delays_what_was_accepted() -> None:
    assert effects(ASYNC, down=["broker"]) == {
        "register": "delayed",
        "place-order": "delayed",
        "cancel-order": "delayed",
    }


def test_mesh_loses_only_what_a_lost_cluster_does() -> None:
    assert effects(MESH, down=MESH.services_in("payments")) == {"place-order": "delayed", "cancel-order": "delayed"}
    assert set(effects(SYNC, down=SYNC.services_in("shop")).values()) == {"failing"}


def radius(stage: Stage) -> float:
    """Over the same faults for every stage: each service dead, and for each system the loss of the cluster it is in.

    One fault per cluster would not do: a stage with more clusters would have more of the large faults.
    """
    faults = [{s.name} for s in stage.services] + [set(stage.services_in(s.cluster)) for s in stage.systems]
    return blast_radius(stage, {str(n): predict(stage, Impact(down=frozenset(f))) for n, f in enumerate(faults)})


def test_the_radius_falls_from_stage_to_stage() -> None:
    sync, asynchronous, mesh = (radius(stage) for stage in STAGES.values())
    assert sync > asynchronous > mesh > 0
