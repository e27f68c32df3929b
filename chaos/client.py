"""The local cloud's API, as far as faults need it, over its unix socket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from chaos.faults import Fault
from chaos.lease import CloudError, LeaseState, Live, State
from stages.deployment import FORMAT, Deployment, DeploymentError

ASK_TIMEOUT_S = 10.0
"""For everything that does not wait for a service to come up."""

RENEW_TIMEOUT_S = 2.0
"""An answer that takes longer leaves too little of the lease to try again."""

UNDO_TIMEOUT_S = 60.0
"""The undo of a cluster's outage starts every service of it again and waits for them."""

UNDO_PATIENCE_S = 6.0
"""How long an undo tries to reach a local cloud that is just being restarted."""


class LocalCloud:
    """The port `chaos.lease.Cloud` on a local cloud; opens its connection with the first request. Close it."""

    def __init__(self, control: str) -> None:
        """`control` is the path of the socket."""
        self._control = control
        # verify=False: nothing is encrypted on a unix socket, and loading certificates costs 20 ms
        transport = httpx.HTTPTransport(uds=control, verify=False)
        self._http = httpx.Client(transport=transport, base_url="http://local-cloud", timeout=ASK_TIMEOUT_S)

    def __enter__(self) -> LocalCloud:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; leases stay as they are."""
        self._http.close()

    def live(self, deployment: str) -> Live:
        raw = self._ask("GET", f"/deployments/{deployment}")
        return Live(
            deployment=_deployment(raw.get("deployment")),
            faults=tuple(state for f in raw.get("faults", ()) if (state := _state(f)).state is State.ON),
            brokers=(brokers := _names(raw, "broker", lambda r: bool(r.get("embedded")))),
            queues=_names(raw, "queue", lambda r: r.get("broker") in brokers),
            registries=_names(raw, "registry", lambda _: True),
            authorities=_names(raw, "authority", lambda _: True),
        )

    def put(self, deployment: str, lease: str, fault: Fault, ttl_s: float) -> LeaseState:
        body = {"fault": fault.spec(), "ttl_s": ttl_s}
        raw = self._ask("PUT", self._lease(deployment, lease), body, timeout_s=ASK_TIMEOUT_S + fault.slow_s)
        return _state(raw, lease)

    def renew(self, deployment: str, lease: str, ttl_s: float) -> LeaseState:
        try:
            path = f"{self._lease(deployment, lease)}/renew"
            return _state(self._ask("POST", path, {"ttl_s": ttl_s}, timeout_s=RENEW_TIMEOUT_S), lease)
        except CloudError as error:
            if error.status in {404, 409}:  # ended: say how, if that is still known
                return self.look(deployment, lease)
            raise

    def look(self, deployment: str, lease: str) -> LeaseState:
        try:
            return _state(self._ask("GET", self._lease(deployment, lease)), lease)
        except CloudError as error:
            if error.status == 404:
                return LeaseState(lease=lease, state=State.NONE)
            raise

    def end(self, deployment: str, lease: str) -> LeaseState:
        deadline = time.monotonic() + UNDO_PATIENCE_S
        while True:
            try:
                raw = self._ask("DELETE", self._lease(deployment, lease), timeout_s=UNDO_TIMEOUT_S)
                return _state({"state": State.UNDONE, **raw}, lease)
            except CloudError as error:
                if error.status == 404:
                    return LeaseState(lease=lease, state=State.NONE)
                if error.status is not None or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)  # nobody listens: a local cloud that starts again adopts its faults

    def depth(self, deployment: str, queue: str) -> int:
        raw = self._ask("GET", f"/deployments/{deployment}/queues/{queue}")
        try:
            return sum(int(raw["messages"][which]) for which in ("visible", "in_flight", "delayed"))
        except (KeyError, TypeError, ValueError) as error:
            said = f"the local cloud cannot say how deep {queue!r} is now: its state is {raw.get('state')}"
            raise CloudError(said, definite=True) from error

    def _lease(self, deployment: str, lease: str) -> str:
        return f"/deployments/{deployment}/faults/{lease}"

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = ASK_TIMEOUT_S
    ) -> dict[str, Any]:
        where = f"local cloud at {self._control}: {method} {path}"
        try:
            answer = self._http.request(method, path, json=body, timeout=timeout_s)
            raw = answer.json() if answer.content else {}
        except httpx.ConnectError as error:
            raise CloudError(f"{where}: nobody answers ({error}); `stages status` tells why", definite=True) from error
        except (httpx.HTTPError, ValueError) as error:
            raise CloudError(f"{where}: {type(error).__name__}: {error}", definite=method == "GET") from error
        if answer.is_error:
            said = "; ".join([str(raw.get("error", "")), *map(str, raw.get("problems", ()))])
            raise CloudError(
                f"{where}: {answer.status_code} {said}", definite=answer.status_code < 500, status=answer.status_code
            )
        return dict(raw)


def _state(raw: Mapping[str, Any], lease: str = "") -> LeaseState:
    try:
        return LeaseState(
            lease=str(raw.get("lease", lease)),
            # on its way on, or on its way off: as long as that is not over, it may bite
            state=State.ON if raw["state"] in {"intent", "undoing"} else State(raw["state"]),
            fault=raw.get("fault") or {},
            evidence=raw.get("evidence") or {},
        )
    except (KeyError, ValueError) as error:
        raise CloudError(f"not the state of a lease: {raw!r}", definite=False) from error


def _names(raw: Mapping[str, Any], kind: str, ours: Callable[[Mapping[str, Any]], bool]) -> frozenset[str]:
    """Of those resources of a kind that the local cloud runs itself."""
    return frozenset(str(r.get("name")) for r in raw.get("resources", ()) if r.get("kind") == kind and ours(r))


def _deployment(raw: Any) -> Deployment:
    """The record as an object, or as the text of one; one that leaves its format out means the current one."""
    try:
        return Deployment.from_json(raw if isinstance(raw, str) else json.dumps({"format": FORMAT, **raw}))
    except (DeploymentError, TypeError) as error:
        raise CloudError(f"the local cloud's deployment record is unreadable: {error}", definite=True) from error
