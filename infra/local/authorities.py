"""Who vouches for the services of a deployment? A root of its own, and an intermediate for every cluster."""

from __future__ import annotations

import asyncio

from infra.local.context import Context
from infra.local.errors import Conflict, NotFound
from infra.local.state import SERVICE, AuthoritySpec


class Authority:
    """The certificate authority of one deployment, if it has one; its keys never leave its directory."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def put(self, name: str, spec: AuthoritySpec) -> dict[str, object]:
        """Have it. Raise Conflict if there is one for others."""
        state = self._context.state
        async with self._context.lock("authority", name):
            if state.authority is not None and state.authority != spec:
                raise Conflict(f"{state.name} has an authority for {', '.join(state.authority.clusters)} already")
            if state.authority is None:
                from infra.local.mesh import authority  # cryptography, which no other deployment needs

                directory = self._context.directory / "mesh"
                for cluster in spec.clusters:
                    (directory / cluster).mkdir(mode=0o700, parents=True, exist_ok=True)
                await asyncio.to_thread(authority.create, directory, spec.trust_domain, spec.clusters)
                state.authority = spec
                self._context.save()
        return self.get(name)

    def get(self, name: str) -> dict[str, object]:
        state = self._context.state
        if state.authority is None:
            raise NotFound(f"there is no authority {name!r} in {state.name}")
        return {"kind": "authority", "name": name, "state": "available", "trust_domain": state.authority.trust_domain}

    async def delete(self, name: str) -> None:
        """Idempotent. Raise Conflict while there are parts of a mesh, which trust it."""
        state = self._context.state
        trusting = [part for part, service in state.services.items() if service.spec.role != SERVICE]
        if state.authority is not None and trusting:
            raise Conflict(f"authority {name} is trusted by {', '.join(trusting)}; delete them first")
        state.authority = None
        self._context.save()
