"""sweep.json as one HTML page: latency against distance, a line per operation."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any


def render(document: Mapping[str, Any]) -> str:
    """The page, self-contained."""
    rows = [
        f"<tr><td>{escape(stage)}<td>{escape(name)}<td>{found['slope']}<td>{found['predicted']}<td>{found['verdict']}"
        for stage, parts in document["stages"].items()
        for name, found in parts["operations"].items()
    ]
    return f"<!doctype html><title>distance</title><table>{''.join(rows)}</table>"
