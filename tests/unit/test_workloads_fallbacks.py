"""What the storefront answers when the giver of an answer does not: the last good one from the cache, marked stale."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from typing import Any

import httpx
import pytest

from workloads.api import storefront
from workloads.client import Answer, Shopper
from workloads.messages import ListProducts, Message, ReadCatalogue, ReadInsights, ReadLastInsights, StoreInsights
from workloads.ports import CallFailed
from workloads.web import new_app

FIGURES = {"orders": 3, "revenue_cents": 900, "users": 1}
NOBODY: Collection[str] = ()


class Peers:
    """Analytics, inventory and the cache, as far as the storefront knows them."""

    def __init__(self) -> None:
        self.down: set[type] = set()
        self.kept: dict[str, str] = {}
        self.stored = 0

    async def call(self, message: Message) -> dict[str, Any]:
        if type(message) in self.down:
            raise CallFailed("analytics", "refused", definite=True)
        if isinstance(message, ReadInsights):
            return dict(FIGURES)
        if isinstance(message, ListProducts):
            return {"products": []}
        if isinstance(message, StoreInsights):
            self.stored += 1
            self.kept["insights"] = message.document
            return {}
        if isinstance(message, (ReadLastInsights, ReadCatalogue)) and self.kept:
            return {"document": self.kept["insights"]}
        raise CallFailed("cache", "nothing there", definite=True)


async def ask(peers: Peers, path: str, fallbacks: Collection[str], times: int = 1) -> httpx.Response:
    app = new_app("storefront")
    storefront.mount(app, peers, fallbacks=fallbacks)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as users:
        for _ in range(times):
            answer = await users.get(path)
            await asyncio.sleep(0)  # what is written behind the answer has its turn
    return answer


async def test_good_figures_are_copied_once_a_second_and_stand_in_when_analytics_is_gone() -> None:
    peers = Peers()
    fresh = await ask(peers, "/insights", ["analytics"], times=5)
    assert (fresh.json()["stale"], "warning" in fresh.headers, peers.stored) == (False, False, 1)
    peers.down = {ReadInsights}
    stale = await ask(peers, "/insights", ["analytics"])
    assert {**stale.json(), "_links": {}} == {**FIGURES, "stale": True, "_links": {}}
    assert stale.headers["warning"].startswith("110 ")


async def test_a_stale_answer_counts_as_degraded_whatever_was_asked_for() -> None:
    peers = Peers()
    await ask(peers, "/insights", ["analytics"])
    peers.down = {ReadInsights}
    found = await ask(peers, "/insights", ["analytics"])
    shopper = Shopper(random.Random(1), "r")
    (home,) = shopper.start()
    at_home = await ask(peers, "/", NOBODY)
    shopper.take(home, Answer(status=200, headers={}, body=at_home.content))
    (catalogue,) = shopper.start()
    shopper.take(catalogue, Answer(status=200, headers={}, body=(await ask(peers, "/products", NOBODY)).content))
    request = shopper.next("insights")
    answer = Answer(status=found.status_code, headers=dict(found.headers), body=found.content)
    result = shopper.take(request, answer)  # type: ignore[arg-type]  # it is ready
    assert (result.outcome, result.degraded) == ("ok", True)


@pytest.mark.parametrize(("fallbacks", "stored"), [(NOBODY, 0), (["inventory"], 0)])
async def test_without_a_fallback_figures_are_neither_copied_nor_made_up(
    fallbacks: Collection[str], stored: int
) -> None:
    peers = Peers()
    await ask(peers, "/insights", fallbacks)
    assert peers.stored == stored
    peers.kept["insights"] = "{}"
    peers.down = {ReadInsights}
    assert (await ask(peers, "/insights", fallbacks)).status_code == 503


async def test_when_the_cache_has_no_copy_the_user_hears_of_the_service_that_failed() -> None:
    peers = Peers()
    peers.down = {ReadInsights}
    answer = await ask(peers, "/insights", ["analytics"])
    assert (answer.status_code, answer.json()["dependency"]) == (503, "analytics")
