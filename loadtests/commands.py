"""What may the driver ask of the load process? Parses its JSON lines; finds all that is wrong with one at once.

Pure, and without Locust. `loadtests.run` lists the commands and their replies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests.profiles import mix_problems

RATE_MAX = 5000.0
"""Arrivals per second: above what one process can send honestly on any machine."""

NAMES = ("start", "mix", "rate", "phase", "stats", "outstanding", "stop")


class BadCommand(ValueError):
    """The command cannot be obeyed; nothing was done. The message lists all problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What happens before the load proper."""

    ready_within_s: float = 10.0
    """How long the shop may take until home document and catalogue are answered."""
    rate_per_s: float = 20.0
    """Orders per second placed to fill the shop."""
    seconds: float = 0.0
    """For how long; 0 = no stock of orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Begin."""

    edge: str
    rate_per_s: float
    mix: Mapping[str, int]
    seed: int
    run_id: str
    history: Path
    warm_up: WarmUp


def parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """The command's name and its fields; raises BadCommand."""
    try:
        fields = json.loads(line)
        name = fields.pop("cmd")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCommand(f'not a command, expected {{"cmd": ...}}: {line[:200]!r}') from error
    if name not in NAMES:
        raise BadCommand(f"unknown command {name!r}, known are {', '.join(NAMES)}")
    return name, fields


def start(fields: Mapping[str, Any]) -> Start:
    """Raises BadCommand with all problems of all fields."""
    problems = _unknown("start", fields, ["edge", "rate", "mix", "seed", "run_id", "history", "warm_up"])
    warm_up = fields.get("warm_up", {})
    edge = str(fields.get("edge", ""))
    if urlsplit(edge).scheme not in ("http", "https") or not urlsplit(edge).hostname:
        problems.append(f"edge={edge!r} is not the URL of a shop, such as http://127.0.0.1:41001")
    problems += _rate_problems("rate", fields.get("rate")) + _mix_problems(fields.get("mix"))
    problems += [f"{name} is missing" for name in ("run_id", "history") if not fields.get(name)]
    if type(fields.get("seed")) is not int:
        problems.append(f"seed={fields.get('seed')!r} is not a whole number")
    if isinstance(warm_up, Mapping):
        problems += _warm_up_problems(warm_up)
    else:
        problems.append(f"warm_up={warm_up!r} is not an object")
    _raise(problems)
    default = WarmUp()
    return Start(
        edge=edge.rstrip("/"),
        rate_per_s=float(fields["rate"]),
        mix=fields["mix"],
        seed=fields["seed"],
        run_id=str(fields["run_id"]),
        history=Path(fields["history"]),
        warm_up=WarmUp(
            ready_within_s=float(warm_up.get("ready_within_s", default.ready_within_s)),
            rate_per_s=float(warm_up.get("rate", default.rate_per_s)),
            seconds=float(warm_up.get("seconds", default.seconds)),
        ),
    )


def mix(fields: Mapping[str, Any]) -> Mapping[str, int]:
    """The new mix; raises BadCommand."""
    _raise(_unknown("mix", fields, ["mix"]) + _mix_problems(fields.get("mix")))
    found: Mapping[str, int] = fields["mix"]
    return found


def rate(fields: Mapping[str, Any]) -> float:
    """The new rate, per second; raises BadCommand."""
    _raise(_unknown("rate", fields, ["rate"]) + _rate_problems("rate", fields.get("rate")))
    return float(fields["rate"])


def phase(fields: Mapping[str, Any]) -> str:
    """The phase's name; raises BadCommand."""
    problems = _unknown("phase", fields, ["name"])
    if not isinstance(fields.get("name"), str) or not fields["name"]:
        problems.append(f"name={fields.get('name')!r} is not the name of a phase")
    _raise(problems)
    return str(fields["name"])


def _raise(problems: list[str]) -> None:
    if problems:
        raise BadCommand("; ".join(problems))


def _unknown(command: str, fields: Mapping[str, Any], known: list[str]) -> list[str]:
    return [f"{command} takes no field {name!r}, only {', '.join(known)}" for name in fields if name not in known]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rate_problems(name: str, value: Any) -> list[str]:
    if _number(value) and 0 < value <= RATE_MAX:
        return []
    return [f"{name}={value!r} is not a rate per second above 0 and up to {RATE_MAX:g}"]


def _mix_problems(value: object) -> list[str]:
    return mix_problems(value) if isinstance(value, Mapping) else [f"mix={value!r} is not an object of weights"]


def _warm_up_problems(fields: Mapping[str, Any]) -> list[str]:
    problems = _unknown("warm_up", fields, ["ready_within_s", "rate", "seconds"])
    for name in ("ready_within_s", "seconds"):
        value = fields.get(name, 0)
        if not (_number(value) and 0 <= value <= 600):
            problems.append(f"warm_up {name}={value!r} is not a time from 0 to 600 s")
    return problems + (_rate_problems("warm_up rate", fields["rate"]) if "rate" in fields else [])
