"""A request is followed from the edge through sidecars, gateways and queues to the last thing that came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.catalogue import MESH, SYNC
from stages.history import Record
from suite.report.simulated import impacts
from suite.report.testing import sample
from suite.signals import windows
from suite.signals_clock import Offset
from suite.signals_lines import Line, read
from suite.signals_messages import message_signals, sampled_share
from suite.signals_run import Witness, documents, keep
from suite.testing.sidecars import OFFSET_NS, write
from suite.traces import Step, read_steps, rows, traces
from suite.traces_document import traces_document

T = "4bf92f3577b34da6a3ce929d0e0e4736"
MS = 1_000_000


def step(span: str, parent: str, service: str, name: str, kind: str, start: float, end: float) -> Step:
    return Step(
        trace_id=T,
        span_id=span,
        parent_id=parent,
        service=service,
        name=name,
        kind=kind,
        start_ns=int(start * MS),
        end_ns=int(end * MS),
        status=None,
    )


def line(side: str, part: str, start: float, ms: float, parent: str = "", **more: str) -> Line:
    return Line(
        start_ns=int(start * MS),
        side=side,
        part=part,
        edge=more.get("edge", ""),
        version="v1",
        peer=more.get("peer", ""),
        method="POST",
        path="/x",
        status=201,
        flags=(),
        duration_ms=ms,
        upstream_ms=None,
        trace_id=T if parent else "",
        parent_id=parent,
        gateway=more.get("gateway", ""),
        attempts=1,
    )


STEPS = [
    step("a", "", "storefront", "POST /orders", "server", 10, 40),
    step("b", "a", "storefront", "POST /orders", "client", 11, 38),
    step("c", "b", "orders", "POST /orders", "server", 15, 35),
    step("d", "c", "email", "handle OrderConfirmed", "consumer", 50, 55),
]
LINES = [
    line("ingress", "storefront-sidecar", 1, 5),
    line("ingress", "storefront-sidecar", 9, 32),
    line("out", "storefront-sidecar", 12, 25, "b", edge="storefront-orders", gateway="some-gateway"),
    line("in", "orders-sidecar", 14, 22, "b", peer="spiffe://shop/commerce/storefront"),
]


def test_sidecars_stand_between_the_spans_of_caller_and_callee_and_waiting_before_a_handler() -> None:
    found = rows(traces(STEPS, LINES)[T], MESH)
    assert [(r.depth, r.kind, r.where, r.start_ns // MS, r.end_ns // MS) for r in found] == [
        (0, "ingress", "storefront-sidecar", 9, 41),
        (1, "service", "storefront", 10, 40),
        (2, "call", "storefront", 11, 38),
        (3, "sidecar-out", "storefront-sidecar", 12, 37),
        (4, "gateway", "some-gateway", 14, 36),
        (5, "sidecar-in", "orders-sidecar", 14, 36),
        (6, "service", "orders", 15, 35),
        (7, "queue", "orders-events.fifo → email-events", 35, 50),
        (8, "handler", "email", 50, 55),
    ]
    assert found[7].detail == "sent through orders-sidecar, received through email-sidecar"
    assert found[5].detail == "201, from spiffe://shop/commerce/storefront"


def test_spans_alone_are_a_trace_too_and_one_without_a_beginning_is_none() -> None:
    assert [r.kind for r in rows(traces(STEPS, [])[T], MESH)] == ["service", "call", "service", "queue", "handler"]
    assert traces(STEPS[1:], LINES) == {}


def test_a_second_attempt_stands_under_the_same_call() -> None:
    steps = [*STEPS, step("e", "b", "orders", "POST /orders", "server", 37, 38)]
    found = rows(traces(steps, [*LINES, line("in", "orders-sidecar", 36.5, 2, "b")])[T], MESH)
    arrivals = [(r.depth, r.where) for r in found if r.kind in ("sidecar-in", "service")]
    assert arrivals == [
        (1, "storefront"),
        *((5, "orders-sidecar"), (6, "orders")),
        *((5, "orders-sidecar"), (6, "orders")),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    found = sample(stages=("mesh",), faults=4)
    directory = tmp_path_factory.mktemp("run")
    write(directory / "before", MESH, found.histories["mesh"], impacts(MESH))
    keep(directory / "before", directory / "kept")
    return directory / "kept", found.histories["mesh"]


CLOCK = Offset(offset_ns=OFFSET_NS, off_by_ns=900)


def test_what_is_kept_of_a_deployment_says_the_same_compressed(run: tuple[Path, list[Record]]) -> None:
    kept, _ = run
    before = kept.parent / "before"
    assert read(kept) == read(before)
    assert read_steps(kept) == read_steps(before)
    assert all(p.suffix == ".gz" for p in kept.iterdir())


def test_the_examples_are_an_order_to_its_mail_and_a_call_through_a_gateway(run: tuple[Path, list[Record]]) -> None:
    kept, history = run
    order, call = traces_document(MESH, read_steps(kept), read(kept).lines, windows(history), CLOCK)
    kinds = {r["kind"] for r in order["rows"]}
    assert kinds == {"ingress", "service", "call", "sidecar-out", "sidecar-in", "queue", "handler"}
    assert {"email"} <= {r["where"] for r in order["rows"]}
    assert {"fulfilment-gateway", "engagement-gateway"} & {r["where"] for r in call["rows"]}
    assert min(r["start_ms"] for r in order["rows"]) == 0
    assert order["duration_ms"] >= order["answered_ms"]


def test_an_example_that_was_not_sampled_says_so() -> None:
    (order, _) = traces_document(MESH, [], [], (), CLOCK)
    assert (order["rows"], order["because"]) == ([], "none of 0 sampled traces is one")


def test_rates_of_messages_are_estimated_from_the_share_that_was_sampled(run: tuple[Path, list[Record]]) -> None:
    kept, history = run
    steps, lines = read_steps(kept), read(kept).lines
    share = sampled_share(steps, lines)
    assert share == pytest.approx(0.1, abs=0.02)
    found = {e["edge"]: e for e in message_signals(MESH, steps, lines, windows(history), CLOCK)}
    ordered = sum(getattr(r, "operation", "") == "place-order" for r in history)
    whole_s = (history[-1].at_ns - history[0].at_ns) / 1e9  # type: ignore[union-attr]
    assert found["orders-email"]["phases"]["baseline"]["rate"] == pytest.approx(ordered / whole_s, rel=0.6)
    assert sampled_share([], lines) is None


def test_a_witness_keeps_what_a_deployment_wrote_and_fails_for_none(tmp_path: Path) -> None:
    (tmp_path / "shop" / "traces").mkdir(parents=True)
    (tmp_path / "shop" / "traces" / "orders.jsonl").write_text("{}\n")
    for name, kept in (("shop", ["orders.jsonl.gz"]), ("", []), ("gone", [])):
        target = tmp_path / f"run-{name}"
        witness = Witness(str(tmp_path / name) if name else "", target)
        witness.end()
        assert [p.name for p in sorted(target.glob("*"))] == kept
        assert witness.documents(MESH, {}, [])["signals"]["lines"] == 0


def test_the_documents_are_those_of_a_mesh_only(run: tuple[Path, list[Record]]) -> None:
    kept, history = run
    assert documents(SYNC, {}, kept, history, CLOCK) == {}
    assert set(documents(MESH, impacts(MESH), kept, history, CLOCK)) == {"signals", "breakers", "traces"}
    nothing = documents(MESH, impacts(MESH), kept / "nowhere", history, CLOCK)
    assert nothing["signals"]["lines"] == 0
    assert nothing["breakers"]["verdict"] == "unknown"
