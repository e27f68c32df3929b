"""A named fault as a Chaos Toolkit experiment: pure data in, a document out.

    steady state      all operations unaffected; while the fault is on: none worse than the model predicts
    method            inject -> see it bite -> hold
    rollbacks         undo -> all operations unaffected again; always played

The documents name no stage: the prediction is made for the stage that the deployment runs. They are
checked in beside this file so that `chaos run` can take them as they are; `python -m chaos.experiment
--check` says whether they still are what the catalogue gives, `--write` writes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chaos import table
from chaos.catalogue import NamedFault, faults_of
from stages.catalogue import STAGES

DIRECTORY = Path(__file__).parent / "experiments"

HOLD_S = 10
"""How long a fault stays on in a `chaos run` that asks for nothing else."""

RECOVER_S = 20
"""How long the operations may take to recover."""


def document(named: NamedFault) -> dict[str, Any]:
    """The experiment of one fault."""
    on_fault = {"deployment": "${deployment}", "name": named.name}
    spec = {**on_fault, "fault": named.fault.spec()}
    return {
        "title": f"{named.name}: the blast radius is no larger than predicted",
        "description": f"{named.summary[0].upper()}{named.summary[1:]}.",
        "tags": ["staged-decoupling", named.fault.kind],
        "configuration": _configuration(),
        "controls": [{"name": "history", "provider": {"type": "python", "module": "chaos.controls"}}],
        "runtime": {"rollbacks": {"strategy": "always"}},
        "steady-state-hypothesis": {
            "title": "Every operation is unaffected, or no worse than the model predicts while the fault is on",
            "probes": [
                {
                    **_activity("probe", "every operation as users see it", "operations_steady", spec),
                    "tolerance": _activity("probe", "no operation worse than predicted", "no_worse_than_predicted", {}),
                }
            ],
        },
        "method": [
            _activity("action", f"inject {named.fault.kind} into {named.fault.target}", "inject", spec),
            _activity("probe", "the fault bites", "fault_bites", spec),
            _activity("action", "hold the fault", "hold", {**on_fault, "seconds": "${hold_s}", "until": "${until}"}),
        ],
        "rollbacks": [
            _activity("action", "undo the fault", "undo", on_fault),
            _activity(
                "probe",
                "every operation has recovered",
                "recovered",
                {**on_fault, "within_s": "${recover_s}"},
            ),
        ],
    }


def _configuration() -> dict[str, Any]:
    def env(key: str, default: str | int, **more: str) -> dict[str, Any]:
        return {"type": "env", "key": f"STAGES_{key}", "default": default, **more}

    return {
        "home": env("HOME", ""),
        "which": env("DEPLOYMENT", ""),
        # looked up once, so that a second deployment that starts meanwhile does not make it ambiguous
        "deployment": _activity("probe", "which deployment", "deployment_record", {"which": "${which}"}),
        "token": _activity("probe", "a name for this run's leases", "experiment_token", {}),
        "hold_s": env("HOLD_S", HOLD_S, env_var_type="float"),
        "until": env("UNTIL", ""),
        "recover_s": env("RECOVER_S", RECOVER_S, env_var_type="float"),
        "history": env("HISTORY", ""),
        "dry_run": env("DRY_RUN", ""),
    }


def _activity(kind: str, name: str, func: str, arguments: dict[str, Any]) -> dict[str, Any]:
    module = "chaos.actions" if kind == "action" else "chaos.probes"
    provider = {"type": "python", "module": module, "func": func, "arguments": arguments}
    return {"type": kind, "name": name, "provider": provider}


def catalogue() -> dict[str, NamedFault]:
    """The faults of all stages by name; raise ValueError if a name means two things."""
    found: dict[str, NamedFault] = {}
    for stage in STAGES.values():
        for named in faults_of(stage):
            other = found.setdefault(named.name, named)
            if other.fault != named.fault:
                raise ValueError(
                    f"fault {named.name!r} is {other.fault} at one stage and {named.fault} at {stage.name!r}"
                )
    return found


def files() -> dict[Path, str]:
    """What has to stand in every generated file."""
    found = catalogue()
    documents = {DIRECTORY / f"{name}.json": json.dumps(document(n), indent=2) + "\n" for name, n in found.items()}
    readme = DIRECTORY.parent / "README.md"
    return {**documents, readme: table.put_into(readme.read_text(), table.markdown(STAGES.values()))}


def stale() -> list[str]:
    """Every file that differs from what the catalogue gives, and every file too many."""
    wanted = files()
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(path.name for path in [*differing, *(set(DIRECTORY.glob("*.json")) - set(wanted))])


def main(arguments: list[str]) -> int:
    """`--check`: 0 if every file is as it should be, else 1. `--write`: make it so."""
    if arguments == ["--check"]:
        findings = stale()
        for name in findings:
            print(f"{name} differs from the catalogue; run: python -m chaos.experiment --write", file=sys.stderr)
        return 1 if findings else 0
    if arguments == ["--write"]:
        wanted = files()
        for path in set(DIRECTORY.glob("*.json")) - set(wanted):
            path.unlink()
        for path, text in wanted.items():
            path.write_text(text)
        return 0
    print("usage: python -m chaos.experiment --check | --write", file=sys.stderr)
    return 254


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
