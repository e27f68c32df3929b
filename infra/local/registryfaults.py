"""What can a registry do wrong? Answer nonsense, of another kind each time; held here until the time is over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from infra.local.heldfaults import HeldFaults

Instances = list[dict[str, Any]]

NO_PROTOCOL = b"<html>It works!</html>"
"""What comes instead of JSON."""


class RegistryFaults(HeldFaults):
    """The faults of one registry: it counts answers that made no sense."""

    def garble(self, answer: bytes) -> bytes:
        """An answer to DiscoverInstances, or nonsense in its place."""
        for held in self.of("garbage-discovery"):
            said = nonsense(held.count, answer)
            held.count += 1
            return said
        return answer


def nonsense(turn: int, answer: bytes) -> bytes:
    """The `turn`-th kind of nonsense that can be made of an answer, over and over. (pure)

    None of them may be believed by who knew the instances before, and none looks like an instance that has fallen ill.
    """
    which = turn % (len(_KINDS) + 1)
    if which == len(_KINDS):
        return NO_PROTOCOL
    said = json.loads(answer)
    return json.dumps({**said, "Instances": _KINDS[which](said["Instances"])}).encode()


def _elsewhere(instances: Instances) -> Instances:
    """At an address of the documentation's (RFC 5737), which nobody has."""
    return [_with(i, AWS_INSTANCE_IPV4="192.0.2.1") for i in instances]


def _nowhere(instances: Instances) -> Instances:
    return [_with(i, AWS_INSTANCE_PORT="99999") for i in instances]


def _foreign(instances: Instances) -> Instances:
    return [_with(i, identity="spiffe://elsewhere/nobody") for i in instances]


def _unknown(instances: Instances) -> Instances:
    return [{**i, "InstanceId": f"garbage-{n}"} for n, i in enumerate(instances)]


def _bare(instances: Instances) -> Instances:
    return [{**i, "Attributes": {}} for i in instances]


def _none(instances: Instances) -> Instances:
    return []


def _with(instance: dict[str, Any], **attributes: str) -> dict[str, Any]:
    return {**instance, "Attributes": {**instance["Attributes"], **attributes}}


_KINDS: tuple[Callable[[Instances], Instances], ...] = (_elsewhere, _nowhere, _foreign, _unknown, _bare, _none)
