"""What can go wrong with messages: faults of the broker, of one queue, and of whoever dies between two steps.

A broker that is slow, throttles, delivers twice or garbles is one that behaves as SQS and SNS may; nothing that was
stored is lost by any of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.fault_bases import BaseFault, OnBroker
from chaos.wires import message_channels
from stages.blast_radius import Impact
from stages.model import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOutage(OnBroker):
    """Freeze the broker's process (SIGSTOP): connections are accepted by the kernel, nothing is answered.

    Undo: SIGCONT; it resumes with every message it had. What was asked of it meanwhile may be carried out then.
    """

    kind = "broker-outage"
    broker: str

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the shared part does not answer."""
        return Impact(down=frozenset({self.broker}))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSlow(OnBroker):
    """Let every request wait before the broker handles it, and its answer wait as long once more.

    Undo: the delay is lifted; what is held goes on at once, nothing is dropped.
    """

    kind = "broker-slow"
    broker: str
    delay_ms: int
    """Of each direction, milliseconds, > 0."""

    @property
    def hop_ms(self) -> int:
        """By how much a message comes later, milliseconds, on average while messages keep coming.

        It takes one delay to the broker, then waits for the receiver's next request to get there, which is up to
        two delays away, then one delay to the receiver. Waiting to be sent comes on top.
        """
        return 3 * self.delay_ms

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: every message takes longer."""
        return Impact(delay_ms={c.name: self.hop_ms for c in message_channels(stage)})


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerThrottle(OnBroker):
    """Refuse a share of all requests as AWS does under load: RequestThrottled of SQS, Throttling of SNS.

    Undo: every request is handled again. A refused one had no effect.
    """

    kind = "broker-throttle"
    broker: str
    share: float
    """Part of the requests that is refused, in (0, 1)."""

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: nothing, for whoever is refused tries again in time."""
        return Impact()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerDuplicate(OnBroker):
    """Acknowledge a share of all deletions without doing them, at most once per message.

    Such a message is delivered again after its visibility timeout, as at-least-once delivery allows.
    Undo: every deletion is done again. A message that was kept still comes a second time.
    """

    kind = "broker-duplicate"
    needs_traffic = "place-order"
    broker: str
    share: float
    """Part of the deletions that is not done, in (0, 1)."""

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: nothing, for every consumer is idempotent."""
        return Impact()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPoison(BaseFault):
    """Cut the bodies of the next messages to a queue in half, so that nobody can read them.

    Undo: further messages stay whole. One that was cut stays so: it is a dead letter by then.
    """

    kind = "broker-poison"
    needs_traffic = "place-order"
    queue: str
    count: int
    """How many messages are cut, > 0."""

    @property
    def target(self) -> str:
        """What is broken, in words."""
        return f"queue {self.queue}"

    def touches(self, stage: Stage) -> frozenset[str]:
        """The queue alone: the others are as they were."""
        return frozenset({self.queue})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: there will be dead letters; who lost a message to them is asked, or asks, again."""
        return Impact(poisoned=frozenset({self.queue}))


@dataclass(frozen=True, slots=True, kw_only=True)
class KillInFlight(BaseFault):
    """Kill a service (SIGKILL) between an effect and the step that would have told the other side of it.

    Its wire is delayed first, so that what it asked for and what it was answered is under way; after three
    delays it is killed, and what the wire held is lost: deletions of messages whose effect is committed, and
    answers to what was published but not yet marked so.
    Undo: the wire is as it was; the service is started again and awaited until it is ready.
    """

    kind = "kill-in-flight"
    service: str
    wire: str
    """One over which the service itself connects."""
    delay_ms: int
    """Of each direction, milliseconds, > 0."""

    @property
    def target(self) -> str:
        """What is broken, in words."""
        return f"service {self.service}"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.target, f"wire {self.wire}")

    def touches(self, stage: Stage) -> frozenset[str]:
        """The service and its wire."""
        return frozenset({self.service, self.wire})

    def impact(self, stage: Stage) -> Impact:
        """What the model is told: the service does not answer, and it died in mid-request."""
        return Impact(down=frozenset({self.service}), crashed=frozenset({self.service}))
