"""What sidecars wrote is read as it is meant, and garbage never stops the rest."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.signals_clock import Offset, take
from suite.signals_lines import Line, Outlier, access_line, outlier, read

OUT = {
    "start": "1764000000.123456",
    "side": "out",
    "part": "storefront-sidecar",
    "edge": "storefront-inventory",
    "version": "v1",
    "method": "GET",
    "path": "/products?page=2",
    "status": 503,
    "flags": "URX,UF",
    "duration_ms": 12,
    "duration_us": 12345,
    "upstream_ms": None,
    "bytes": 211,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "gateway": "fulfilment-gateway",
    "attempts": 2,
}
EJECTED = {
    "type": "CONSECUTIVE_5XX",
    "cluster_name": "inventory_v1",
    "upstream_url": "127.0.0.1:22001",
    "action": "EJECT",
    "num_ejections": 1,
    "enforced": True,
    "eject_consecutive_event": {},
    "timestamp": "2025-11-24T16:00:00.123456789Z",
    "secs_since_last_action": "0",
}


def test_a_line_of_the_way_out_says_all_that_is_known_of_an_exchange() -> None:
    assert access_line(OUT) == Line(
        start_ns=1_764_000_000_123_456_000,
        side="out",
        part="storefront-sidecar",
        edge="storefront-inventory",
        version="v1",
        peer="",
        method="GET",
        path="/products",
        status=503,
        flags=("URX", "UF"),
        duration_ms=12.345,
        upstream_ms=None,
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        parent_id="00f067aa0ba902b7",
        gateway="fulfilment-gateway",
        attempts=2,
    )


def test_what_envoy_does_not_know_is_a_dash_or_null_and_becomes_nothing() -> None:
    dashes = dict.fromkeys(("version", "peer", "path", "flags", "traceparent", "upstream_ms", "attempts"), "-")
    found = access_line(OUT | dashes | {"side": "ingress", "edge": None, "gateway": None, "status": 0})
    assert (found.edge, found.gateway, found.flags, found.trace_id, found.attempts, found.good) == (
        "users-storefront",
        "",
        (),
        "",
        1,
        False,
    )


def test_an_event_of_the_outlier_log_is_an_ejection_or_a_return() -> None:
    ejected = outlier(EJECTED, "storefront-sidecar")
    assert ejected == Outlier(
        at_ns=1_764_000_000_123_456_000,
        part="storefront-sidecar",
        cluster="inventory_v1",
        address="127.0.0.1:22001",
        ejected=True,
        why="CONSECUTIVE_5XX",
        times=1,
        enforced=True,
    )
    assert not outlier(EJECTED | {"action": "UNEJECT"}, "storefront-sidecar").ejected


def test_cut_and_strange_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    good = json.dumps(OUT)
    lines = [good, good[:40], "\x00\xff", "[]", '{"side": "out"}', json.dumps(OUT | {"start": "soon"}), "", good[:-1]]
    (tmp_path / "storefront-sidecar.access.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with gzip.open(tmp_path / "storefront-sidecar.outliers.jsonl.gz", "wt") as out:
        out.write(json.dumps(EJECTED) + "\n" + json.dumps(EJECTED | {"action": "DANCE"}) + "\n")
    (tmp_path / "orders-sidecar.outliers.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "storefront.jsonl").write_text("a span is none of it\n")
    found = read(tmp_path)
    assert (len(found.lines), len(found.outliers), found.unreadable, found.parts) == (1, 1, 8, ("storefront-sidecar",))


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere").lines == ()


@given(st.dictionaries(st.sampled_from(sorted(OUT)), st.none() | st.text() | st.floats() | st.lists(st.integers())))
def test_no_value_of_a_line_makes_reading_fail_otherwise_than_it_says(strange: dict[str, object]) -> None:
    with suppress(ValueError, TypeError, KeyError):
        access_line(OUT | strange)


def test_the_two_clocks_are_laid_beside_each_other_as_exactly_as_they_could_be_read() -> None:
    ticks = iter([100, 130, 200, 204, *range(300, 2000, 30)])
    assert take(lambda: 5000, lambda: next(ticks)) == Offset(offset_ns=5000 - 202, off_by_ns=2)


def test_a_clock_that_was_set_during_the_run_makes_its_times_doubtful() -> None:
    begin, end = Offset(offset_ns=1000, off_by_ns=3), Offset(offset_ns=1400, off_by_ns=5)
    assert begin.until(end) == Offset(offset_ns=1000, off_by_ns=405)
    assert begin.monotonic(1500) == 500


@pytest.mark.parametrize("side", ["sideways", "", None])
def test_a_line_of_no_side_is_none(side: str | None) -> None:
    with pytest.raises(ValueError, match="neither"):
        access_line(OUT | {"side": side})
