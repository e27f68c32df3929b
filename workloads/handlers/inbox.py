"""How does a message become an effect exactly once? One transaction holds the effect and the memory of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workloads.handlers.leaves import QUERIES, Handler, Scene
from workloads.messages import Message
from workloads.ports import Reply, Repository


class TransactionalInbox:
    """The Inbox port over a table of handlers and a repository."""

    def __init__(
        self,
        repository: Repository,
        handlers: Mapping[type, Handler],
        clock_ns: Callable[[], int],
        disabled: frozenset[str] = frozenset(),
    ) -> None:
        self._repository = repository
        self._handlers = handlers
        self._clock_ns = clock_ns
        self._disabled = disabled

    async def accept(self, message: Message) -> Reply:
        """See ports.Inbox. A type of message without a handler is a defect of the wiring: KeyError."""
        handler = self._handlers[type(message)]
        scene = Scene(now_ns=self._clock_ns(), disabled=self._disabled)
        if type(message) in QUERIES:
            return await self._repository.read(lambda unit: handler(message, unit, scene))
        return await self._repository.write(lambda unit: handler(message, unit, scene))
