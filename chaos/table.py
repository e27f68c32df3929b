"""The table of faults in the README, generated from the catalogue: what is done, where, and what follows."""

from __future__ import annotations

from collections.abc import Iterable

from chaos.catalogue import faults_of
from stages.blast_radius import predict
from stages.model import Stage

BEGIN = "<!-- table of faults: written by python -m chaos.experiment --write -->"
END = "<!-- end of the table -->"

MARKS = {"unaffected": ".", "degraded": "o", "delayed": "~", "failing": "X"}


def markdown(stages: Iterable[Stage]) -> str:
    """A row per fault; per stage one mark for each operation, '-' where the stage does not have the target."""
    at = list(stages)
    rows: dict[str, list[str]] = {}
    for n, stage in enumerate(at):
        for named in faults_of(stage):
            row = rows.setdefault(named.name, [f"`{named.name}`", named.fault.kind, named.summary, *["-"] * len(at)])
            marks = (MARKS[p.effect.value] for p in predict(stage, named.fault.impact(stage)).values())
            row[3 + n] = f"`{' '.join(marks)}`{' quick' if named.quick else ''}"
    heads = ["fault", "class", "what is done", *(stage.name for stage in at)]
    lines = [heads, ["---"] * len(heads), *rows.values()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_into(text: str, table: str) -> str:
    """The text with the table between its marks; raise ValueError if it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table: {BEGIN!r} and {END!r} must stand in the text")
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"
