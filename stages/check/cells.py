"""What does the evidence say about one cell of the matrix, and about all promised cells together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.blast_radius import Effect, Prediction
from stages.check.counting import CENSORED_MAX, Counts, Sample
from stages.check.verdict import Verdict
from stages.evidence import Block, e_base, e_conc, e_iso, leaked, wilson

UNKNOWN = "unknown"
"""The measured class of a cell that was not decided."""

_STRICT, _LENIENT = "strict", "lenient"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault and one operation: what was predicted, what was measured."""

    fault: str
    operation: str
    predicted: Effect
    measured: str
    """The value of an Effect, or 'unknown'. 'delayed' only once `completion.with_completions` has seen the records."""
    verdict: Verdict
    n: int
    """Requests counted."""
    bad: int
    """Of them bad in the sense of the prediction: any answer but a real one in time where it says unaffected; errors
    and late answers where it allows a fallback, or worse."""
    decided_after_s: float | None
    """Seconds from the sight of the fault to the first look at which this was known; None if it never was."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    because: str = ""

    def decided_at(self, seconds: float) -> Cell:
        """The same, decided at another time."""
        return replace(self, decided_after_s=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """All operations that a fault should leave unaffected, taken together."""

    fault: str
    n: int
    bad: int
    """In the strict sense."""
    verdict: Verdict
    evidence: Mapping[str, Any] = field(default_factory=dict)
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """All that the cells of one fault have in common."""

    fault: str
    samples: Mapping[str, Sample]
    baseline: Mapping[str, Counts]
    pool: tuple[str, ...]
    """Operations predicted unaffected: each is promised, and control for the others."""
    elapsed_s: float
    """Since the fault was seen."""
    exposed_s: float
    """Since requests count."""
    promised_cells: int
    min_s: float
    margin: float
    pooled_margin: float
    refuted: float
    """Evidence that refutes a claim: 1 / alpha."""
    seen_by: str
    final: bool
    doubted: frozenset[str]
    """Operations ('' for the pool) that got worse without a clean control when this fault was injected before."""

    @property
    def ripe(self) -> bool:
        """Whether isolation may be claimed yet."""
        return self.elapsed_s >= self.min_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sense:
    """The evidence in one sense of bad."""

    bad: int
    base_bad: int
    e_iso: float
    e_base: float
    e_conc: float | None
    """None where it was not needed: the operation is no worse than its baseline."""
    leaked: bool
    no_clean_control: bool
    """Surely worse than before the fault, but so is the pool, or there is none."""


def judge_cell(m: Measuring, operation: str, prediction: Prediction) -> Cell:
    """Measure one operation and compare it with its prediction."""
    sample = m.samples[operation]
    alone = prediction.effect is not Effect.UNAFFECTED and not set(m.pool) - {operation}
    strict = _sense(m, operation, _STRICT, alone)
    lenient = _sense(m, operation, _LENIENT, alone)
    measured, why = _measured(m, sample.counts, strict, lenient)
    promised = strict if prediction.effect is Effect.UNAFFECTED else lenient
    verdict = _verdict(prediction.effect, measured)
    unwatched = prediction.effect is Effect.DELAYED and measured == Effect.UNAFFECTED
    better = verdict is Verdict.VALID and measured != prediction.effect and not unwatched
    evidence = {
        **_evidence(m, sample.counts, m.baseline.get(operation, Counts()), promised),
        "margin": m.margin,
        "strict": _figures(strict),
        "lenient": _figures(lenient),
        "pool": [p for p in m.pool if p != operation],
        "control": "baseline only: the fault is to affect every operation" if alone else "baseline and pool",
        "better": better,
        "no_clean_control": measured == UNKNOWN and promised.no_clean_control,
    }
    return Cell(
        fault=m.fault,
        operation=operation,
        predicted=prediction.effect,
        measured=measured,
        verdict=verdict,
        n=sample.counts.n,
        bad=promised.bad,
        decided_after_s=None if measured == UNKNOWN else round(m.elapsed_s, 3),
        evidence=evidence,
        because=_because(operation, prediction, measured, verdict, better, why),
    )


def judge_pooled(m: Measuring, cells: Sequence[Cell]) -> Pooled:
    """Together the unaffected operations must lose less than the pooled margin."""
    counts = base = Counts()
    for name in m.pool:
        counts += m.samples[name].counts
        base += m.baseline.get(name, Counts())
    n, bad = counts.n, counts.strict_bad
    isolated = e_iso(n, bad, m.pooled_margin)
    worse = e_base(bad, n, base.strict_bad, base.n)
    leaks = [c.operation for c in cells if c.predicted is Effect.UNAFFECTED and c.verdict is Verdict.INVALID]
    unclean = False
    if not m.pool:
        verdict, because = Verdict.VALID, "no operation is predicted to be unaffected, so nothing is promised here"
    elif leaks:
        verdict, because = Verdict.INVALID, f"{', '.join(leaks)} leaked"
    elif counts.censored_share > CENSORED_MAX:
        verdict, because = Verdict.UNKNOWN, _too_many_censored(counts)
    elif isolated >= m.refuted and m.ripe:
        verdict, because = Verdict.VALID, f"{bad} of {n} requests bad: surely below {m.pooled_margin:.1%}"
    elif "" in m.doubted and worse >= m.refuted:
        verdict, because = Verdict.INVALID, f"{bad} of {n} requests bad, in the second injection too"
    else:
        unclean = worse >= m.refuted * m.promised_cells
        verdict, because = Verdict.UNKNOWN, f"{bad} of {n} requests bad do not decide on {m.pooled_margin:.1%}"
    evidence = {
        "operations": list(m.pool),
        "margin": m.pooled_margin,
        "baseline_n": base.n,
        "baseline_bad": base.strict_bad,
        "censored": counts.censored,
        "e_iso": isolated,
        "e_base": worse,
        "interval": list(wilson(bad, n)),
        "exposed_s": round(m.exposed_s, 3),
        "no_clean_control": unclean,
    }
    return Pooled(fault=m.fault, n=n, bad=bad, verdict=verdict, evidence=evidence, because=because)


def unproven(cells: Sequence[Cell], pooled: Pooled, seen_by: str) -> tuple[tuple[Cell, ...], Pooled]:
    """No verdict at all: a fault that did not bite proves nothing."""
    why = f"the fault was not seen to bite ({seen_by or 'no probe saw anything'}), so nothing follows"

    def drop(evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {**evidence, "better": False, "no_clean_control": False, "bit": False}

    return (
        tuple(
            replace(
                c,
                measured=UNKNOWN,
                verdict=Verdict.UNKNOWN,
                decided_after_s=None,
                evidence=drop(c.evidence),
                because=why,
            )
            for c in cells
        ),
        replace(pooled, verdict=Verdict.UNKNOWN, evidence=drop(pooled.evidence), because=why),
    )


def _sense(m: Measuring, operation: str, sense: str, alone: bool) -> _Sense:
    counts, base = m.samples[operation].counts, m.baseline.get(operation, Counts())
    bad, base_bad = _bad(counts, sense), _bad(base, sense)
    worse = e_base(bad, counts.n, base_bad, base.n)
    many = m.refuted * m.promised_cells
    if alone or operation in m.doubted:
        # no control is left where everything is to be affected; a second injection confirms what the first suspected
        enough = m.refuted if operation in m.doubted else many
        conc, leaks, unclean = None, worse >= enough, False
    elif worse < m.refuted:
        conc, leaks, unclean = None, False, False
    else:
        conc = e_conc(_blocks(m, operation, sense))
        leaks = leaked(worse, conc, m.promised_cells, m.refuted)
        unclean = worse >= many and conc < m.refuted
    return _Sense(
        bad=bad,
        base_bad=base_bad,
        e_iso=e_iso(counts.n, bad, m.margin),
        e_base=worse,
        e_conc=conc,
        leaked=leaks,
        no_clean_control=unclean,
    )


def _bad(counts: Counts, sense: str) -> int:
    return counts.strict_bad if sense == _STRICT else counts.lenient_bad


def _blocks(m: Measuring, operation: str, sense: str) -> list[Block]:
    """Second by second: the operation beside the others that should be unaffected."""
    column = 1 if sense == _STRICT else 2
    others = [m.samples[p].seconds for p in m.pool if p != operation]
    blocks = []
    for second, row in sorted(m.samples[operation].seconds.items()):
        beside = [o[second] for o in others if second in o]
        pool_n, pool_bad = sum(b[0] for b in beside), sum(b[column] for b in beside)
        blocks.append(Block(n=row[0], bad=row[column], pool_n=pool_n, pool_bad=pool_bad))
    return blocks


def _measured(m: Measuring, counts: Counts, strict: _Sense, lenient: _Sense) -> tuple[str, str]:
    """The class, and the counts that show it."""
    window = f"in {m.exposed_s:.1f} s"
    if counts.censored_share > CENSORED_MAX:
        return UNKNOWN, _too_many_censored(counts)
    if counts.n == 0:
        return UNKNOWN, "no request could be counted"
    if strict.e_iso >= m.refuted and m.ripe:
        return Effect.UNAFFECTED.value, f"{strict.bad} of {counts.n} requests bad {window}, surely below {m.margin:.0%}"
    if lenient.leaked:
        return Effect.FAILING.value, f"{lenient.bad} of {counts.n} requests failed or came late {window}"
    if strict.leaked and lenient.e_iso >= m.refuted and m.ripe:
        fell_back = strict.bad - lenient.bad
        return Effect.DEGRADED.value, f"{fell_back} of {counts.n} answers came from a fallback {window}"
    if strict.no_clean_control or lenient.no_clean_control:
        return UNKNOWN, f"{strict.bad} of {counts.n} requests bad {window}, but so were its controls: inject again"
    left_open = f"{'did' if m.final else 'do'} not decide it"
    if strict.leaked:  # what is open is whether the fallback holds
        return (
            UNKNOWN,
            f"{lenient.bad} of {counts.n} requests had no answer, not even a fallback's, {window}: {left_open}",
        )
    return UNKNOWN, f"{strict.bad} of {counts.n} requests bad {window} {left_open}"


def _too_many_censored(counts: Counts) -> str:
    due = counts.n + counts.censored
    return f"{counts.censored} of {due} requests lie near a stall or were not sent: too many to judge the rest"


def _verdict(predicted: Effect, measured: str) -> Verdict:
    if measured == UNKNOWN:
        return Verdict.UNKNOWN
    return Verdict.INVALID if Effect(measured) > predicted else Verdict.VALID


def _evidence(m: Measuring, counts: Counts, base: Counts, promised: _Sense) -> dict[str, Any]:
    share = promised.bad / counts.n if counts.n else 0.0
    base_share = promised.base_bad / base.n if base.n else 0.0
    return {
        "bit": True,
        "seen_by": m.seen_by,
        "exposed_s": round(m.exposed_s, 3),
        "baseline_n": base.n,
        "baseline_bad": promised.base_bad,
        "censored": counts.censored,
        "not_ready": counts.not_ready,
        "interval": list(wilson(promised.bad, counts.n)),
        "within_margin": 0 < share - base_share < m.margin,
    }


def _figures(sense: _Sense) -> dict[str, Any]:
    return {"bad": sense.bad, "e_iso": sense.e_iso, "e_base": sense.e_base, "e_conc": sense.e_conc}


_WORDS = {
    Effect.UNAFFECTED.value: "was unaffected",
    Effect.DEGRADED.value: "was degraded",
    Effect.FAILING.value: "failed",
    UNKNOWN: "is undecided",
}


def _because(operation: str, prediction: Prediction, measured: str, verdict: Verdict, better: bool, why: str) -> str:
    said = f"{operation} {_WORDS[measured]}: {why}"
    if verdict is Verdict.INVALID:
        said += f"; that is worse than predicted ({prediction.effect})"
    if better:
        said += f"; that is better than predicted ({prediction.effect})"
    return f"{said}. Prediction: {prediction.because}"
