"""Faults for a running stage: a Chaos Toolkit extension in which every fault is a lease.

Read `chaos.faults` (what can go wrong), `chaos.lease` (for how long), `chaos.guard` (where never) and
`chaos.experiment` (how it is run); `chaos.driver` runs experiments from a process that must not import
Chaos Toolkit. How to add a fault: chaos/README.md.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__all__ = ["discover"]


def discover(discover_system: bool = True) -> dict[str, Any]:
    """What `chaos discover` asks of an extension: its actions and probes."""
    # Imported here: those who only want a fault or the driver do not pay for Chaos Toolkit.
    from chaoslib.discovery.discover import discover_actions, discover_probes, initialize_discovery_result

    found: dict[str, Any] = initialize_discovery_result("chaos", version("staged-decoupling"), "staged-decoupling")
    found["activities"] = [*discover_actions("chaos.actions"), *discover_probes("chaos.probes")]
    return found
