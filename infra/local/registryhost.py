"""The process that is a deployment's registry: Cloud Map on 127.0.0.1.

    python -m infra.local.registryhost SOCKET PORT

What is registered lives in its memory only. AWS would keep it; here whoever registered it notices that it is gone and
registers it again. Questions, one JSON line each (infra.local.control): ping, look, fault, renew, undo.
"""

from __future__ import annotations

from infra.local.control import Handler, Message
from infra.local.hosting import main
from infra.local.registryapp import RegistryApp


class RegistryHost:
    """Answers the daemon."""

    def __init__(self, app: RegistryApp) -> None:
        self._app = app

    async def handle(self, message: Message) -> Message:
        match message["cmd"]:
            case "ping":
                return {}
            case "look":
                return {"services": self._app.look(), "leases": self._app.faults.seen()}
            case other:
                told = self._app.faults.handle(message)
                return {"error": f"unknown command {other!r}"} if told is None else told


def make(port: int) -> tuple[RegistryApp, Handler]:
    app = RegistryApp()
    return app, RegistryHost(app).handle


if __name__ == "__main__":
    main(make)
