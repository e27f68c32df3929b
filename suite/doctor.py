"""What this machine has and lacks: one finding per need, with the remedy; nothing is started or changed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from stages.catalogue import STAGES
from suite.environment import PACKAGES, version
from suite.ports import Target
from suite.show import Page

NEEDED_MEMORY_MB = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One need."""

    need: str
    ok: bool
    found: str
    needed_for: str
    remedy: str = ""
    optional: bool = False
    """Only some stage or target needs it: its lack does not fail the examination."""


def examine(target: Target) -> Page:
    """Look at everything and say what is missing for which stage."""
    findings = [*_machine(), *_packages(), *_stages(target), *_optional()]
    ok = all(f.ok or f.optional for f in findings)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "need", "found", "needed for", "what to do"):
        table.add_column(column, overflow="fold")
    for f in findings:
        mark = "[green]ok[/]" if f.ok else ("[yellow]--[/]" if f.optional else "[red]no[/]")
        table.add_row(mark, *(escape(x) for x in (f.need, f.found, f.needed_for, "" if f.ok else f.remedy)))
    return Page({"ok": ok, "findings": [asdict(f) for f in findings]}, (table,))


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0))
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2**20
    return [
        Finding(
            need="Linux",
            ok=sys.platform == "linux",
            found=platform.system(),
            needed_for="the local target (process groups, /proc, one monotonic clock)",
            remedy="use Linux, or WSL 2",
        ),
        Finding(
            need="Python >= 3.11",
            ok=sys.version_info >= (3, 11),
            found=platform.python_version(),
            needed_for="everything",
            remedy="make PYTHON=python3.11 setup",
        ),
        Finding(
            need="2 cores",
            ok=cores >= 2,
            found=str(cores),
            needed_for="verdicts: on one core the load generator disturbs what it measures",
            remedy="a larger machine; cells will end unknown here",
            optional=True,
        ),
        Finding(
            need=f"{NEEDED_MEMORY_MB} MB of free memory",
            ok=memory_mb >= NEEDED_MEMORY_MB,
            found=f"{memory_mb} MB",
            needed_for="three stages",
            remedy="end something",
            optional=True,
        ),
    ]


def _packages() -> list[Finding]:
    return [
        Finding(
            need=name,
            ok=(found := version(name)) is not None,
            found=found or "not installed",
            needed_for="the local target",
            remedy="make setup",
        )
        for name in PACKAGES
    ]


def _stages(target: Target) -> list[Finding]:
    reasons = {name: target.cannot(stage) for name, stage in STAGES.items()}
    first = next(iter(STAGES))
    return [
        Finding(
            need=f"stage {name}",
            ok=not why,
            found="can run" if not why else "; ".join(why),
            needed_for=STAGES[name].title,
            remedy="see what was found",
            optional=name != first,
        )
        for name, why in reasons.items()
    ]


def _optional() -> list[Finding]:
    return [
        Finding(
            need="psycopg",
            ok=importlib.util.find_spec("psycopg") is not None,
            found=version("psycopg") or "not installed",
            needed_for="services on PostgreSQL",
            remedy="pip install -e '.[postgres]'",
            optional=True,
        ),
        _pulumi(),
    ]


def _pulumi() -> Finding:
    """The engine; its SDK is among the packages. Nothing is run: the first `pulumi` may take a second."""
    found = shutil.which("pulumi")
    host = found and (shutil.which("pulumi-language-python") or os.path.exists(f"{found}-language-python"))
    return Finding(
        need="the Pulumi CLI",
        ok=bool(found and host),
        found=("pulumi-language-python is missing beside it" if found and not host else found) or "not on PATH",
        needed_for="`pulumi up`; `stages up` does without",
        remedy="install Pulumi, whole: `pulumi` and `pulumi-language-python` on PATH; see docs/targets/local.md",
        optional=True,
    )
