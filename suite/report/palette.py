"""Which colours does the report use, in light and in dark?

The four effects get steadily darker (light theme) or brighter (dark theme), so that their order survives
every kind of colour vision and a black-and-white printer; each also has a letter. A leak is no colour: it is a
heavy ring and a '!', because the colour is taken by what was measured. Contrasts are held by a test.
"""

from __future__ import annotations

LIGHT = {
    "ground": "#ffffff",
    "panel": "#f4f6f8",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "line": "#d0d7de",
    "strong-line": "#848d97",
    "link": "#0a58a8",
    "unaffected": "#e0f0ec",
    "unaffected-ink": "#1f4d45",
    "degraded": "#f8d872",
    "degraded-ink": "#4a3600",
    "delayed": "#e8924a",
    "delayed-ink": "#301500",
    "failing": "#a3261b",
    "failing-ink": "#ffffff",
    "unknown": "#eef0f2",
    "unknown-stripe": "#c6ccd3",
    "unknown-ink": "#2b3036",
    "valid": "#0b6e5c",
    "valid-ink": "#ffffff",
    "invalid": "#a3261b",
    "invalid-ink": "#ffffff",
    "undecided": "#57606a",
    "undecided-ink": "#ffffff",
    "median": "#0b5cad",
    "band": "#b9d3ee",
    "tail": "#5d8fc4",
    "fault": "#f6e3c8",
    "recovery": "#eef0f2",
    "stall": "#c6ccd3",
    "stage-0": "#0b5cad",
    "stage-1": "#a84300",
    "stage-2": "#6a3d9a",
    "call": "#3d4752",
    "command": "#a84300",
    "event": "#6a3d9a",
}

DARK = {
    "ground": "#0f1419",
    "panel": "#171d24",
    "ink": "#e6edf3",
    "muted": "#9aa7b4",
    "line": "#303a45",
    "strong-line": "#6b7683",
    "link": "#7cb8ff",
    "unaffected": "#17332f",
    "unaffected-ink": "#b4ddd4",
    "degraded": "#6b5712",
    "degraded-ink": "#fff3c4",
    "delayed": "#d9822b",
    "delayed-ink": "#1e0d00",
    "failing": "#ff9d88",
    "failing-ink": "#3d0600",
    "unknown": "#232a32",
    "unknown-stripe": "#3d4753",
    "unknown-ink": "#e6edf3",
    "valid": "#7fd6c2",
    "valid-ink": "#06231d",
    "invalid": "#ff9d88",
    "invalid-ink": "#3d0600",
    "undecided": "#c3ccd6",
    "undecided-ink": "#1b1f24",
    "median": "#7cb8ff",
    "band": "#23405f",
    "tail": "#4d7fb5",
    "fault": "#3a2e1b",
    "recovery": "#1e252d",
    "stall": "#3d4753",
    "stage-0": "#7cb8ff",
    "stage-1": "#ffa657",
    "stage-2": "#cfa8ff",
    "call": "#aeb9c5",
    "command": "#ffa657",
    "event": "#cfa8ff",
}


def css(colours: dict[str, str]) -> str:
    """Custom properties, one declaration each.

    >>> css({"ink": "#000000"})
    '--ink:#000000;'
    """
    return "".join(f"--{name}:{value};" for name, value in colours.items())
