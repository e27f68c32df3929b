"""Is a new version of a service as good as the old one beside it, and does it get the share of calls it was to get?

    calls of both versions at the same time --deal--> tallies --e-values--> promote | roll back | undecided

Looked at as often as one likes: what is decided first holds. If worse and not-worse-by-the-margin are shown at the same
look, the candidate is rolled back. No rule sees what a candidate does only after it was promoted; it is watched for
DWELL_S at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from stages.check.verdict import Check, Verdict
from stages.evidence import REFUTED
from stages.evidence_dealt import bounds, e_close, e_worse
from stages.mesh import CANARY, STABLE, calls
from stages.model import Channel, Stage

MARGIN = 0.05
"""A candidate whose bad share exceeds the stable version's by less than this may be promoted."""

SHARE_REFUTED = 100.0
"""From here on the number of calls contradicts the wished share: 1 %, and the bounds shown are those of 99 %."""

CENSORED_MAX = 0.25
"""Above this share of calls left out because the machine stood still there is no verdict."""

DWELL_S = 5.0
"""A candidate is watched for at least so long before it is promoted."""

SLO_PART = 3
"""An operation's SLO is at least three times its p99: a call that alone takes a third of it is slow."""


class Decision(StrEnum):
    """What is to become of a candidate."""

    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as the caller's sidecar saw it."""

    edge: str
    """Name of the channel."""
    version: str
    """Of the callee; '' if the call got to none."""
    status: int
    """HTTP status, 0 where no answer was given."""
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One version's calls."""

    n: int = 0
    bad: int = 0
    broken: int = 0
    """Of the bad ones: no answer, or 5xx. The others were only slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """Both versions' calls in the same stretch of time."""

    stable: Tally = Tally()
    candidate: Tally = Tally()
    lost: Tally = Tally()
    """Calls that got to neither."""
    censored: int = 0
    """Left out because the machine stood still near them."""

    @property
    def n(self) -> int:
        """Calls that got to a version."""
        return self.stable.n + self.candidate.n

    @property
    def censored_share(self) -> float:
        """Of all calls, 0 without any."""
        return self.censored / (self.censored + self.n) if self.censored else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of the calls met the candidate."""

    wished: float
    measured: float | None
    """None without calls."""
    low: float
    high: float
    """What agrees with the calls so far, at 99 %, however often one has looked."""
    verdict: Verdict
    """Invalid if the wished share is outside, unknown while the bounds are too far apart to tell it from half of it and
    from twice as much (for a share over a half: of what the stable version keeps)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryJudgement:
    """What is known about a candidate so far, or in the end."""

    decision: Decision
    because: str
    share: Share
    dealt: Dealt
    e_worse: float
    e_close: float


def limits_ms(stage: Stage, service: str) -> dict[str, int]:
    """Every call to a service, by name, and how long it may take to be good.

    Empty for a service that nobody calls: which version gets a message is not the mesh's to say.
    """
    return {c.name: _limit_ms(stage, c) for c in calls(stage) if c.callee == service}


def _limit_ms(stage: Stage, channel: Channel) -> int:
    """What the caller waits for, and no more than a third of what the tightest of its users is promised."""
    promised = [stage.operation(name).latency_slo_ms // SLO_PART for name in channel.operations]
    return min(promised if channel.timeout_ms is None else [channel.timeout_ms, *promised])


def deal(seen: Iterable[Call], limits: Mapping[str, int], *, censored: int = 0) -> Dealt:
    """Count the calls over the edges of `limits_ms`; others are passed by."""
    counted = {STABLE: [0, 0, 0], CANARY: [0, 0, 0], "": [0, 0, 0]}
    for call in seen:
        if call.edge in limits:
            broken = not 0 < call.status < 500
            row = counted[call.version if call.version in counted else ""]
            row[0] += 1
            row[1] += broken or call.duration_ms > limits[call.edge]
            row[2] += broken
    stable, candidate, lost = (Tally(n=n, bad=bad, broken=broken) for n, bad, broken in counted.values())
    return Dealt(stable=stable, candidate=candidate, lost=lost, censored=censored)


def judge_canary(dealt: Dealt, *, wished: float, watched_s: float, margin: float = MARGIN) -> CanaryJudgement:
    """What to do about a candidate that was to get the share `wished`, in (0, 1), for `watched_s` seconds so far."""
    share = measured_share(dealt, wished)
    worse = e_worse(bad=dealt.candidate.bad, stable_bad=dealt.stable.bad, chance=wished)
    close = e_close(n=dealt.n, bad=dealt.candidate.bad, stable_bad=dealt.stable.bad, chance=wished, margin=margin)
    decision, because = _decide(dealt, share, worse, close, watched_s, margin)
    return CanaryJudgement(decision=decision, because=because, share=share, dealt=dealt, e_worse=worse, e_close=close)


def _decide(
    dealt: Dealt, share: Share, worse: float, close: float, watched_s: float, margin: float
) -> tuple[Decision, str]:
    counts = f"{_bad(dealt.candidate)} against {_bad(dealt.stable)} of the stable version at the same time"
    if not dealt.candidate.n:
        return Decision.UNDECIDED, "no call met the candidate"
    if dealt.censored_share > CENSORED_MAX:
        return Decision.UNDECIDED, f"the machine stood still near {dealt.censored_share:.0%} of the calls"
    if worse >= REFUTED:
        return Decision.ROLL_BACK, f"it is worse: {counts}"
    if share.verdict is Verdict.INVALID:
        return Decision.ROLL_BACK, f"it does not get its share: {_said(share)}"
    if close < REFUTED:
        return Decision.UNDECIDED, f"neither worse nor within {margin:.0%} of the stable version for sure: {counts}"
    if share.verdict is Verdict.UNKNOWN:
        return Decision.UNDECIDED, f"too few calls to tell its share: {_said(share)}"
    if watched_s < DWELL_S:
        return Decision.UNDECIDED, f"good so far, for {watched_s:.1f} s of at least {DWELL_S:g}"
    return Decision.PROMOTE, f"not worse by {margin:.0%}: {counts}"


def _bad(tally: Tally) -> str:
    return f"{tally.bad} bad of {tally.n} calls"


def _said(share: Share) -> str:
    return f"{share.wished:.0%} wished, {share.low:.1%} to {share.high:.1%} measured"


def measured_share(dealt: Dealt, wished: float) -> Share:
    """The share of the calls that met the candidate, and whether it is the one wished."""
    low, high = bounds(dealt.candidate.n, dealt.n, SHARE_REFUTED)
    return Share(
        wished=wished,
        measured=dealt.candidate.n / dealt.n if dealt.n else None,
        low=low,
        high=high,
        verdict=_share_verdict(low, high, wished),
    )


def _share_verdict(low: float, high: float, wished: float) -> Verdict:
    if not low <= wished <= high:
        return Verdict.INVALID
    if wished > 0.5:
        low, high, wished = 1 - high, 1 - low, 1 - wished
    return Verdict.VALID if wished / 2 < low and high < min(1.0, 2 * wished) else Verdict.UNKNOWN


def users_spared(dealt: Dealt, *, users: int, failed: int) -> Check:
    """Did users' requests fail beyond those that met the candidate's own failures?

    `failed` of `users` requests failed, from before the candidate came until after it was gone or alone; `dealt` are
    the calls of the same time. A failed call of the stable version explains a failed request too.
    """
    own, others = dealt.candidate.broken, dealt.stable.broken + dealt.lost.broken
    beyond = max(0, failed - own)
    evidence = {"users": users, "failed": failed, "candidate_failed": own, "others_failed": others, "beyond": beyond}
    if not users:
        verdict, because = Verdict.UNKNOWN, "no user's request was seen"
    elif beyond > others:
        verdict, because = Verdict.INVALID, f"{beyond} of {users} requests failed beyond the {own} failed calls"
    elif beyond:
        verdict = Verdict.VALID
        because = f"{failed} of {users} requests failed, {beyond} of them with calls that met no candidate"
    else:
        verdict, because = Verdict.VALID, f"{failed} of {users} requests failed; {own} calls failed in the candidate"
    return Check(name="users-spared", verdict=verdict, evidence=evidence, because=because)
