"""Which ports does a service have besides its own, so that others know them before it runs?"""

from __future__ import annotations

from collections.abc import Sequence

from infra.local.context import Context
from infra.local.errors import NotFound


class NamedPorts:
    """The named ports of one deployment's services: chosen once, the same until the service is deleted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ports = context.state.ports

    def put(self, service: str, names: Sequence[str]) -> dict[str, object]:
        """Have these ports for a service, whether or not it exists yet; they are held until it listens."""
        mine = self._ports.setdefault(service, {})
        missing = [name for name in names if name not in mine]
        for name in missing:
            mine[name] = self._context.reserve(service)
        if missing:
            self._context.save()
        return self.get(service)

    def get(self, service: str) -> dict[str, object]:
        if service not in self._ports:
            raise NotFound(f"there are no ports of {service!r} in {self._context.state.name}")
        return {"kind": "port", "name": service, "state": "reserved", **self.outputs(service)}

    def delete(self, service: str) -> None:
        """Give them back; idempotent, and nothing happens while the service exists."""
        if service not in self._context.state.services:
            self.release(service)
            if self._ports.pop(service, None) is not None:
                self._context.save()

    def outputs(self, service: str) -> dict[str, object]:
        """By what they are called in references: 'listen_inbound'."""
        return {f"listen_{name}": f"127.0.0.1:{port}" for name, port in self._ports.get(service, {}).items()}

    def hold(self, service: str) -> None:
        """Keep them from others while the service does not listen."""
        for port in self._ports.get(service, {}).values():
            self._context.ports.hold(port)

    def release(self, service: str) -> None:
        """The service listens, or is gone for good."""
        for port in self._ports.get(service, {}).values():
            self._context.ports.release(port)
