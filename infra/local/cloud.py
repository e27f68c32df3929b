"""What does this machine's local cloud run? All deployments of one home: created, adopted, deleted, healed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Sequence
from typing import Any

from infra.local.context import Context, log
from infra.local.deployed import Deployed, sweep
from infra.local.errors import Conflict, Invalid, NotFound
from infra.local.home import Home
from infra.local.ports import Ports
from infra.local.processes import ProcessId, Reaper, alive, identify
from infra.local.requests import DeploymentRequest
from infra.local.state import DeploymentState, boot_id


class Cloud:
    """All deployments."""

    def __init__(self, home: Home, ports: Ports, reaper: Reaper) -> None:
        self.home = home
        self._ports = ports
        self._reaper = reaper
        self._deployments: dict[str, Deployed] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._background: set[asyncio.Task[None]] = set()

    @property
    def empty(self) -> bool:
        return not self._deployments and not self._background

    def names(self) -> list[str]:
        return sorted(self._deployments)

    def get(self, name: str) -> Deployed:
        """Raise NotFound."""
        found = self._deployments.get(name)
        if found is None:
            raise NotFound(f"there is no deployment {name!r} in {self.home.path}; known: {', '.join(self.names())}")
        return found

    async def adopt(self) -> None:
        """Take over what another daemon left on disk; finish what it was deleting."""
        for directory in sorted(self.home.deployments.iterdir()):
            state = DeploymentState.read(directory) if directory.is_dir() else None
            if state is None:
                await self._remove_ruin(directory.name)
                continue
            deployed = self._deployments[state.name] = self._deployed(state)
            if state.deleting or (state.owner is not None and not alive(state.owner)):
                self._in_background(self.delete(state.name), f"finishing the deletion of {state.name}")
                continue
            log.info("adopting %s", state.name)
            try:
                await deployed.adopt()
            except Exception:  # one deployment that cannot be repaired must not take the others' cloud away
                log.exception("adopting %s failed; `stages down` removes it", state.name)

    async def put(self, name: str, request: DeploymentRequest, *, move: bool = False) -> Deployed:
        """Have this deployment. Raise Conflict if one of this name runs another stage or belongs to another run.

        `move`: it may become another stage or variant; whoever asks puts and deletes the resources that differ.
        """
        async with self._lock(name):
            known = self._deployments.get(name)
            if known is not None:
                if move and known.state.run_id == request.run_id:
                    known.state.stage, known.state.variant = request.stage, request.variant
                    known.context.save()
                self._same(known.state, request)
                owner = self._owner(request)
                if owner is not None and owner != known.state.owner:
                    known.state.owner = owner
                    known.context.save()
                    known.watch_owner()
                return known
            state = DeploymentState(
                name=name,
                stage=request.stage,
                run_id=request.run_id,
                variant=request.variant,
                owner=self._owner(request),
                boot=boot_id(),
            )
            deployed = self._deployed(state)
            deployed.open(request.preload)
            self._deployments[name] = deployed
            return deployed

    async def delete(self, name: str) -> list[str]:
        """Leave nothing of a deployment; idempotent, also for one whose state was lost.

        Returns what a user's own broker still holds.
        """
        async with self._lock(name):
            return await self._delete(name)

    async def faults(self) -> list[dict[str, Any]]:
        return [fault for name in self.names() for fault in await self._deployments[name].faults()]

    async def heal(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Undo every fault of these deployments; a fault is named '<deployment>/<lease>'."""
        healed: list[str] = []
        left: list[str] = []
        for name in names:
            if name in self._deployments:
                done, not_done = await self._deployments[name].heal()
                healed += done
                left += not_done
        return {"healed": healed, "left": left}

    async def _delete(self, name: str) -> list[str]:
        deployed = self._deployments.get(name)
        if deployed is None:
            await self._remove_ruin(name)
            return []
        left = await deployed.close()
        if self._deployments.get(name) is deployed:
            del self._deployments[name]
        return left

    async def _remove_ruin(self, name: str) -> None:
        """What is left of a deployment without a readable state: its processes and its directory."""
        swept = await sweep(self.home, name)
        if swept:
            log.warning("%s has no state; ended its processes %s", name, swept)
        self.home.remove_controls(name)
        shutil.rmtree(self.home.deployment(name), ignore_errors=True)

    def _deployed(self, state: DeploymentState) -> Deployed:
        return Deployed(Context(self.home, state, self._ports, self._reaper), self._delete_orphan)

    def _delete_orphan(self, name: str) -> None:
        self._in_background(self.delete(name), f"deleting {name}, whose owner is gone")

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _in_background(self, work: Coroutine[Any, Any, object], what: str) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:  # a border: nobody awaits the task
                log.exception("%s failed", what)

        task = asyncio.get_running_loop().create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @staticmethod
    def _owner(request: DeploymentRequest) -> ProcessId | None:
        if request.owner_pid is None:
            return None
        owner = identify(request.owner_pid)
        if not alive(owner):
            raise Invalid(f"owner_pid {request.owner_pid} is no process")
        return owner

    @staticmethod
    def _same(state: DeploymentState, request: DeploymentRequest) -> None:
        asked = {"stage": request.stage, "run_id": request.run_id, "variant": request.variant}
        found = [
            f"{key} is {getattr(state, key)!r}, asked for {value!r}"
            for key, value in asked.items()
            if getattr(state, key) != value
        ]
        if found:
            raise Conflict(f"deployment {state.name} exists: {'; '.join(found)}; `stages down` it first", found)
