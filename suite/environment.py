"""What a run ran on: versions, machine, git head. Written beside the verdict so that a result can be judged later."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "staged-decoupling",
    "locust",
    "chaostoolkit",
    "chaostoolkit-lib",
    "fastapi",
    "uvicorn",
    "uvloop",
    "aiohttp",
    "sqlalchemy",
    "purgatory",
    "stamina",
    "opentelemetry-sdk",
)


def describe() -> dict[str, Any]:
    """Read versions, CPU, memory, load and the state of the git checkout; what cannot be read is None."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_mb": _memory_mb(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "packages": {name: version(name) for name in PACKAGES},
        "git": _git(),
    }


def version(package: str) -> str | None:
    """The installed version, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError):
        return None


def _git() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parent.parent

    def ask(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        return {"head": ask("rev-parse", "HEAD"), "uncommitted_changes": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
