"""The local target: how does the suite deploy a stage here, look at it, and make sure that nothing is left?"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from infra.local.client import LocalCloud
from infra.local.driver import apply
from infra.local.errors import CloudError, Invalid, Unavailable
from infra.local.home import Home, below, default_home
from infra.local.mesh import envoy
from infra.local.messages import Messages
from infra.local.ports import port_range
from infra.local.processes import stat_of, tagged
from infra.local.render import preload, render
from infra.local.render_messages import own_broker, own_broker_problems
from infra.local.settled import record_of, said, until_settled
from infra.naming import TAG_CLOUD, TAG_DEPLOYMENT, TAG_RUN
from stages.catalogue import STAGES
from stages.deployment import Deployment
from stages.model import Stage

if TYPE_CHECKING:
    from stages.check import PolicyTry


class LocalTarget:
    """Stages on this machine. Methods raise infra.local.errors.CloudError or CloudUnreachable."""

    name = "local"

    def __init__(self, home: Path | None = None) -> None:
        """`home`: where the local cloud keeps its things; STAGES_HOME or the default if None."""
        self.home = Home.at(home if home is not None else default_home(os.environ))
        self.cloud = LocalCloud(self.home)
        self._messages = Messages(self.cloud)

    def up(
        self,
        stage: Stage,
        *,
        name: str,
        run_id: str,
        variant: str | None = None,
        owner_pid: int | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> Deployment:
        """Deploy a stage and return once the edge has answered a user's request.

        Repeating it repairs what is missing. With `owner_pid`, everything is torn down when that process
        ends. After an error what was deployed stays, for its logs; `down` removes it. Messages go through the
        embedded broker, or the one that STAGES_BROKER_URL names.
        """
        if found := own_broker_problems(os.environ):
            raise Invalid.of("broker", found)
        resources = render(stage, run_id=run_id, variant=variant, broker=own_broker(os.environ))
        request = {
            "stage": stage.name,
            "run_id": run_id,
            "variant": variant,
            "owner_pid": owner_pid,
            "preload": preload(stage),
        }
        deployed = self.cloud.put(f"/deployments/{name}", request)
        on_progress("local cloud")
        apply(self.cloud, name, resources, {("deployment", ""): deployed}, on_progress)
        deployment = until_settled(self.cloud, stage, name)
        on_progress("first good request")
        return deployment

    def down(self, name: str) -> None:
        """Leave nothing of a deployment; fine if there is none.

        Raise Unavailable if a broker of the user's own does not let its queues be deleted; the rest is gone then.
        """
        if not self.cloud.blank or self._processes(name):
            left = self.cloud.delete(f"/deployments/{name}")["left"]
            if left:
                raise Unavailable(f"{name} is gone, but your own broker still holds: {'; '.join(left)}")

    def list(self) -> Sequence[dict[str, Any]]:
        """One entry per deployment: name, stage, run_id, variant, owner_pid, state, services, faults."""
        found: Sequence[dict[str, Any]] = [] if self.cloud.blank else self.cloud.get("/deployments")
        return found

    def get(self, name: str) -> Deployment:
        """The record as of now; raise NotFound."""
        return record_of(self.cloud, name)

    def resources(self, name: str) -> Sequence[dict[str, Any]]:
        """Every resource with its kind, name and state; raise NotFound."""
        found: Sequence[dict[str, Any]] = self.cloud.get(f"/deployments/{name}")["resources"]
        return found

    def logs(self, name: str, service: str, lines: int = 200) -> Sequence[str]:
        """The last lines a service wrote."""
        found: Sequence[str] = self.cloud.get(f"/deployments/{name}/services/{service}/log?lines={lines}")["lines"]
        return found

    def audits(self, deployment: Deployment) -> Iterator[dict[str, Any]]:
        """Every record of every service's /audit. Raise Unavailable naming the service that does not answer."""
        for service, instance in self.get(deployment.name).services.items():
            try:
                # verify=False: nothing is encrypted on loopback, and loading certificates costs 40 ms
                with httpx.stream(
                    "GET", f"{instance.url}/audit", timeout=30.0, trust_env=False, verify=False
                ) as response:
                    response.raise_for_status()
                    for line in response.iter_lines():
                        if line:
                            yield json.loads(line)
            except (httpx.HTTPError, ValueError) as error:
                raise Unavailable(f"audit of {service} at {instance.url}: {error!r}; log: {instance.log}") from error

    def backlog(self, name: str) -> Mapping[str, int]:
        """What is accepted and not done yet: {"outbox", "unfinished", "queued"}. Raise Unavailable."""
        return self._messages.backlog(name)

    def dead_letters(self, name: str) -> Sequence[dict[str, Any]]:
        """Every dead letter: queue, dead_letter_queue, consumer, id, reason, detail, since_utc, died_ns, ..., body."""
        return self._messages.dead_letters(name)

    def redrive(self, name: str, queue: str | None = None, ids: Sequence[str] | None = None) -> Mapping[str, int]:
        """Send dead letters back where they came from, all or some: {"moved", "left"}; may be repeated."""
        return self._messages.redrive(name, queue, ids)

    def policy(self, deployment: Deployment) -> Sequence[PolicyTry]:
        """Try every call between two services of a mesh with every credential; a few seconds.

        Raise CloudError if the deployment lacks a sidecar, a link or an authority.
        """
        from infra.local.mesh.policyprobe import measure  # cryptography, which no other stage needs

        try:
            return measure(STAGES[deployment.stage], deployment)
        except (KeyError, ValueError, OSError) as error:
            raise CloudError(f"the calls of {deployment.name} cannot be tried: {error}") from error

    def mesh_status(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        """What each control plane says of itself, by cluster; {} where there is no mesh, or nothing was said yet."""
        clusters = {part.cluster for part in self.get(name).parts.values()}
        return {cluster: status for cluster in sorted(clusters) if (status := said(self.home, name, cluster))}

    def canary(
        self, name: str, service: str, share_percent: int | None, defect: str = "none"
    ) -> Mapping[str, Any] | None:
        """Give a second version of a service this share of its calls; it is started if it does not run.

        None: its calls go back to the first version, and it is taken away.
        """
        address = f"/deployments/{name}/canaries/{service}"
        if share_percent is None:
            self.cloud.delete(address)
            return None
        found: Mapping[str, Any] = self.cloud.put(address, {"share_percent": share_percent, "defect": defect})
        return found

    def usage(self, deployment: Deployment) -> dict[str, float]:
        """What the deployment costs now: memory_mb (proportional: shared pages are counted once), processes, cpu_s."""
        pids = [process.pid for process in self._processes(deployment.name)]
        ticks = sum(seen.cpu_ticks for pid in pids if (seen := stat_of(pid)))
        return {
            "memory_mb": round(sum(_proportional_kb(pid) for pid in pids) / 1024, 1),
            "processes": len(pids),
            "cpu_s": ticks / os.sysconf("SC_CLK_TCK"),
        }

    def residue(self, name: str, run_id: str | None = None) -> Sequence[str]:
        """What is left of a deployment, or of a run: processes, files, sockets, faults. Empty after `down`."""
        tags = {TAG_CLOUD: str(self.home.path)} | ({TAG_RUN: run_id} if run_id else {TAG_DEPLOYMENT: name})
        found = [f"process {process.pid}: {_command(process.pid)}" for process in tagged(tags)]
        directory = self.home.deployment(name)
        found += [f"file {path}" for path in below(directory)]
        found += [f"socket {path}" for path in self.home.controls(name)]
        found += [f"fault {fault['lease']}" for fault in self.faults() if fault["deployment"] == name]
        return found

    def faults(self) -> Sequence[dict[str, Any]]:
        """Every fault that is on, of every deployment, with its evidence."""
        found: Sequence[dict[str, Any]] = [] if self.cloud.blank else self.cloud.get("/faults")
        return found

    def heal(self, name: str | None = None) -> Mapping[str, Sequence[str]]:
        """Undo every fault, of one deployment or of all: {"healed": [...], "left": [...]}, '<deployment>/<lease>'."""
        if self.cloud.blank:
            return {"healed": [], "left": []}
        found: Mapping[str, Sequence[str]] = self.cloud.delete(f"/deployments/{name}/faults" if name else "/faults")
        return found

    def problems(self, env: Mapping[str, str] | None = None) -> Sequence[str]:
        """What keeps this machine from hosting a stage, as sentences; empty when nothing does."""
        found = self.home.problems()
        if not sys.platform.startswith("linux"):
            found.append(f"the local target needs Linux (process groups, pidfd, /proc), this is {sys.platform}")
        elif not hasattr(os, "pidfd_open"):
            found.append("this Python was built without pidfd_open; use a build for Linux 5.3 or newer")
        env = env if env is not None else os.environ
        try:
            port_range(env)
        except CloudError as error:
            found.append(str(error))
        found += own_broker_problems(env)
        if importlib.util.find_spec("ministack") is None and own_broker(env) is None:
            found.append("ministack, the embedded broker, is not installed: `make setup`, or set STAGES_BROKER_URL")
        free_mb = shutil.disk_usage(_existing(self.home.path)).free / 2**20
        if free_mb < 200:
            found.append(f"{self.home.path} has {free_mb:.0f} MB free, 200 are needed for logs, traces and databases")
        return found

    def mesh_problems(self) -> Sequence[str]:
        """What keeps this machine from hosting a stage with a mesh, besides `problems`; empty when nothing does."""
        return envoy.problems()

    def _processes(self, name: str) -> Any:
        return tagged({TAG_CLOUD: str(self.home.path), TAG_DEPLOYMENT: name})


def _proportional_kb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except OSError:
        return 0  # it ended meanwhile


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(gone)"


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())
