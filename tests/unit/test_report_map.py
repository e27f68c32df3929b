"""The system map: every service once, frames that do not overlap, few crossings, the same every time."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from random import Random
from xml.etree.ElementTree import fromstring

import pytest

from stages.catalogue import ASYNC, STAGES, SYNC
from stages.messaging import messaging
from stages.model import Channel, Kind, Service, Stage
from suite.report.layout import crossings, lay_out
from suite.report.message_map import parts_in_words, with_topics
from suite.report.placing import place
from suite.report.system_map import system_map

SVG = "{http://www.w3.org/2000/svg}"


def random_stage(rng: Random) -> Stage:
    """Services of up to four systems that call each other at random, cycles included."""
    systems = [s.name for s in SYNC.systems]
    names = [f"s{n}" for n in range(rng.randint(1, 12))]
    services = tuple(Service(name=n, summary="", system=rng.choice(systems)) for n in names)
    pairs = {(rng.choice(names), rng.choice(names)) for _ in range(rng.randint(0, 20))}
    channels = tuple(Channel(caller=a, callee=b, operations=("browse",)) for a, b in sorted(pairs) if a != b)
    return replace(SYNC, services=services, channels=channels)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_every_service_and_channel_of_the_shop_is_drawn(stage: Stage) -> None:
    drawing = system_map(stage)
    root = fromstring(drawing)
    texts = [e.text for e in root.iter() if e.tag.endswith("text")]
    paths = [e for e in root.iter() if "channel" in (e.get("class") or "").split()]
    assert {s.name for s in stage.services} <= set(texts)
    needed = messaging(stage)
    assert len(paths) == len(stage.channels) + len(needed.topics) + 1  # from producer to topic, and from the users
    assert {q.name for q in needed.queues} | {t.name for t in needed.topics} <= set(texts)
    assert drawing.count('class="queue"') == 3 * len(needed.queues)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_shop_is_read_from_left_to_right_without_a_mess(stage: Stage) -> None:
    layout = lay_out(stage)
    spots = layout.spots()
    assert spots["storefront"].column == 0
    assert all(spots[c.caller].column < spots[c.callee].column for c in stage.channels)
    # orders and accounts both tell email, analytics and cache: three crossings cannot be avoided
    assert crossings(layout.columns, layout.routes) <= 6


@pytest.mark.parametrize("seed", range(25))
def test_services_never_overlap_even_with_cycles(seed: int) -> None:
    stage = random_stage(Random(seed))
    placed = place(stage, lay_out(stage))
    boxes = [placed[s.name] for s in stage.services]
    assert [(a, b) for a, b in combinations(boxes, 2) if a.meets(b)] == [], f"seed {seed}"
    assert system_map(stage) == system_map(stage), f"seed {seed}"


def test_events_go_through_the_topic_of_their_producer() -> None:
    drawn = with_topics(ASYNC)
    events = [(c.caller, c.callee) for c in drawn.channels if c.kind is Kind.EVENT]
    assert ("orders", "orders-events.fifo") in events
    assert ("orders-events.fifo", "email") in events
    assert ("orders", "email") not in events
    assert with_topics(SYNC) is SYNC


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_maps_with_topics_cross_as_little(stage: Stage) -> None:
    layout = lay_out(with_topics(stage))
    assert crossings(layout.columns, layout.routes) <= 8


def test_every_queue_says_where_its_dead_letters_go() -> None:
    said = parts_in_words(ASYNC)
    assert len(said) == 9
    assert "topic orders-events.fifo: orders publishes OrderConfirmed to email-events; " in said[0] + said[1]
    assert all("-dlq" in words for words in said[2:])
    assert parts_in_words(SYNC) == ()


def test_systems_in_clusters_of_their_own_get_a_frame_each() -> None:
    text = system_map(STAGES["mesh"])
    assert text.count('class="cluster"') == 4
    assert "team-money" in text


def test_hostile_summary_stays_text() -> None:
    evil = replace(SYNC, services=tuple(replace(s, summary="</title><script>") for s in SYNC.services))
    assert "<script" not in system_map(evil)
