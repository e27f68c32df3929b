"""The two conversations with the registry, each in a thread of its own: a silent registry holds up nothing else.

What a thread is to do is handed to it as a whole; what it heard comes back through one queue, for the loop to judge.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from infra.local.mesh.controlplane_registration import Deregister, Register, Report, Wanted, steps
from infra.local.mesh.registry import Entry, Found, Named, RegistryError, Unreachable
from stages.mesh import ClusterPlan

DISCOVER_S = 0.7
"""Between two rounds of questions about callees; after a health check's 1.2 s at worst, a dead one leaves in 2.2 s."""

LOOK_S = 2.0
"""Between two looks at what is registered of ours: so fast is everything there again after the registry forgot it."""

AGAIN_S = 0.5
"""Pause after a round that did not work."""


class Registry(Protocol):
    """What is asked of the registry; `infra.local.mesh.registry.CloudMap` says what each means."""

    def register(self, name: Named, entry: Entry) -> None: ...
    def report(self, name: Named, health: str) -> None: ...
    def deregister(self, name: Named) -> None: ...
    def discover(self, service: str) -> Found: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer on a callee."""

    callee: str
    found: Found


@dataclass(frozen=True, slots=True)
class Reached:
    """How a round ended."""

    problem: str | None
    """None: the registry answered; else why nobody did."""
    discovering: bool
    """Whether answers on callees are missing because of it."""


News = Heard | Reached


class Link(threading.Thread):
    """Speaks with the registry at a URL, a round after the other, until told to end."""

    discovering = False
    """Whether answers on callees are missing when it gets none."""

    def __init__(self, name: str, open_registry: Callable[[str], Registry], news: SimpleQueue[News]) -> None:
        super().__init__(name=name, daemon=True)
        self._open = open_registry
        self._news = news
        self._wake = threading.Event()
        self._ending = False
        self._url: str | None = None
        self._opened: tuple[str, Registry] | None = None

    def lead_to(self, url: str | None) -> None:
        """Where the registry is from now on; None: there is none."""
        if url != self._url:
            self._url = url
            self._wake.set()

    def end(self) -> None:
        self._ending = True
        self._wake.set()

    def run(self) -> None:
        pause = 0.0
        while not self._ending:
            self._wake.wait(pause)
            self._wake.clear()
            pause = LOOK_S
            registry = self._registry()
            if registry is not None and self.has_work() and not self._ending:
                pause = self._attempt(registry)
        registry = self._registry()
        if registry is not None:
            self.leave(registry)

    def has_work(self) -> bool:
        """Whether there is anything to say."""
        return True

    def round(self, registry: Registry) -> float:
        """One round; return the pause after it, seconds. Raise RegistryError."""
        raise NotImplementedError

    def leave(self, registry: Registry) -> None:
        """The last thing to say."""

    def _attempt(self, registry: Registry) -> float:
        problem = None
        pause = AGAIN_S
        try:
            pause = self.round(registry)
        except Unreachable as error:
            problem = str(error)
        except Exception as error:  # the border of the thread: it has forgotten something, or another was faster
            print(f"{self.name}: {error}", file=sys.stderr, flush=True)
        self._news.put(Reached(problem, self.discovering))
        return pause

    def _registry(self) -> Registry | None:
        url = self._url
        if self._opened is not None and self._opened[0] != url:
            self._opened[1].close()
            self._opened = None
        if url is not None and self._opened is None:
            self._opened = url, self._open(url)
        return self._opened[1] if self._opened else None


class Discoverer(Link):
    """Asks for the callees of the cluster."""

    discovering = True

    def __init__(self, plan: ClusterPlan, open_registry: Callable[[str], Registry], news: SimpleQueue[News]) -> None:
        super().__init__("discoverer", open_registry, news)
        self._plan = plan

    def has_work(self) -> bool:
        return bool(self._plan.callees)

    def round(self, registry: Registry) -> float:
        for callee in self._plan.callees:
            self._news.put(Heard(callee, registry.discover(callee)))
        return DISCOVER_S


class Registrar(Link):
    """Keeps what stands in the registry under the cluster's services as it should be."""

    def __init__(self, plan: ClusterPlan, open_registry: Callable[[str], Registry], news: SimpleQueue[News]) -> None:
        super().__init__("registrar", open_registry, news)
        self._plan = plan
        self._wanted: Mapping[Named, Wanted] | None = None

    def want(self, wanted: Mapping[Named, Wanted]) -> None:
        """How the registry should be from now on."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    def has_work(self) -> bool:
        return self._wanted is not None

    def round(self, registry: Registry) -> float:
        wanted = self._wanted or {}
        seen = {member.service: registry.discover(member.service) for member in self._plan.members}
        for step in steps(self._plan, wanted, seen):
            match step:
                case Register(name, entry):
                    registry.register(name, entry)
                case Report(name, health):
                    registry.report(name, health)
                case Deregister(name):
                    registry.deregister(name)
        return LOOK_S

    def leave(self, registry: Registry) -> None:
        with contextlib.suppress(RegistryError):
            for name in reversed(list(self._wanted or {})):
                registry.deregister(name)
