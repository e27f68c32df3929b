"""What the README says exists: commands, options, targets, files, keys."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from suite.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SHELL_LINES = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_the_readme_has_commands_to_try() -> None:
    assert len(SHELL_LINES) > 10


@pytest.mark.parametrize("line", [line for line in SHELL_LINES if line.startswith("stages ")])
def test_every_stages_command_of_the_readme_exists_with_its_options(line: str) -> None:
    _, name, *words = line.split()
    command = COMMANDS[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert [w for w in words if w.startswith("--") and w.partition("=")[0] not in known] == []


PULUMI = ("config", "destroy", "login", "preview", "refresh", "stack", "up")
"""Commands of the CLI that the README uses."""


def test_every_pulumi_command_of_the_readme_is_one_and_names_a_stack_that_is_there() -> None:
    lines = [part.strip().split() for line in SHELL_LINES for part in line.split("&&")]
    pulumi = [words for words in lines if words[0] == "pulumi"]
    assert len(pulumi) > 4
    assert [words[1] for words in pulumi if words[1] not in PULUMI] == []
    stacks = {words[words.index("-s") + 1] for words in pulumi if "-s" in words}
    assert [stack for stack in stacks if not (ROOT / f"Pulumi.{stack}.yaml").exists()] == []
    packs = {words[words.index("--policy-pack") + 1] for words in pulumi if "--policy-pack" in words}
    assert [pack for pack in packs if not (ROOT / pack / "PulumiPolicy.yaml").exists()] == []


def test_every_command_is_in_the_readmes_table() -> None:
    table = README[README.index("| command |") :]
    assert [name for name in COMMANDS if f"`stages {name}" not in table and f"`{name}`" not in table] == []


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", "\n".join(SHELL_LINES), re.MULTILINE)) <= targets


def test_every_file_that_the_readme_links_or_runs_exists() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    run = [word for line in SHELL_LINES for word in line.split() if word.startswith(("chaos/", "loadtests/"))]
    assert [path for path in linked + run if not (ROOT / path).exists()] == []


def test_the_ci_recipe_uses_targets_and_commands_that_exist() -> None:
    recipe = (ROOT / ".github/workflows/verify.yml").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"run: make ([a-z]+)", recipe)) <= targets
    assert "stages verify --out verdict" in recipe


def test_everything_that_is_pinned_is_pinned_by_version_and_nothing_names_a_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = [name for name in extras if f"{project['name']}[{name}]" in extras["dev"]]
    assert optional == ["kafka", "aws"]
    own = [n for n in extras["dev"] if not n.startswith(project["name"])]
    needed = [*project["dependencies"], *(n for name in optional for n in extras[name]), *own]
    pinned = {line.partition("==")[0].lower() for line in lines}
    assert [n for n in needed if re.split(r"[<>=\[]", n)[0].lower() not in pinned] == []
