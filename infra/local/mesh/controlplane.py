"""What keeps a cluster's Envoys up to date? One loop: look, decide, write what has changed.

    view.json, pki/ -----.
    applications: /ready -+-> decide -> envoy/<part>/... , status.json
    registry -> threads --'          -> what the registrar has to keep there

The registry is only ever waited for in threads of their own. What was known last good is on disk: a control plane that
was killed, or stopped for a while, goes on where it was, and writes nothing that is there already.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from infra.local.mesh import controlplane_discovery as discovery
from infra.local.mesh import controlplane_health as health
from infra.local.mesh import pki
from infra.local.mesh.controlplane_files import Files
from infra.local.mesh.controlplane_leaves import CERTIFICATE_EXPIRED, Authority, authority_in, leaf_of, renewed
from infra.local.mesh.controlplane_links import Discoverer, Heard, News, Reached, Registrar, Registry
from infra.local.mesh.controlplane_registration import wanted
from infra.local.mesh.controlplane_render import Inputs, files_of
from infra.local.mesh.controlplane_status import Report, afflictions, status
from infra.local.mesh.controlplane_view import View
from infra.local.mesh.envoyconf import Paths
from infra.local.mesh.registry import Named
from stages.mesh import ClusterPlan

PERIOD_S = 0.1
"""Between two looks at view.json and pki/."""

HEARTBEAT_S = 1.0
"""status.json is written so often even when nothing has changed: its age tells that somebody is at work."""

FAREWELL_S = 0.5
"""How long an ending control plane waits for the registry to take its instances away."""

KNOWN, STATUS, ENVOY = "known.json", "status.json", "envoy"


class ControlPlane:
    """Of one cluster, in one directory of its own."""

    def __init__(self, plan: ClusterPlan, directory: Path, open_registry: Callable[[str], Registry]) -> None:
        """`directory`: <deployment>/mesh/<cluster>, absolute. `open_registry`: URL -> client; called in threads."""
        self._plan = plan
        self._directory = directory
        self._traces = directory.parent.parent / "traces"
        self._files = Files(directory)
        self._files.tidy()
        self._news: SimpleQueue[News] = SimpleQueue()
        self._registrar = Registrar(plan, open_registry, self._news)
        self._discoverer = Discoverer(plan, open_registry, self._news)
        self._marks: dict[str, object] = {}
        self._view: View | None = None
        self._authority: Authority | None = None
        self._checks: health.Checks = {}
        self._known = discovery.from_json(plan, _object(self._files.read(KNOWN)))
        self._leaves = self._leaves_on_disk()
        self._report = Report()
        self._rendered: Inputs | None = None
        self._ready: frozenset[str] | None = None
        self._facts: tuple[object, ...] = ()
        self._told_at = 0.0
        self.told = "{}"
        """What status.json says."""
        self._said: dict[str, str] = {}

    @property
    def ready(self) -> bool:
        """Whether every part of the view has its files."""
        return self._view is not None and self._ready is not None and self._view.parts.keys() <= self._ready

    async def run(self) -> None:
        """Work until cancelled; then say good-bye to a registry that answers at once."""
        self._registrar.start()
        self._discoverer.start()
        checking = asyncio.create_task(self._check())
        try:
            while True:
                try:
                    self.step()
                except Exception as error:  # the border of the loop: what is written stays, the next round tries again
                    self._say("step", f"{type(error).__name__}: {error}")
                await asyncio.sleep(PERIOD_S)
        finally:
            checking.cancel()
            self._discoverer.end()
            self._registrar.end()
            self._registrar.join(FAREWELL_S)

    def step(self) -> None:
        """One round. Nothing in it waits for anybody."""
        self._look()
        self._listen()
        if self._view is None or self._authority is None:
            return
        view, now = self._view, pki.utc_now()
        self._checks = health.followed(self._checks, view)
        healths = health.health(self._checks, view)
        self._registrar.want(wanted(self._plan, view, healths))
        self._leaves = renewed(self._plan, self._leaves, self._authority, view.afflicted(CERTIFICATE_EXPIRED), now)
        self._render(Inputs(view, dict(self._known), self._leaves, self._authority.trust))
        self._report = replace(self._report, health=healths, afflictions=afflictions(self._plan, view, self._leaves))
        self._tell(self._authority)

    def _look(self) -> None:
        """Read view.json and pki/ if they changed; what cannot be read leaves things as they were."""
        if self._changed("view.json"):
            try:
                self._view = View.from_json((self._directory / "view.json").read_text("utf-8"))
            except (OSError, ValueError) as error:
                self._say("view.json", str(error))
            else:
                for link in (self._registrar, self._discoverer):
                    link.lead_to(self._view.registry)
        if self._changed("pki/intermediate.pem", "pki/intermediate.key", "pki/trust.pem"):
            try:
                self._authority = authority_in(self._directory / "pki")
            except ValueError as error:
                self._marks.pop("pki/intermediate.pem", None)  # looked at again until its files belong together
                self._say("pki", str(error))

    def _changed(self, *names: str) -> bool:
        marks: list[object] = []
        for name in names:
            try:
                seen = (self._directory / name).stat()
            except OSError:
                return False
            marks.append((seen.st_mtime_ns, seen.st_ino, seen.st_size))
        changed = self._marks.get(names[0]) != marks
        self._marks[names[0]] = marks
        return changed

    def _listen(self) -> None:
        """Judge what the registry said meanwhile."""
        while True:
            try:
                news = self._news.get_nowait()
            except Empty:
                return
            match news:
                case Reached(problem, discovering):
                    self._reached(problem, discovering)
                case Heard():
                    self._heard(news)

    def _reached(self, problem: str | None, discovering: bool) -> None:
        report = self._report
        if problem is None:
            self._said.pop("registry", None)
        elif report.registry_reachable is not False:
            self._say("registry", problem)
        missed = 1 if problem is not None and discovering else 0
        self._report = replace(report, registry_reachable=problem is None, rejected=report.rejected + missed)

    def _heard(self, news: Heard) -> None:
        callee, last = news.callee, self._known.get(news.callee)
        try:
            known = discovery.believed(discovery.edge_to(self._plan, callee), news.found, last)
        except discovery.Rejected as error:
            self._say("refused", str(error))
            self._report = self._report.refused(callee, str(error))
            return
        self._report = self._report.believed(callee, time.monotonic_ns())
        if known != last:
            self._known[callee] = known
            self._files.write({KNOWN: json.dumps(discovery.to_json(self._known))})

    def _render(self, inputs: Inputs) -> None:
        if inputs == self._rendered:
            return
        self._rendered = inputs
        ready = set()
        for name in inputs.view.parts:
            directory = f"{ENVOY}/{name}"
            paths = Paths(directory=str(self._directory / directory), traces=str(self._traces))
            try:
                files = files_of(self._plan, inputs, name, paths)
            except (KeyError, ValueError, StopIteration) as error:
                self._say(name, f"cannot be configured from this view: {error!r}")
                continue
            self._files.write({f"{directory}/{file}": text for file, text in files.items()})
            ready.add(name)
        self._files.keep(ENVOY, frozenset(inputs.view.parts))
        self._ready = frozenset(ready)

    def _tell(self, authority: Authority) -> None:
        facts = (self._report, self._known, self._leaves, authority)
        if facts == self._facts and time.monotonic() - self._told_at < HEARTBEAT_S:
            return
        self._facts = (self._report, dict(self._known), self._leaves, authority)
        self._told_at = time.monotonic()
        said = {"at_ns": time.monotonic_ns(), **status(*facts)}
        self.told = json.dumps(said, sort_keys=True)
        self._files.write({STATUS: self.told})

    def _leaves_on_disk(self) -> dict[str, pki.Leaf]:
        """What was issued before this process: good leaves are not issued again."""
        found = {}
        for path in sorted((self._directory / ENVOY).glob("*/sds/own.json")):
            try:
                own = json.loads(path.read_text("utf-8"))["resources"][0]["tls_certificate"]
                leaf = leaf_of(own["certificate_chain"]["inline_string"], own["private_key"]["inline_string"])
            except (OSError, ValueError, LookupError, TypeError):
                continue
            found[leaf.identity] = leaf
        return {m.service: found[m.identity] for m in self._plan.members if m.identity in found}

    def _say(self, what: str, line: str) -> None:
        """To the log, once."""
        if self._said.get(what) != line:
            self._said[what] = line
            print(f"{what}: {line}", file=sys.stderr, flush=True)

    async def _check(self) -> None:
        """Ask the applications how they are, for as long as this runs."""
        while True:
            began = time.monotonic()
            asked = self._checks
            for name, good in (await health.asked(asked)).items():
                self._judge(name, asked[name].address, good)
            await asyncio.sleep(max(0.0, began + health.PERIOD_S - time.monotonic()))

    def _judge(self, name: Named, address: str, good: bool) -> None:
        checked = self._checks.get(name)
        if checked is not None and checked.address == address:
            self._checks = {**self._checks, name: checked.after(good)}


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
