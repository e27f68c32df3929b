"""Envelopes: what is sealed is read back, and what cannot be read says why."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.broker.envelope import (
    FOREIGN,
    LIMIT_BYTES,
    MALFORMED,
    OVERSIZED,
    REASONS,
    TYPES,
    UNKNOWN_TYPE,
    UNKNOWN_VERSION,
    Envelope,
    Unreadable,
    seal,
    unseal,
)
from workloads.messages import CapturePayment, OrderConfirmed, StepDone

ALL = frozenset(TYPES.values())
SAMPLE = Envelope(
    id="e-1",
    run="run-1",
    source="orders",
    sent_ns=7,
    traceparent="00-abc-def-01",
    message=CapturePayment(order_id="o-1", key="k-1", amount_cents=1250),
)
DOCUMENT: dict[str, Any] = json.loads(seal(SAMPLE))


def messages() -> st.SearchStrategy[Any]:
    values = {"str": st.text(max_size=40), "int": st.integers(-(2**70), 2**70)}
    return st.sampled_from(sorted(TYPES)).flatmap(
        lambda name: st.builds(TYPES[name], **{f.name: values[str(f.type)] for f in fields(TYPES[name])})
    )


def reason(text: str, *, run: str = "run-1", accepts: frozenset[type] = ALL) -> str:
    with pytest.raises(Unreadable) as caught:
        unseal(text, run=run, accepts=accepts)
    assert caught.value.detail
    return caught.value.reason


@given(message=messages(), sent_ns=st.integers(0, 2**63), source=st.text(max_size=10))
def test_what_is_sealed_is_read_back(message: Any, sent_ns: int, source: str) -> None:
    envelope = Envelope(id="e", run="r", source=source, sent_ns=sent_ns, traceparent="", message=message)
    assert unseal(seal(envelope), run="r", accepts=ALL) == envelope


def test_the_form_on_the_wire() -> None:
    assert DOCUMENT == {
        "v": 1,
        "id": "e-1",
        "type": "CapturePayment",
        "run": "run-1",
        "source": "orders",
        "sent_ns": 7,
        "traceparent": "00-abc-def-01",
        "body": {"order_id": "o-1", "key": "k-1", "amount_cents": 1250},
    }


@given(text=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_comes_is_read_or_has_a_reason(text: str) -> None:
    assert reason(text) in REASONS


@given(at=st.integers(0, len(seal(SAMPLE)) - 1))
def test_cut_anywhere_it_is_malformed(at: int) -> None:
    assert reason(seal(SAMPLE)[:at]) == MALFORMED


@given(member=st.sampled_from(sorted(DOCUMENT)), value=st.none() | st.booleans() | st.floats() | st.lists(st.none()))
def test_a_member_of_the_wrong_type_is_never_guessed_at(member: str, value: Any) -> None:
    expected = UNKNOWN_VERSION if member == "v" and value != 1 else MALFORMED
    if member == "v" and value == 1:
        expected = UNKNOWN_VERSION if isinstance(value, bool) else ""
    if expected:
        assert reason(json.dumps({**DOCUMENT, member: value})) == expected


@pytest.mark.parametrize("member", sorted(DOCUMENT))
def test_a_missing_member_is_malformed(member: str) -> None:
    assert reason(json.dumps({k: v for k, v in DOCUMENT.items() if k != member})) == MALFORMED


@pytest.mark.parametrize("body", [{}, {"order_id": "o", "key": "k", "amount_cents": "5"}, {"order_id": 1}])
def test_a_body_without_its_fields_is_malformed(body: Any) -> None:
    assert reason(json.dumps({**DOCUMENT, "body": body})) == MALFORMED


def test_members_added_later_are_passed_over() -> None:
    later = {**DOCUMENT, "priority": 3, "body": {**DOCUMENT["body"], "currency": "EUR"}}
    assert unseal(json.dumps(later), run="run-1", accepts=ALL) == SAMPLE


def test_another_version_is_not_read_at_all() -> None:
    assert reason(json.dumps({"v": 2})) == UNKNOWN_VERSION


def test_a_message_of_another_run_is_foreign() -> None:
    assert reason(seal(SAMPLE), run="run-2") == FOREIGN


def test_a_message_for_another_service_is_foreign() -> None:
    assert reason(seal(SAMPLE), accepts=frozenset({StepDone, OrderConfirmed})) == FOREIGN


@pytest.mark.parametrize("name", ["DropTables", "PlaceOrder", "", "capturepayment"])
def test_a_type_that_does_not_travel_is_unknown(name: str) -> None:
    assert reason(json.dumps({**DOCUMENT, "type": name})) == UNKNOWN_TYPE


@pytest.mark.parametrize("filler", ["x", "€"])
def test_more_than_the_limit_is_not_even_parsed(filler: str) -> None:
    long = json.dumps({**DOCUMENT, "more": filler * LIMIT_BYTES}, ensure_ascii=False)
    assert reason(long) == OVERSIZED
    just = json.dumps(DOCUMENT)
    assert unseal(just + " " * (LIMIT_BYTES - len(just)), run="run-1", accepts=ALL) == SAMPLE


def test_deep_nesting_is_malformed_and_does_not_crash() -> None:
    assert reason("[" * 60_000) == MALFORMED
