"""What do tests of whole runs ask of a verdict? The run itself, a part of its document by name, and whether the machine
let it be decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suite.testing.user import User

EXIT_OF = {"valid": 0, "invalid": 1, "unknown": 2}


class Undecided(AssertionError):
    """The machine stood still too often for what a test asks: no evidence for the code, and none against it."""


def decided(found: dict[str, Any], part: dict[str, Any] | None = None) -> None:
    """Raise Undecided where stalls of the machine left a part of a verdict unknown, or ended a stage before its time.

    `tests/conftest.py` runs such a test again, and believes it only if its own witness saw stalls too.
    """
    if part is not None and part["verdict"] != "unknown":
        return
    said = part["because"] if part is not None else ""
    if any(stage["because"] for stage in found["stages"].values()):
        said += f"\n{shortcomings(found)}"
    if names_stalls(said):
        raise Undecided(said)


def names_stalls(said: str) -> bool:
    """Whether a reason, wrapped or not, is that too much lay near a stall of the machine."""
    return "near a stall" in " ".join(said.split())


def verdict_of(user: User, directory: Path, *words: str, timeout_s: float = 600) -> dict[str, Any]:
    """Run `stages verify --quick ...`; its verdict.json, whose verdict the exit status repeated."""
    done = user.run("verify", "--quick", "--out", str(directory), *words, timeout_s=timeout_s)
    found: dict[str, Any] = json.loads((directory / "verdict.json").read_text())
    assert done.returncode == EXIT_OF[found["verdict"]], f"{done.stdout}\n{done.stderr}"
    return found


def named(stage: dict[str, Any], what: str) -> dict[str, Any]:
    """A check by its name, or a cell as 'fault x operation', of one stage of a verdict."""
    if " x " in what:
        fault, operation = what.split(" x ")
        return next(c for c in stage["matrix"] if (c["fault"], c["operation"]) == (fault, operation))
    return next(c for c in stage["checks"] if c["name"] == what)


def shortcomings(found: dict[str, Any]) -> str:
    """Everything that is not valid, for the message of a test that failed."""
    said = []
    for name, stage in found["stages"].items():
        graded = [*stage["operations"].values(), *stage["completions"].values()]
        parts = [*stage["matrix"], *stage["pooled"], *stage["checks"], *graded]
        said += [
            f"{name} {p.get('fault', '')} {p['verdict']}: {p['because']}" for p in parts if p["verdict"] != "valid"
        ]
        said += [f"{name}: {stage['because']}"] if stage["because"] else []
    return "\n".join(said)
