"""Which target can take which class of fault, and why not where it cannot."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.spec import CLASSES

LOCAL = "local"

_AWS = "stages run on the local target only so far; on AWS this will be a FIS experiment with an alarm that stops it"
_K8S = "stages run on the local target only so far; on Kubernetes this needs a holder of leases in the cluster"

SUPPORT: Mapping[str, Mapping[str, str | None]] = {
    LOCAL: dict.fromkeys(CLASSES),
    "k8s": dict.fromkeys(CLASSES, _K8S),
    "aws": dict.fromkeys(CLASSES, _AWS),
}
"""Target -> class of fault -> None where it is supported, else the reason why it is refused."""


def refusal(target: str, kind: str) -> str | None:
    """Why a target cannot take a class of fault; None if it can.

    >>> refusal("local", "kill") is None
    True
    """
    if target not in SUPPORT:
        return f"unknown target {target!r}; known are {', '.join(SUPPORT)}"
    if kind not in SUPPORT[target]:
        return f"unknown class of fault {kind!r}; known are {', '.join(CLASSES)}"
    reason = SUPPORT[target][kind]
    return reason and f"target {target!r} does not support {kind}: {reason}"
