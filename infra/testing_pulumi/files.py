"""Are a program's rows what the repository says? Files in tests/unit/rows, one a program, compared and written.

They are how a review sees what a change does to stacks: a change of a program comes with that of its files.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

from infra.testing_pulumi.differences import applied, difference, told
from infra.testing_pulumi.kept import Tree, kept, text
from infra.testing_pulumi.programs import PROGRAMS, recorded

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "tests" / "unit" / "rows"
SCRIPTS = ("infra/aws/database_setup.py", "infra/k8s/broker_setup.py")
"""Files that programs put into a ConfigMap as they are."""
COMMAND = "make rows"
SAID_MAX = 40
"""Differences that are told of one program."""


@cache
def found(name: str) -> Tree:
    """What a program makes now; change nothing of it."""
    scripts = {(ROOT / path).read_text(encoding="utf-8"): path for path in SCRIPTS}
    return kept(recorded(name), PROGRAMS[name].config["stage"], scripts)


def wanted(name: str) -> Tree:
    """What its file says. Raise FileNotFoundError if there is none."""
    tree: Tree = json.loads(_file(name).read_text(encoding="utf-8"))
    base = PROGRAMS[name].base
    return applied(wanted(base), tree) if base else tree


def problems(name: str) -> list[str]:
    """How a program differs from its file, and what to do; [] if it does not."""
    try:
        said = told(wanted(name), found(name))
    except (FileNotFoundError, KeyError):  # or its base was written without it
        said = [f"{_file(name).name} is missing, or kept as differences from another base"]
    if not said:
        return []
    more = len(said) - SAID_MAX
    return [
        f"program {name} differs from tests/unit/rows/{_file(name).name}:",
        *said[:SAID_MAX],
        *([f"... and {more} more"] if more > 0 else []),
        f"if that is meant: `{COMMAND}`, and commit the files with the change",
    ]


def contents(name: str) -> str:
    """What should stand in a program's file."""
    base = PROGRAMS[name].base
    return text(difference(found(base), found(name)) if base else found(name)) + "\n"


def main(arguments: list[str]) -> int:
    """`--write`: write every file, and remove those of programs that are no more."""
    if arguments != ["--write"]:
        print("usage: python -m infra.testing_pulumi --write", file=sys.stderr)
        return 254
    files = {_file(name): contents(name) for name in PROGRAMS}
    DIRECTORY.mkdir(exist_ok=True)
    for path in set(DIRECTORY.glob("*.json")) - set(files):
        path.unlink()
    for path, content in files.items():
        path.write_text(content, encoding="utf-8")
    return 0


def _file(name: str) -> Path:
    return DIRECTORY / f"{name}.json"
