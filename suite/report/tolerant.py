"""How is a value of a document read that may be missing or of another type? As None, nothing, or 'unknown'."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from suite.report.document import VERDICTS, Json
from suite.report.words import line

_T = TypeVar("_T")


def each(value: object, read: Callable[[Json], _T]) -> tuple[_T, ...]:
    """What `read` makes of every object in a list."""
    return tuple(read(item) for item in sequence(value) if isinstance(item, Mapping))


def sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def text(raw: Json, key: str) -> str:
    """On one line, without control characters."""
    value = raw.get(key)
    return "" if value is None else line(value, most=2000)


def names(value: object, most: int = 300) -> tuple[str, ...]:
    """One or several texts, each at most `most` characters."""
    if isinstance(value, str):
        return (line(value, most),)
    return tuple(line(item, most) for item in value) if isinstance(value, Iterable) else ()


def verdict_of(raw: Json) -> str:
    value = raw.get("verdict")
    return value if isinstance(value, str) and value in VERDICTS else "unknown"


def number(value: object) -> float | None:
    """A finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def integer(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def share(value: object) -> float | None:
    """A number in [0, 1], clipped."""
    found = number(value)
    return None if found is None else min(1.0, max(0.0, found))


def truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
