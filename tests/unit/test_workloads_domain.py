"""Pure decisions of the shop."""

from __future__ import annotations

import doctest

import pytest

from workloads import domain, hal, problems
from workloads.domain import Record
from workloads.messages import PlaceOrder
from workloads.problems import ProblemError


def order(**changes: object) -> PlaceOrder:
    return PlaceOrder(**{"key": "k", "product": "p-01", "quantity": 2, "email": "a@b", **changes})  # type: ignore[arg-type]


def effect(state: str = "captured", quantity: int = 5) -> Record:
    return Record(kind="capture", id="o-1", subject="o-1", key="k", state=state, quantity=quantity)


@pytest.mark.parametrize("module", [domain, hal, problems])
def test_examples_in_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_catalogue_has_twenty_products_with_distinct_names_and_prices() -> None:
    assert len(domain.PRODUCTS) == 20
    assert len({p.name for p in domain.PRODUCTS.values()}) == 20
    assert len({p.price_cents for p in domain.PRODUCTS.values()}) == 20


def test_an_order_costs_price_times_quantity() -> None:
    assert domain.new_order(order(quantity=3), 0).quantity == 3 * domain.PRODUCTS["p-01"].price_cents


def test_equal_keys_make_equal_ids_and_others_do_not() -> None:
    ids = [domain.new_order(order(key=key), 0).id for key in ("k", "k", "l")]
    assert ids[0] == ids[1] != ids[2]


def test_an_unknown_product_is_refused_before_anything_exists() -> None:
    with pytest.raises(ProblemError) as caught:
        domain.new_order(order(product="p-99"), 0)
    assert caught.value.kind is problems.UNKNOWN_PRODUCT


def test_an_effect_is_applied_once() -> None:
    assert domain.must_apply(None, effect())
    assert not domain.must_apply(effect(), effect())


def test_a_late_original_meets_the_tombstone() -> None:
    with pytest.raises(ProblemError) as caught:
        domain.must_apply(effect("void"), effect())
    assert caught.value.kind is problems.ALREADY_UNDONE


def test_the_same_effect_with_other_content_is_refused() -> None:
    with pytest.raises(ProblemError) as caught:
        domain.must_apply(effect(quantity=6), effect())
    assert caught.value.kind is problems.KEY_REUSED


def test_no_more_units_are_taken_than_there_are() -> None:
    shelf = domain.stock()[0]
    assert domain.taken(shelf, 3).quantity == shelf.quantity - 3
    with pytest.raises(ProblemError) as caught:
        domain.taken(shelf, shelf.quantity + 1)
    assert caught.value.kind is problems.OUT_OF_STOCK


def test_every_problem_type_is_registered_under_its_own_name_and_explained() -> None:
    declared = {v for v in vars(problems).values() if isinstance(v, problems.ProblemType)}
    assert {kind.name: kind for kind in declared} == problems.TYPES
    assert all(kind.doc and kind.title and 400 <= kind.status < 600 for kind in declared)


def test_a_problem_survives_the_way_over_the_wire() -> None:
    problem = ProblemError(problems.OUT_OF_STOCK, "2 left", subject="o-1")
    again = problems.parse(problem.document(), 409)
    assert again.document() == problem.document()


def test_an_answer_without_a_problem_document_is_a_problem_with_its_status() -> None:
    assert problems.parse([], 418).document()["status"] == 418
    assert problems.parse({"type": "about:blank"}, 409).document()["status"] == 409


def test_the_bodies_of_internal_errors_never_claim_that_nothing_happened() -> None:
    assert not problems.INTERNAL.definite
    assert not problems.COMMIT_UNKNOWN.definite
