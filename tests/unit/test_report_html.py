"""The HTML report: complete, self-contained, inert whatever the run calls its things, and never silent about a leak."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from suite.report import html, junit
from suite.report.palette import DARK, LIGHT
from suite.report.reading import load
from suite.report.testing import Sample, hostile, sample
from suite.report.text import print_summary

VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; remembers tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.unbalanced: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(f"/{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [a[attribute] for _, a in self.tags if attribute in a]


def render(run: Sample) -> str:
    return html.render(run.verdict, run.series, run.stages)


@pytest.fixture(scope="module")
def invalid() -> Sample:
    return sample("invalid", stages=("sync", "async", "mesh"))


@pytest.fixture(scope="module")
def invalid_html(invalid: Sample) -> str:
    return render(invalid)


@pytest.fixture(scope="module")
def both() -> Sample:
    return sample("valid", stages=("sync", "async"))


@pytest.fixture(scope="module")
def both_page(both: Sample) -> Page:
    return Page(render(both))


@pytest.fixture(scope="module")
def page(invalid_html: str) -> Page:
    return Page(invalid_html)


def test_verdict_is_the_first_text_of_the_body(page: Page) -> None:
    body = "".join(page.text).split("Skip to the matrix", 1)[1]
    assert body.split()[:2] == ["×", "INVALID"]


def test_page_is_well_formed(page: Page) -> None:
    assert page.unbalanced == []


def test_page_loads_nothing_from_elsewhere(invalid_html: str, page: Page) -> None:
    assert page.values("src") == []
    links = {v for v in page.values("href") if not v.startswith("#")}
    assert links == {"data:,", "verdict.json", "junit.xml", "history.jsonl", "logs/"}
    assert "@import" not in invalid_html
    assert set(re.findall(r"url\((.)", invalid_html)) <= {"#"}


def test_every_cell_opens_its_own_words_without_a_script(invalid: Sample, page: Page) -> None:
    ids = page.values("id")
    targets = page.values("popovertarget")
    cells = sum(len(s["matrix"]) + len(s["pooled"]) for s in invalid.verdict["stages"].values())
    assert len(ids) == len(set(ids))
    assert set(targets) <= set(ids)
    assert len(page.values("popover")) == cells


def test_leaks_are_marked_in_the_cell_in_the_row_and_at_the_top(page: Page) -> None:
    leaking = [a for _, a in page.tags if "leak" in a.get("class", "").split() and "cell" in a["class"].split()]
    labels = [v for v in page.values("aria-label") if v.endswith("a leak")]
    text = "".join(page.text)
    assert len(leaking) == len(labels) == 3
    assert "sync: payments-paused × track-order" in text.split("Blast radius")[0]


def test_first_screen_of_several_stages_is_their_comparison(both_page: Page) -> None:
    ids = both_page.values("id")
    text = "".join(both_page.text)
    assert ids.index("comparison") < ids.index("matrix") < ids.index("changed")
    assert "radius" not in ids
    assert "The blast radius falls: " in text
    assert "orders commands payments by message: there is no such wire" in text
    assert "sync has no broker" in text
    segments = [a["title"].partition(":")[0] for _, a in both_page.tags if a.get("class", "").startswith("piece ")]
    assert segments == ["failing", "degraded", "failing", "delayed", "degraded"]


def test_a_single_stage_keeps_its_own_first_screen() -> None:
    ids = Page(render(sample("valid", faults=3))).values("id")
    assert "radius" in ids
    assert {"comparison", "changed"}.isdisjoint(ids)


def test_delayed_cells_tell_what_was_completed_and_how_it_was_before(both_page: Page) -> None:
    cells = [a["class"] for _, a in both_page.tags if a.get("class", "").startswith("cell m-delayed")]
    text = "".join(both_page.text)
    assert len(cells) > 10
    assert "late; the slowest took" in text
    assert "against syncbetter; there place-order fails because" in text


def test_completions_and_dead_letters_are_listed(both_page: Page) -> None:
    text = "".join(both_page.text)
    assert "order-completedplace-order" in text
    assert "payments-commandspaymentsmalformed" in text


def test_page_of_an_old_run_without_comparison_shows_its_stages(both: Sample) -> None:
    verdict = {k: v for k, v in both.verdict.items() if k != "comparison"}
    assert 'id="radius"' in html.render(verdict, {}, both.stages)


def test_report_of_a_seventeen_minute_run_stays_under_1250_kilobytes(invalid_html: str) -> None:
    assert len(invalid_html.encode()) < 1_250_000


def test_names_from_the_run_cannot_become_markup(invalid: Sample, page: Page) -> None:
    attacked = Page(render(hostile(invalid)))
    assert attacked.unbalanced == []
    assert [t for t, _ in attacked.tags if t in {"img", "iframe"}] == []
    assert sum(t == "script" for t, _ in attacked.tags) == 1
    assert [k for _, a in attacked.tags for k in a if k.startswith("on")] == []
    assert {t for t, _ in attacked.tags} == {t for t, _ in page.tags}
    assert "onerror=alert(1)" in "".join(attacked.text)


def test_control_characters_do_not_reach_the_page(invalid: Sample) -> None:
    assert re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", render(hostile(invalid))) is None


def test_unknown_run_says_so_and_hatches_what_was_not_decided() -> None:
    text = render(sample("unknown"))
    undecided = [a for _, a in Page(text).tags if a.get("class") == "cell m-unknown unknown"]
    assert "<title>UNKNOWN" in text
    assert len(undecided) == 3


def test_better_than_predicted_is_told_softly() -> None:
    run = sample("valid")
    text = render(run)
    assert "<title>VALID" in text
    assert text.count('class="cell m-unaffected better"') == 1
    assert 'class="troubles"' not in text


def test_known_gap_of_the_stage_is_explained_in_its_cell() -> None:
    text = render(sample("valid", faults=2))
    assert "known gap</dt><dd>lost-email: orders commits the confirmation" in text


def test_stage_without_history_or_model_is_still_reported() -> None:
    run = sample("invalid", faults=8)
    text = html.render(run.verdict, {}, {})
    assert "There is no history to draw." in text
    assert "payments-paused" in text


def test_nothing_at_all_is_reported_as_unknown() -> None:
    assert "<title>UNKNOWN" in html.render({}, {}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
STAGE = st.dictionaries(
    st.sampled_from(["verdict", "up_s", "blast_radius", "operations", "matrix", "pooled", "faults", "checks"])
    | st.sampled_from(["completions", "dead_letters"]),
    JSON | st.lists(st.dictionaries(st.sampled_from(["fault", "operation", "measured", "n", "bad", "evidence"]), JSON)),
    max_size=8,
)
NAMES = st.sampled_from(["sync", "async", "browse"])
PARTS = st.dictionaries(
    st.sampled_from(["stages", "steps", "before", "after", "falls", "bought", "parts", "shared", "faults", "missing"])
    | st.sampled_from(["operations", "operation", "fault", "effects", "completions", "round_trips", "memory_mb"]),
    JSON | st.dictionaries(NAMES, JSON, max_size=2) | st.lists(st.dictionaries(NAMES, JSON, max_size=2), max_size=2),
    max_size=6,
)
COMPARISON = st.dictionaries(
    st.sampled_from(
        ["verdict", "falls", "because", "stages", "steps", "blast_radius", "operations", "faults", "price"]
    ),
    JSON | PARTS | st.lists(PARTS, max_size=2) | st.dictionaries(NAMES, PARTS, max_size=2),
    max_size=9,
)
DOCUMENT = st.dictionaries(
    st.sampled_from(["verdict", "stages", "seed", "rate", "duration_s", "command", "environment", "comparison"]),
    JSON | st.dictionaries(st.text(max_size=5), STAGE, max_size=2) | COMPARISON,
    max_size=8,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(DOCUMENT)
def test_any_document_can_be_reported_and_garbage_is_never_valid(document: dict[str, object]) -> None:
    run = load(document)
    assert run.verdict == (document.get("verdict") if document.get("verdict") in ("valid", "invalid") else "unknown")
    html.render(document, {}, {})
    junit.render(document)
    print_summary(document, Console(file=io.StringIO()))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, two: str) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(theme: dict[str, str]) -> None:
    pairs = [(k.removesuffix("-ink"), k) for k in theme if k.endswith("-ink")]
    pairs += [(ground, ink) for ground in ("ground", "panel") for ink in ("ink", "muted", "link")]
    pairs += [("unknown-stripe", "unknown-ink")]
    assert {
        p: round(contrast(theme[p[0]], theme[p[1]]), 2) for p in pairs if contrast(theme[p[0]], theme[p[1]]) < 4.5
    } == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_that_carry_meaning_stand_out_from_the_ground(theme: dict[str, str]) -> None:
    meaning = ("median", "strong-line", "stage-0", "stage-1", "stage-2", "call", "command", "event", "failing")
    assert {n: contrast(theme["ground"], theme[n]) for n in meaning if contrast(theme["ground"], theme[n]) < 3} == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_effects_are_ordered_by_lightness_so_that_no_colour_vision_is_needed(theme: dict[str, str]) -> None:
    steps = [contrast(theme["ground"], theme[e]) for e in ("unaffected", "degraded", "delayed", "failing")]
    assert steps == sorted(steps)
    assert min(b / a for a, b in pairwise(steps)) > 1.12
