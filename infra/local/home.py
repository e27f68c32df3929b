"""Where does the local cloud keep its things, and is that place ours alone?

<home>/cloud.sock  cloud.lock  cloud.log
<home>/run/<hashes>.sock                     control sockets of cluster, wire, broker and registry hosts
<home>/deployments/<name>/state.json         what the daemon knows, replaced atomically
                          deployment.json    the record for everybody else
                          logs/ traces/ databases/ leases/
                          mesh/<cluster>/    view.json status.json pki/ envoy/<part>/, and mesh/root/, of a mesh
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.errors import Invalid

PROTOCOL = 4
"""Version of the API behind the socket; a client refuses a daemon that speaks another."""

SOCKET_PATH_BYTES = 107
"""Longest path of a unix socket, bytes: sun_path holds 108 with its terminating zero (unix(7))."""

_LONGEST = len("/run/012345-012345.sock.0123")


def default_home(env: Mapping[str, str]) -> Path:
    """STAGES_HOME, or ~/.local/state/stages."""
    chosen = env.get("STAGES_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "state" / "stages"


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one STAGES_HOME. Two homes are two clouds that do not know each other."""

    path: Path
    """Absolute, symbolic links resolved: it is also the tag of every process."""

    @classmethod
    def at(cls, path: Path | str) -> Home:
        """The home at a path, which need not exist yet."""
        return cls(Path(os.path.realpath(Path(path).expanduser())))

    @property
    def socket(self) -> Path:
        return self.path / "cloud.sock"

    @property
    def lock(self) -> Path:
        return self.path / "cloud.lock"

    @property
    def log(self) -> Path:
        return self.path / "cloud.log"

    @property
    def deployments(self) -> Path:
        return self.path / "deployments"

    def deployment(self, name: str) -> Path:
        return self.deployments / name

    def control(self, deployment: str, host: str) -> Path:
        """Control socket of one host process; the name is made of hashes because socket paths must be short."""
        return self.path / "run" / f"{_digest(deployment)}-{_digest(host)}.sock"

    def controls(self, deployment: str) -> list[Path]:
        """Control sockets that exist of a deployment, whatever its hosts are."""
        return sorted((self.path / "run").glob(f"{_digest(deployment)}-*"))

    def remove_controls(self, deployment: str) -> None:
        for path in self.controls(deployment):
            path.unlink(missing_ok=True)

    def problems(self) -> list[str]:
        """Why this home cannot be used; empty when it can. Nothing is created or changed."""
        found = []
        length = len(os.fsencode(self.path)) + _LONGEST
        if length > SOCKET_PATH_BYTES:
            found.append(
                f"STAGES_HOME {self.path} is too long: its sockets' paths would have {length} bytes, "
                f"unix sockets allow {SOCKET_PATH_BYTES}; choose one shorter by {length - SOCKET_PATH_BYTES}"
            )
        return found + _ownership(self.path)

    def create(self) -> None:
        """Make the directories, 0700. Raise Invalid if the home is not, or cannot be made, ours alone."""
        found = self.problems()
        if found:
            raise Invalid.of("the local cloud's home cannot be used", found)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.path, self.deployments, self.path / "run"):
                part.mkdir(mode=0o700, exist_ok=True)
                part.chmod(0o700)
        except OSError as error:
            raise Invalid(f"STAGES_HOME {self.path} cannot be created: {error.strerror}; choose another") from error


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:6]


def _ownership(path: Path) -> list[str]:
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"STAGES_HOME {path} cannot be read: {error.strerror}"]
    if not stat.S_ISDIR(seen.st_mode):
        return [f"STAGES_HOME {path} is not a directory"]
    if seen.st_uid != os.geteuid():
        return [f"STAGES_HOME {path} belongs to user {seen.st_uid}, not to you ({os.geteuid()}); choose another"]
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return [f"STAGES_HOME {path} is not writable; chmod 700 it or choose another"]
    if seen.st_mode & 0o077 and any(path.iterdir()):
        mode = stat.S_IMODE(seen.st_mode)
        return [f"STAGES_HOME {path} has mode {mode:04o}, so others could reach the cloud's socket; chmod 700 it"]
    return []


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content: a reader, or a crash at any moment, sees the old text or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with open(scratch, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(scratch, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """An object written by `write_atomically`, None if the file is missing or is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def tail(path: Path, lines: int, offset: int = 0) -> list[str]:
    """The last lines of a text file from a byte offset on; empty if it is missing. Reads at most 64 KiB."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset, size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def below(directory: Path) -> list[Path]:
    """A directory and all that is in it, as far as it is still there: somebody may be removing it meanwhile."""
    if not directory.exists():
        return []
    found = [directory]
    for parent, folders, files in os.walk(directory):  # a folder that vanishes is passed over
        found += [Path(parent, name) for name in (*folders, *files)]
    return sorted(found)
