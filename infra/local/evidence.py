"""What shows that a fault bites? One sentence per kind, or None while nothing has been seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any


def seen_on_wire(kind: str, found: Mapping[str, Any]) -> str | None:
    """From what the wire's counters have gone up by since the fault began."""
    since = found["since"]
    match kind:
        case "latency" | "bandwidth" if since["pieces_delayed"]:
            mean = since["held_ms"] / since["pieces_delayed"]
            return f"{since['pieces_delayed']} pieces held for {mean:.0f} ms on average"
        case "blackhole" if since["bytes_swallowed"] or since["accepted"]:
            return f"{since['bytes_swallowed']} bytes swallowed, {since['accepted']} connections led nowhere"
        case "reset" if since["resets"]:
            return f"{since['resets']} connections reset"
        case "refuse" if found.get("refused"):
            return "a connection attempt was refused"
    return None


def seen_by_holder(kind: str, seen: Mapping[str, Any]) -> str | None:
    """From what the fault's holder wrote, and what we saw of its target ourselves."""
    match kind:
        case "pause" | "broker-outage" | "registry-outage" if seen.get("process_state") == "T":
            return f"process {seen['pid']} is stopped"
        case "cluster-freeze" if seen.get("stopped") and not seen["running"]:
            return f"{len(seen['stopped'])} processes are stopped"
        case "cpu-starve" if seen.get("periods"):
            return f"process {seen['pid']} was stopped in {seen['periods']} periods"
        case "database-locked" if seen.get("witness"):
            return f"a reader was told: {seen['witness']}"
        case "database-slow" if seen.get("holds"):
            return f"the lock was taken {seen['holds']} times"
    return None


def seen_at_broker(kind: str, count: int) -> str | None:
    """From what the broker counted since the fault began."""
    if not count:
        return None
    return {
        "broker-slow": f"{count} requests and answers waited",
        "broker-throttle": f"{count} requests were refused",
        "broker-duplicate": f"{count} messages were kept although they were deleted",
        "broker-poison": f"{count} messages were cut in half",
    }[kind]


def try_database(path: Path) -> str | None:
    """What a reader that does not wait is told; None if it can read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return str(error)
    return None
