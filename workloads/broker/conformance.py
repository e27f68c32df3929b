"""What must every broker do that the shop relies on? One suite, run on the fake and on every real one.

    async def test_memory() -> None: await check_broker(MemoryLab)

A lab is a broker with a few queues, made anew for each check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from workloads.broker.ports import Broker, Delivery, Parcel
from workloads.settings import Inbound

VISIBILITY_S = 1
MAX_RECEIVES = 3
EVENT, OTHER = "OrderConfirmed", "OrderCancelled"
"""The lab's topic gives `plain` the first only and `fifo` both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A broker with two queues, their dead-letter queues and a FIFO topic."""

    plain: str
    """URL of a standard queue: visible again after VISIBILITY_S, given up by the broker after MAX_RECEIVES."""
    fifo: str
    topic: str
    """ARN; feeds both."""
    of_plain: Broker
    of_fifo: Broker
    of_plain_dead: Broker
    of_fifo_dead: Broker
    refused: str = "no control \x00 characters"
    """A body that this broker never takes; SQS takes what XML 1.0 can hold."""


MakeLab = Callable[[], AbstractAsyncContextManager[Lab]]


def inbound(url: str, dead_letters_url: str) -> Inbound:
    """How a lab's broker reads a queue."""
    return Inbound(
        url=url,
        dead_letters_url=dead_letters_url,
        visibility_timeout_s=VISIBILITY_S,
        max_receives=MAX_RECEIVES,
        fifo=url.endswith(".fifo"),
    )


async def check_broker(make: MakeLab) -> None:
    """Everything ports.Broker promises."""
    checks: Sequence[Callable[[Lab], Awaitable[None]]] = (
        _delivers_what_was_sent,
        _cuts_what_is_too_much_for_one_call,
        _names_what_failed,
        _gives_again_what_is_not_deleted,
        _hides_as_long_as_told,
        _passes_over_old_receipts,
        _keeps_order_within_a_group,
        _drops_a_repetition_in_fifo,
        _feeds_those_who_want_the_type,
        _buries_with_the_reason,
        _gives_up_without_a_reason,
    )
    async with make() as lab:
        for check in checks:
            await check(lab)


def _parcel(number: int, *, group: str = "o-1", kind: str = EVENT, body: str | None = None, run: str = "") -> Parcel:
    return Parcel(id=f"p{run}-{number}", type=kind, group=group, body=f"body {number}" if body is None else body)


async def _receive(broker: Broker, wanted: int) -> list[Delivery]:
    """Receive until so many have come; for none, once. AssertionError if they do not within a few receives."""
    found: list[Delivery] = [] if wanted else await broker.receive()
    for _ in range(5):
        if len(found) >= wanted:
            break
        found += await broker.receive()
    assert len(found) == wanted, f"wanted {wanted} messages, got {[each.body for each in found]}"
    return found


async def _receive_together(broker: Broker, wanted: int) -> list[Delivery]:
    """Receive so many of a FIFO queue in one call: what is in hand keeps back whatever comes later in its group."""
    for _ in range(MAX_RECEIVES):
        found = await broker.receive()
        if len(found) == wanted:
            return found
        await broker.extend(found, VISIBILITY_S)  # nobody promises that what is sent can be received at once
    raise AssertionError(f"{wanted} messages never came together, last {[each.body for each in found]}")


async def _delivers_what_was_sent(lab: Lab) -> None:
    text = "ä € \U0001f600 \n\t {}" + "x" * 1000
    assert await lab.of_fifo.send(lab.plain, [_parcel(1, body=text)]) == set()
    (found,) = await _receive(lab.of_plain, 1)
    seen = (found.body, found.receives, found.group, dict(found.attributes))
    assert seen == (text, 1, "", {"type": EVENT}), seen
    await lab.of_plain.delete([found])


async def _cuts_what_is_too_much_for_one_call(lab: Lab) -> None:
    many = [_parcel(n, body=f"{n}:" + "x" * 30_000) for n in range(13)]
    assert await lab.of_plain.send(lab.plain, many) == set()
    found = await _receive(lab.of_plain, 13)
    assert sorted(each.body for each in found) == sorted(each.body for each in many)
    assert await lab.of_plain.delete(found) == []


async def _names_what_failed(lab: Lab) -> None:
    mixed = [_parcel(1), _parcel(2, body=lab.refused), _parcel(3)]
    assert await lab.of_plain.send(lab.plain, mixed) == {"p-2"}
    found = await _receive(lab.of_plain, 2)
    assert sorted(each.body for each in found) == ["body 1", "body 3"]
    await lab.of_plain.delete(found)


async def _gives_again_what_is_not_deleted(lab: Lab) -> None:
    await lab.of_plain.send(lab.plain, [_parcel(1)])
    (first,) = await _receive(lab.of_plain, 1)
    (again,) = await _receive(lab.of_plain, 1)
    assert (again.id, again.receives) == (first.id, 2)
    await lab.of_plain.delete([again])
    await asyncio.sleep(VISIBILITY_S)
    await _receive(lab.of_plain, 0)


async def _hides_as_long_as_told(lab: Lab) -> None:
    loop = asyncio.get_running_loop()
    await lab.of_plain.send(lab.plain, [_parcel(1)])
    found = await _receive(lab.of_plain, 1)
    await lab.of_plain.extend(found, 0)
    found = await _receive(lab.of_plain, 1)
    await lab.of_plain.extend(found, VISIBILITY_S + 2)
    begun = loop.time()
    assert await lab.of_plain.delete(await _until_some(lab.of_plain)) == []
    assert loop.time() - begun > VISIBILITY_S + 1, "it came although it was to stay hidden"


async def _until_some(broker: Broker) -> list[Delivery]:
    for _ in range(5):
        if found := await broker.receive():
            return found
    raise AssertionError("it never came again")


async def _passes_over_old_receipts(lab: Lab) -> None:
    await lab.of_plain.send(lab.plain, [_parcel(1)])
    found = await _receive(lab.of_plain, 1)
    await lab.of_plain.delete(found)
    assert await lab.of_plain.delete(found) == []
    await lab.of_plain.extend(found, 5)


async def _keeps_order_within_a_group(lab: Lab) -> None:
    for n, group in enumerate(("o-1", "o-1", "o-2", "o-1")):
        await lab.of_plain.send(lab.fifo, [_parcel(n, group=group, run="order")])
    found = await _receive_together(lab.of_fifo, 4)
    assert [each.body for each in found if each.group == "o-1"] == ["body 0", "body 1", "body 3"]
    await lab.of_fifo.extend(found, 60)
    await lab.of_plain.send(lab.fifo, [_parcel(4, group="o-1", run="order"), _parcel(5, group="o-3", run="order")])
    (other,) = await _receive(lab.of_fifo, 1)
    assert other.group == "o-3", "a group went on although one before was hidden"
    await lab.of_fifo.delete([*found, other])
    (last,) = await _receive(lab.of_fifo, 1)
    assert last.body == "body 4"
    await lab.of_fifo.delete([last])


async def _drops_a_repetition_in_fifo(lab: Lab) -> None:
    for _ in range(2):
        assert await lab.of_plain.send(lab.fifo, [_parcel(1, run="again")]) == set()
    found = await _receive(lab.of_fifo, 1)
    await lab.of_fifo.delete(found)
    await _receive(lab.of_fifo, 0)


async def _feeds_those_who_want_the_type(lab: Lab) -> None:
    parcels = [_parcel(1, run="topic"), _parcel(2, kind=OTHER, run="topic")]
    assert await lab.of_plain.send(lab.topic, parcels) == set()
    plain = await _receive(lab.of_plain, 1)
    fifo = await _receive_together(lab.of_fifo, 2)
    assert [(each.body, dict(each.attributes)) for each in plain] == [("body 1", {"type": EVENT})]
    assert [(each.body, each.group) for each in fifo] == [("body 1", "o-1"), ("body 2", "o-1")]
    await lab.of_plain.delete(plain)
    await lab.of_fifo.delete(fifo)


async def _buries_with_the_reason(lab: Lab) -> None:
    for broker, dead, url in ((lab.of_plain, lab.of_plain_dead, lab.plain), (lab.of_fifo, lab.of_fifo_dead, lab.fifo)):
        await broker.send(url, [_parcel(1, body="{", run="dead"), _parcel(2, run="dead")])
        receive = _receive_together if url == lab.fifo else _receive
        found = sorted(await receive(broker, 2), key=lambda each: each.body)
        await broker.bury(found[1], "malformed", "not\nJSON " + "x" * 400)
        (letter,) = await _receive(dead, 1)
        seen = dict(letter.attributes)
        assert letter.body == "{", letter.body
        received = str(found[1].receives)
        assert (seen["reason"], seen["source"], seen["receives"]) == ("malformed", url.rpartition("/")[2], received), (
            seen
        )
        assert seen["type"] == EVENT
        assert seen["detail"].startswith("not JSON xxx")
        assert len(seen["detail"]) == 300
        assert int(seen["died_ns"]) > 0
        assert seen["died_utc"].endswith("Z")
        await broker.delete(found)
        await dead.delete([letter])


async def _gives_up_without_a_reason(lab: Lab) -> None:
    await lab.of_plain.send(lab.plain, [_parcel(1)])
    for _ in range(MAX_RECEIVES):
        await _receive(lab.of_plain, 1)
    await asyncio.sleep(VISIBILITY_S)
    assert await lab.of_plain.receive() == []
    (letter,) = await _receive(lab.of_plain_dead, 1)
    assert (letter.body, dict(letter.attributes)) == ("body 1", {"type": EVENT})
    await lab.of_plain_dead.delete([letter])
