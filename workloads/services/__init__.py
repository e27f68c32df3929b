"""How is one service started? `run(name)`, also from a process that has only imported this package.

Importing it pulls in every heavy library and starts nothing (no thread, loop or connection), so that a
process can import once and fork many services.
"""

from __future__ import annotations

import gc
import os
import sys

from workloads.broker.client import preload
from workloads.server import serve
from workloads.settings import Settings, SettingsError
from workloads.telemetry import TelemetryError, start_logging

preload()  # the AWS SDK's models, once for all that are forked from here: each would take 0.1 s to read them

WRONG_USAGE = 254
CRASHED = 255
GC_THRESHOLD = (10_000, 20, 20)
"""A request makes hundreds of short-lived objects and hardly a cycle: look for cycles less often than by default."""


def run(name: str) -> int:
    """Serve until SIGTERM; return the exit status: 0 after a drain, 254 for bad settings, 255 if it cannot start."""
    try:
        settings = Settings.from_env({"SHOP_SERVICE": name, **os.environ})
        if settings.service != name:
            raise SettingsError(f"asked to run {name!r}, but SHOP_SERVICE is {settings.service!r}")
    except SettingsError as error:
        print(f"workloads.services: {error}", file=sys.stderr)
        return WRONG_USAGE
    start_logging(settings)
    gc.freeze()  # what was imported never becomes garbage: collections need not visit it
    gc.set_threshold(*GC_THRESHOLD)
    try:
        serve(settings)
    except (OSError, TelemetryError) as error:
        print(f"workloads.services: {name} cannot start: {error}", file=sys.stderr)
        return CRASHED
    return 0
