"""What an experiment does: inject a fault, hold it, undo it. Thin functions for Chaos Toolkit.

Each takes `deployment` (name or path of its record, '' if only one runs) and `name`, the fault's name,
which with the experiment's token names its lease; `configuration` is filled in by Chaos Toolkit.
"""

import time
from pathlib import Path
from typing import Any

from chaos.guard import Facts, Refused, check, our_uid
from chaos.lease import LeaseState
from chaos.spec import FaultError, from_spec
from chaos.target import opened

__all__ = ["hold", "inject", "undo"]


def inject(
    deployment: str, name: str, fault: dict[str, Any], configuration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Inject a fault under a lease of some seconds, once every guard has let it pass.

    `fault` is its spec, such as {"kind": "kill", "service": "payments"}. Raises Refused (nothing was
    done) or CloudError (its `definite` says whether nothing was done).
    """
    try:
        wanted = from_spec(fault)
    except FaultError as error:
        raise Refused(str(error)) from error
    with opened(deployment, configuration) as target:
        lease = target.lease(name)
        check(
            Facts(
                fault=wanted,
                lease=lease.name,
                record=target.record,
                live=lambda: target.cloud.live(target.record.name),
                uid=our_uid(),
            )
        )
        return _said(lease.take(wanted))


def hold(
    deployment: str, name: str, seconds: float, until: str = "", configuration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Keep the fault on for `seconds`, or until the file `until` exists, by renewing its lease each second.

    Raises LeaseLost if the fault went off meanwhile.
    """
    with opened(deployment, configuration) as target:
        kept = target.lease(name).keep(
            float(seconds), Path(until) if until else None, clock=time.monotonic, sleep=time.sleep
        )
    return {"held_s": round(kept.held_s, 3), "ended_by": kept.ended_by, "renewals": kept.renewals}


def undo(deployment: str, name: str, configuration: dict[str, Any] | None = None) -> dict[str, Any]:
    """Undo the fault and wait until its target is up again; does nothing if it is off.

    Raises CloudError if it may still be on: it then ends with its lease, and `stages heal` clears it at once.
    """
    with opened(deployment, configuration) as target:
        return _said(target.lease(name).end())


def _said(state: LeaseState) -> dict[str, Any]:
    return {"lease": state.lease, "state": str(state.state), "evidence": dict(state.evidence)}
