"""Is what the model allows, and only that, what works? Tries of every call with every credential, compared with it.

caller shows   its own certificate        allowed where the model has that call, else denied
               another service's          as if that service had called: identity counts, not where one stands
               an expired one of its own  denied
               one of a foreign root      denied
               none (plaintext)           denied
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from stages.check.verdict import Check, Verdict
from stages.mesh import allowed
from stages.model import Stage

NAME = "policy-as-modelled"

TOLD = 6
"""So many wrong cells are told in the sentence; the evidence has all of them."""


class Credential(StrEnum):
    """What a caller shows."""

    OWN = "own"
    OTHER = "other"
    EXPIRED = "expired"
    FOREIGN = "foreign"
    PLAINTEXT = "plaintext"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTry:
    """One call that was tried, and what came of it."""

    caller: str
    """Where the call was made from."""
    callee: str
    credential: Credential
    shown: str
    """The service that the certificate names; '' in plaintext."""
    allowed: bool | None
    """Whether it got to the callee; None: it could not be tried, so nothing is known."""
    answer: str
    """What came back: 'allowed', 'denied: rbac 403', 'no answer: connection refused'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCell:
    """One caller, callee and credential: what the model says and what was measured."""

    caller: str
    callee: str
    credential: Credential
    shown: str
    expected: bool
    """Whether the model lets it through."""
    measured: bool | None
    """None: nothing is known."""
    answer: str

    @property
    def verdict(self) -> Verdict:
        if self.measured is None:
            return Verdict.UNKNOWN
        return Verdict.VALID if self.measured is self.expected else Verdict.INVALID

    @property
    def said(self) -> str:
        """'email calls payments with its own certificate: allowed, the model denies it'."""
        way = {
            Credential.OWN: "with its own certificate",
            Credential.OTHER: f"with the certificate of {self.shown or 'another service'}",
            Credential.EXPIRED: "with an expired certificate",
            Credential.FOREIGN: "with a certificate of a foreign root",
            Credential.PLAINTEXT: "in plaintext",
        }[self.credential]
        model = f"the model {'allows' if self.expected else 'denies'} it"
        return f"{self.caller} calls {self.callee} {way}: {self.answer or 'not tried'}, {model}"


def policy_cells(stage: Stage, tries: Iterable[PolicyTry]) -> tuple[PolicyCell, ...]:
    """Every pair of services x credential, in the stage's order; a try that was not made is a cell without data.

    Of several tries of one cell the first that goes against the model counts.
    """
    made: dict[tuple[str, str, Credential], list[PolicyTry]] = {}
    for one in tries:
        made.setdefault((one.caller, one.callee, one.credential), []).append(one)
    return tuple(_cells(stage, made))


def _cells(stage: Stage, made: Mapping[tuple[str, str, Credential], list[PolicyTry]]) -> Iterator[PolicyCell]:
    edges = allowed(stage)
    names = [s.name for s in stage.services]
    for caller in names:
        for callee in names:
            if caller == callee:
                continue
            for credential in Credential:
                found = [_cell(one, edges) for one in made.get((caller, callee, credential), ())]
                nothing = PolicyTry(
                    caller=caller, callee=callee, credential=credential, shown="", allowed=None, answer=""
                )
                order = (Verdict.INVALID, Verdict.VALID, Verdict.UNKNOWN)
                yield min(found, key=lambda c: order.index(c.verdict), default=_cell(nothing, edges))


def _cell(one: PolicyTry, edges: frozenset[tuple[str, str]]) -> PolicyCell:
    shown = one.caller if one.credential is Credential.OWN else one.shown
    expected = one.credential in (Credential.OWN, Credential.OTHER) and (shown, one.callee) in edges
    return PolicyCell(
        caller=one.caller,
        callee=one.callee,
        credential=one.credential,
        shown=shown,
        expected=expected,
        measured=one.allowed,
        answer=one.answer,
    )


def policy_as_modelled(stage: Stage, tries: Iterable[PolicyTry] | None, why_not: str = "") -> Check:
    """Valid if every cell is as the model says, invalid if one is not, unknown if one has no data.

    `tries` is None where nobody measured, `why_not` the reason.
    """
    if tries is None:
        said = "nobody tried which calls work" + (f": {why_not}" if why_not else "")
        return Check(name=NAME, verdict=Verdict.UNKNOWN, because=said)
    cells = policy_cells(stage, tries)
    wrong = [c.said for c in cells if c.verdict is Verdict.INVALID]
    untried = [c.said for c in cells if c.verdict is Verdict.UNKNOWN]
    evidence = {
        "cells": len(cells),
        "allowed": sum(c.measured is True for c in cells),
        "denied": sum(c.measured is False for c in cells),
        "untried": untried,
        "wrong": wrong,
    }
    if wrong:
        return Check(name=NAME, verdict=Verdict.INVALID, evidence=evidence, because=_listed(wrong))
    if untried or not cells:
        said = f"{len(untried)} of {len(cells)} calls could not be tried: {_listed(untried)}" if cells else "no calls"
        return Check(name=NAME, verdict=Verdict.UNKNOWN, evidence=evidence, because=said)
    through = evidence["allowed"]
    because = f"of {len(cells)} calls tried, the {through} that the model allows work, and no other does"
    return Check(name=NAME, verdict=Verdict.VALID, evidence=evidence, because=because)


def _listed(said: list[str]) -> str:
    more = f" (and {len(said) - TOLD} more)" if len(said) > TOLD else ""
    return "; ".join(said[:TOLD]) + more
