"""A process that has imported the services can fork them: the import is complete, and starts nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

LOOK = """
import json, os, sys, threading
files = len(os.listdir("/proc/self/fd"))
import workloads.services
heavy = ["aiohttp", "fastapi", "opentelemetry.sdk.trace", "pydantic.v1", "sqlalchemy.dialects.sqlite", "uvloop"]
print(json.dumps({
    "threads": threading.active_count(),
    "files": len(os.listdir("/proc/self/fd")) - files,
    "missing": [name for name in heavy if name not in sys.modules],
    "ours": [name for name in ("stages", "infra", "chaos", "loadtests", "suite", "locust") if name in sys.modules],
}))
"""


def test_importing_the_services_loads_everything_and_starts_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"threads": 1, "files": 0, "missing": [], "ours": []}
