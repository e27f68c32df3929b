"""What speaks Cloud Map on this machine? ministack's handler behind an ASGI app of our own.

Where the handler is less strict than AWS the app makes up for it: two planes that create the same service at once
get one service, answers carry their revision and can be filtered by attributes, a first health status counts.
"""

from __future__ import annotations

import json
import os
import sys
import types
from typing import Any

from infra.local.hosting import Answer, Receive, Send, heard, tell
from infra.local.registryfaults import RegistryFaults

OPERATIONS_KEPT = 1000
"""Done operations that can still be asked for; the handler alone would keep all, for ever."""

INITIAL_HEALTH = "AWS_INIT_HEALTH_STATUS"
"""Attribute with the health of an instance before its first report (AWS Cloud Map API, RegisterInstance)."""


def load() -> Any:
    """Import the handler (0.3 s); call it once per process."""
    os.environ.update(MINISTACK_HOST="127.0.0.1")
    sys.modules.setdefault("ministack.services.lambda_svc", types.ModuleType("lambda_svc"))
    import ministack.services.servicediscovery as servicediscovery

    return servicediscovery


class RegistryApp:
    """The ASGI app. One per process: ministack keeps what is registered in module globals."""

    def __init__(self) -> None:
        self.handler = load()
        self.faults = RegistryFaults()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        target, body = await heard(scope, receive)
        await tell(send, await self.answer(target, body))

    async def answer(self, target: str, body: bytes) -> Answer:
        """What is said to one request; `target` names the action: 'Route53AutoNaming_v20170314.CreateService'."""
        action = target.rpartition(".")[2]
        try:
            data = json.loads(body or b"{}")
        except ValueError:
            data = {}  # the handler refuses the body in its own words
        refusal = self._refuse(action, data)
        if refusal is not None:
            return refusal
        said = await self.handler.handle_request("POST", "/", {"x-amz-target": target}, body, {})
        status, headers, answer = said[:3]
        if status == 200:
            answer = self._amend(action, data, answer)
        return status, headers, answer.encode() if isinstance(answer, str) else answer

    def look(self) -> dict[str, dict[str, str]]:
        """Health of every instance: {service: {instance id: 'HEALTHY'}}."""
        h = self.handler
        return {
            service["Name"]: {
                instance: h._instance_health_status.get(which, {}).get(instance, "HEALTHY")
                for instance in h._instances.get(which, {})
            }
            for which, service in h._services.items()
        }

    def _refuse(self, action: str, data: dict[str, Any]) -> Answer | None:
        if action != "CreateService":
            return None
        for service in self.handler._services.values():
            if (service["Name"], service["NamespaceId"]) == (data.get("Name"), data.get("NamespaceId")):
                which = service["Id"]
                said = {"__type": "ServiceAlreadyExists", "Message": "it is there", "ServiceId": which}
                return 400, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(said).encode()
        return None

    def _amend(self, action: str, data: dict[str, Any], answer: bytes) -> bytes:
        h = self.handler
        while len(h._operations) > OPERATIONS_KEPT:
            del h._operations[next(iter(h._operations))]
        if action == "RegisterInstance" and INITIAL_HEALTH in data.get("Attributes", {}):
            h._instance_health_status[data["ServiceId"]][data["InstanceId"]] = data["Attributes"][INITIAL_HEALTH]
        if action != "DiscoverInstances":
            return answer
        wanted = dict(data.get("QueryParameters") or {}).items()
        found = [i for i in json.loads(answer)["Instances"] if wanted <= i["Attributes"].items()]
        return self.faults.garble(json.dumps({"Instances": found, "InstancesRevision": self._revision(data)}).encode())

    def _revision(self, data: dict[str, Any]) -> int:
        status, _, answer = self.handler._discover_instances_revision(data)
        return int(json.loads(answer)["InstancesRevision"]) if status == 200 else 0
