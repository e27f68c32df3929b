"""What would be done, without doing it: the port `chaos.lease.Cloud` for a dry run.

It reads the real deployment, so that every guard is put to the test, and changes nothing. A fault that
is `dry` never bites, so no dry run can be mistaken for evidence.
"""

from __future__ import annotations

from chaos.faults import Fault
from chaos.lease import Cloud, LeaseState, Live, State


class DryRun:
    """Reads through another cloud, injects nothing."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def live(self, deployment: str) -> Live:
        return self._cloud.live(deployment)

    def put(self, deployment: str, lease: str, fault: Fault, ttl_s: float) -> LeaseState:
        would = f"inject {fault.kind} into {fault.target} of {deployment} for {ttl_s:g} s at a time"
        return LeaseState(lease=lease, state=State.DRY, fault=fault.spec(), evidence={"would": would})

    def renew(self, deployment: str, lease: str, ttl_s: float) -> LeaseState:
        return LeaseState(lease=lease, state=State.DRY, evidence={"would": f"renew {lease} for {ttl_s:g} s"})

    def look(self, deployment: str, lease: str) -> LeaseState:
        return LeaseState(lease=lease, state=State.DRY)

    def end(self, deployment: str, lease: str) -> LeaseState:
        return LeaseState(lease=lease, state=State.DRY, evidence={"would": f"undo {lease}"})

    def depth(self, deployment: str, queue: str) -> int:
        return self._cloud.depth(deployment, queue)
