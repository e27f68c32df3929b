"""Where does a message of this service go, and how is it wrapped? By its type; nobody else knows an address."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from uuid import uuid4

from workloads.adapters.routes import RECEIVERS
from workloads.broker.envelope import TYPES, Envelope, seal
from workloads.broker.ports import Parcel
from workloads.messages import StepDone, StepRefused, Travelling, subject_of
from workloads.ports import Outgoing
from workloads.resilience import monotonic_ns
from workloads.settings import Destinations

ANSWERED = "orders"
"""Who runs the saga and so hears the replies."""


class NoAddress(LookupError):
    """This service was given no destination for a kind of message: a defect of its settings."""


class Post:
    """The sending side of one service."""

    def __init__(
        self, broker: Destinations, *, run: str, source: str, clock_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        """`run` and `source` go on every envelope."""
        self._to = broker
        self._run = run
        self._source = source
        self._clock_ns = clock_ns

    def address(self, kind: type) -> str:
        """Queue or topic for a kind of message. Raise NoAddress."""
        if kind not in TYPES.values():
            raise NoAddress(f"{kind.__name__} does not travel")
        receiver = ANSWERED if kind in (StepDone, StepRefused) else RECEIVERS.get(kind)
        found = self._to.topic if receiver is None else self._to.queues.get(receiver)
        if found is None:
            raise NoAddress(
                f"{self._source} has no {'topic' if receiver is None else f'queue of {receiver}'} ({kind.__name__})"
            )
        return found

    def parcel(self, outgoing: Outgoing) -> Parcel:
        """A message of the outbox, wrapped now."""
        message = cast(Travelling, outgoing.message)  # `address` knows no other
        return self._wrap(message, outgoing.id, outgoing.subject, outgoing.traceparent)

    def reply(self, message: Travelling, traceparent: str) -> Parcel:
        """An answer, wrapped now; each time it is asked for it gets an id of its own."""
        return self._wrap(message, uuid4().hex, subject_of(message), traceparent)

    def _wrap(self, message: Travelling, parcel_id: str, subject: str, traceparent: str) -> Parcel:
        envelope = Envelope(
            id=parcel_id,
            run=self._run,
            source=self._source,
            sent_ns=self._clock_ns(),
            traceparent=traceparent,
            message=message,
        )
        return Parcel(id=parcel_id, type=type(message).__name__, group=subject, body=seal(envelope))
