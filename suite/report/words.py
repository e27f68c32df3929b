"""How are figures and strange text written, so that every part of the report says them alike?"""

from __future__ import annotations

import re

SYMBOLS = {"unaffected": ".", "degraded": "o", "delayed": "~", "failing": "X", "unknown": "?"}
"""The letter of each effect: colour is never the only sign."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
"""What XML 1.0 forbids, what a terminal would obey, and what turns the reading direction around."""


def clean(text: object) -> str:
    """Any text without control characters (each becomes U+FFFD); newlines and tabs stay.

    >>> clean("a\\x1b[31mb")
    'a\\ufffd[31mb'
    """
    return _CONTROL.sub("\ufffd", str(text))


def line(text: object, most: int = 300) -> str:
    """`clean`, on one line, at most `most` characters.

    >>> line("a\\n  b")
    'a b'
    """
    joined = " ".join(clean(text).split())
    return joined if len(joined) <= most else joined[: most - 1] + "…"


def duration(seconds: float | None) -> str:
    """Length of time for people.

    >>> duration(161), duration(4.25), duration(None)
    ('2 min 41 s', '4.2 s', 'not known')
    """
    if seconds is None:
        return "not known"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def milliseconds(ms: float | None) -> str:
    """A latency with three digits at most.

    >>> milliseconds(3.21), milliseconds(412.3), milliseconds(1500)
    ('3.2 ms', '412 ms', '1.5 s')
    """
    if ms is None:
        return "–"
    if ms >= 1000:
        return f"{ms / 1000:.3g} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def percent(share: float | None) -> str:
    """A share of requests.

    >>> percent(0), percent(0.0031), percent(0.05), percent(0.5)
    ('0 %', '0.3 %', '5 %', '50 %')
    """
    if share is None:
        return "–"
    points = share * 100
    return f"{points:.0f} %" if points >= 10 else f"{f'{points:.1f}'.removesuffix('.0')} %"


def figure(value: float | None, digits: int = 2) -> str:
    """A plain number with a fixed number of decimals, '–' if it is not known; no minus before a zero.

    >>> figure(0.125), figure(-0.001), figure(None)
    ('0.12', '0.00', '–')
    """
    if value is None:
        return "–"
    return f"{round(value, digits) or 0.0:.{digits}f}"


def count(number: int, thing: str, things: str | None = None) -> str:
    """
    >>> count(1, "stage"), count(0, "leak"), count(9, "process", "processes")
    ('1 stage', '0 leaks', '9 processes')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {things or thing + 's'}"
