"""Does a fault of the broker bite? Looked at over a service's wire to it, as that service meets it.

What happens to one message in many is seen by nobody but the broker without taking part, so there its own
counters are the witness: what it delivered twice, what it cut. (They are counted where it happens, not where
it is ordered, so a fault that nothing ran into has none.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.ask import SILENCE_S, Sight, ask
from chaos.faults_broker import BrokerDuplicate, BrokerPoison, BrokerSlow, BrokerThrottle
from stages.deployment import Deployment

LOOKS = 40
"""Harmless requests in one look for throttling, milliseconds each: at a share of 0.05 one look in eight sees none."""

LIST_QUEUES = (
    {"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"},
    b'{"MaxResults": 1}',
)
"""Reads, and changes nothing."""


def address(deployment: Deployment, broker: str) -> str:
    """A service's way to the broker; raise KeyError if no service has one."""
    listening = [wire.listen for wire in deployment.wires.values() if wire.callee == broker]
    if not listening:
        raise KeyError(broker)
    return f"http://{listening[0]}"


def slow(fault: BrokerSlow, deployment: Deployment) -> Sight:
    """One request takes both delays. A machine that stands still so long is told apart by what the broker counted."""
    wanted_s = 2 * fault.delay_ms / 1000
    reply = ask(address(deployment, fault.broker), timeout_s=SILENCE_S + wanted_s)
    said = f"a request to the {fault.broker} takes {reply.took_s * 1000:.0f} ms, {wanted_s * 1000:.0f} ms of it added"
    return Sight(bites=reply.end == "answered" and reply.took_s >= wanted_s, said=said)


def throttles(fault: BrokerThrottle, deployment: Deployment) -> Sight:
    """At least one of some requests is refused with the words of SQS."""
    url = address(deployment, fault.broker)
    looks = refused = 0
    while not refused and looks < LOOKS:
        reply = ask(url, timeout_s=SILENCE_S, path="/", post=LIST_QUEUES)
        looks += 1
        refused += reply.status == 400 and b"Throttl" in reply.body
    return Sight(bites=refused > 0, said=f"the {fault.broker} throttled {refused} of {looks} requests")


def told(fault: BrokerDuplicate | BrokerPoison, evidence: Mapping[str, Any]) -> Sight:
    """What the broker counted; nothing, as long as no message met the fault."""
    seen = evidence.get("seen")
    return Sight(bites=bool(seen), said=str(seen or f"{fault.target}: no message has met the fault yet"))
