"""Is everything there that the Pulumi engine needs for AWS? One line per lack, with its remedy; nothing is started.

`lacks` is pure; `look` reads this machine. Whether the credentials are good only AWS can say, at the first call.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # its stubs are one more package for two calls

PASSPHRASE = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
"""Either will do; an empty passphrase is one, too, if it is set."""

REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")

_SERVICE = re.compile(r"https?://")
"""Pulumi Cloud keeps secrets by keys of its own; every other backend leaves them to a passphrase or a key of AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found."""

    cli: str | None
    """Path of `pulumi`."""
    project: bool
    """Whether Pulumi.yaml is where it is expected."""
    backend: str | None
    """Its URL; None where nobody logged in."""
    passphrase: bool
    own_secrets_provider: bool
    """Whether secrets are kept by a key (awskms://...) rather than by a passphrase."""
    region: str | None
    credentials: bool


def lacks(machine: Machine, root: Path) -> list[str]:
    """What keeps the engine from starting, most basic first; [] when nothing does."""
    found = []
    if machine.cli is None:
        found.append("no `pulumi` on PATH: install the Pulumi CLI (its site says how), then try again")
    if not machine.project:
        found.append(f"no Pulumi.yaml in {root}: run this from a checkout of the project, or set STAGES_PROJECT to one")
    if machine.backend is None:
        found.append("no place for the state: `pulumi login s3://<bucket>` (or `pulumi login --local` for trying)")
    elif not (machine.passphrase or machine.own_secrets_provider or _SERVICE.match(machine.backend)):
        found.append(
            f"no passphrase for the secrets in {machine.backend.partition('://')[0]}:// state: "
            f"set {PASSPHRASE[0]} or {PASSPHRASE[1]}"
        )
    if machine.region is None:
        found.append(f"no region: `export {REGION[0]}=us-east-1`, or `region` in the stack's configuration")
    if not machine.credentials:
        found.append("no AWS credentials: `aws sso login` and AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret")
    return found


def look(root: Path, config: Mapping[str, str], environ: Mapping[str, str]) -> Machine:
    """Read what there is; opens no connection but the one to an instance's own metadata, if there is no other way."""
    project = _yaml(root / "Pulumi.yaml")
    backend = project.get("backend")
    return Machine(
        cli=shutil.which("pulumi", path=environ.get("PATH")),
        project=bool(project),
        backend=environ.get("PULUMI_BACKEND_URL") or (backend or {}).get("url") or _logged_in(environ),
        passphrase=any(name in environ for name in PASSPHRASE),
        own_secrets_provider=bool(environ.get("PULUMI_SECRETS_PROVIDER")),
        region=config.get("region") or next((environ[name] for name in REGION if environ.get(name)), None),
        credentials=_credentials(),
    )


def _logged_in(environ: Mapping[str, str]) -> str | None:
    home = Path(environ.get("PULUMI_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".pulumi")
    current = _yaml(home / "credentials.json").get("current")  # JSON is YAML
    return str(current) if current else None


def _yaml(path: Path) -> dict[str, dict[str, str]]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _credentials() -> bool:
    """Whether the SDK's chain finds some: environment, profile, container, instance."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    profile = os.environ.get("AWS_PROFILE")
    try:
        return Session(profile=profile).get_credentials() is not None
    except BotoCoreError:
        return False
