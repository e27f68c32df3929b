"""`stages --help` answers at once, as it loads nothing that only other commands need, and cuts no sentence short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"infra", "pulumi", "pulumi_aws", "pulumi_kubernetes", "boto3", "locust", "chaoslib", "chaos", "workloads"}
DECORATION = {"rich.markdown", "pygments", "typer.rich_utils"}


def helped(*words: str) -> tuple[str, set[str]]:
    """What the command printed, and the modules that it loaded."""
    command = [sys.executable, "-X", "importtime", str(Path(sys.executable).parent / "stages"), *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.slow
def test_help_pays_for_no_target_and_no_decoration() -> None:
    _, loaded = helped()
    assert "suite.cli" in loaded
    assert {name for name in loaded if name.partition(".")[0] in HEAVY} | (loaded & DECORATION) == set()


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("sweep",), ("dlq",)], ids=" ".join)
def test_every_command_is_listed_with_its_whole_sentence(words: tuple[str, ...]) -> None:
    said, _ = helped(*words)
    assert "..." not in said.partition("Commands:")[2]
    assert said.rstrip().endswith(".")
