"""Did every message get where it had to, and is none forgotten? For stages that send any."""

from __future__ import annotations

from stages.check.ledgers import heard
from stages.check.seen import Findings, Seen, conclude
from stages.check.verdict import Check, Verdict
from stages.history import Audit
from stages.model import Kind, Stage


def sends_messages(stage: Stage) -> bool:
    """Whether anything but calls travels in this stage."""
    return any(c.kind is not Kind.CALL for c in stage.channels)


def no_event_lost(seen: Seen) -> Check:
    """Every consumer of an event has its effect exactly once: each confirmed order, each active account.

    Needs the audits of the producers and of their consumers.
    """
    findings = Findings()
    shown = 0
    told = {"OrderConfirmed": "place-order", "AccountRegistered": "register"}
    for channel in seen.stage.channels:
        for message, operation in told.items():
            if channel.kind is not Kind.EVENT or message not in channel.messages:
                continue
            for subject in _announced(seen, message):
                shown += 1
                times = len(heard(seen, channel.callee, subject.key))
                what = f"{message} of {subject.id}"
                if times == 0:
                    findings.add(f"{channel.callee} never heard of {what}", seen.gap(operation, subject.at_ns))
                elif times > 1:
                    findings.add(f"{channel.callee} acted {times} times on {what}")
    return conclude("no-event-lost", findings, shown=shown, what="events", evidence={"foreign": seen.foreign})


def _announced(seen: Seen, message: str) -> list[Audit]:
    if message == "OrderConfirmed":
        return [o for o in seen.orders() if o.state == "confirmed"]
    return [u for found in seen.of("accounts", "user").values() for u in found if u.state == "active"]


def outbox_drained(seen: Seen) -> Check:
    """When all has drained, nothing waits in an outbox. Needs the audits of all services that send first."""
    findings = Findings()
    senders = sorted({c.caller for c in seen.stage.channels if c.kind is not Kind.CALL})
    boxes = {a.service: a for a in seen.audits if a.kind == "outbox"}
    for sender in senders:
        if sender in boxes and boxes[sender].quantity:
            findings.add(f"{boxes[sender].quantity} messages still wait in the outbox of {sender}")
    missing = [sender for sender in senders if sender not in boxes]
    if missing and not findings.surely:
        because = f"{', '.join(missing)} did not say what waits in their outbox"
        return Check(name="outbox-drained", verdict=Verdict.UNKNOWN, evidence={"unread": missing}, because=because)
    return conclude("outbox-drained", findings, shown=len(boxes), what="outboxes", evidence={})


def dead_letters_accounted_for(seen: Seen) -> Check:
    """Whatever lies in a dead-letter queue says why, and a fault of this run explains it.

    Letters given up before the run began are somebody else's. A letter without a reason is one that the broker moved
    after too many deliveries: its consumer never got to the end of it.
    """
    name = "dead-letters-accounted-for"
    if seen.dead_letters is None:
        because = "nobody looked into the dead-letter queues"
        return Check(name=name, verdict=Verdict.UNKNOWN, because=because)
    began_ns = min((i.intended_ns for i in seen.invocations), default=0)
    findings = Findings()
    explained = older = 0
    for letter in seen.dead_letters:
        if 0 < letter.at_ns < began_ns:
            older += 1
            continue
        what = f"{letter.type or 'message'} {letter.id} from {letter.queue}"
        poisoned = any(s <= letter.at_ns <= e for s, e in seen.windows(seen.poisoned, letter.queue))
        if not letter.reason:
            findings.add(f"{what} is dead without a reason, after {letter.receives} deliveries")
        elif not poisoned:
            findings.add(f"{what} is dead ({letter.reason}: {letter.detail}), and no fault of this run explains it")
        else:
            explained += 1
    evidence = {"letters": len(seen.dead_letters), "explained": explained, "older": older}
    if not findings.surely:
        said = f"{explained} dead letters, each with its reason and its fault" if explained else "no message died"
        return Check(name=name, verdict=Verdict.VALID, evidence=evidence, because=said)
    return conclude(name, findings, shown=len(seen.dead_letters), what="dead letters", evidence=evidence)
