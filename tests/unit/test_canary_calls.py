"""Access logs read while sidecars write them."""

from __future__ import annotations

import json
from pathlib import Path

from suite.canary_calls import AccessLogs
from suite.signals_clock import Offset

OFFSET = Offset(offset_ns=1_700_000_000 * 10**9, off_by_ns=0)


def line(second: float, side: str = "out", version: str = "v1") -> str:
    written = {
        "start": f"{1_700_000_000 + second:.6f}",
        "side": side,
        "part": "storefront-sidecar",
        "edge": "storefront-inventory",
        "version": version,
        "method": "GET",
        "path": "/products",
        "status": 200,
        "flags": "-",
        "duration_ms": 4,
    }
    return json.dumps(written) + "\n"


def test_lines_are_given_once_and_whole_on_the_runs_clock_and_nothing_of_before(tmp_path: Path) -> None:
    log = tmp_path / "storefront-sidecar.access.jsonl"
    log.write_text(line(1))
    logs = AccessLogs(tmp_path, ["storefront-sidecar", "accounts-sidecar"], OFFSET)
    assert list(logs.new()) == []
    with log.open("a") as file:
        file.write(line(2, version="v2") + "garbage\n[]\n" + line(3, side="in") + line(4)[:20])
    (found,) = logs.new()
    assert (found.start_ns, found.version, found.edge) == (2 * 10**9, "v2", "storefront-inventory")
    with log.open("a") as file:
        file.write(line(4)[20:])
    assert [x.start_ns for x in logs.new()] == [4 * 10**9]
    (tmp_path / "accounts-sidecar.access.jsonl").write_text(line(5))
    assert len(logs.new()) == 1
