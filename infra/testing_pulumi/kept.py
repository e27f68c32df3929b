"""How are a program's rows kept for people to read? (pure)

    {"aws:ec2/vpc:Vpc": {"shop": {"$parent": "stages:aws:Vpc::shop", "cidrBlock": "10.0.0.0/16", ..}}, ..}

Everything of a row is there, so that equal files mean equal rows; only the spelling is for readers. Inputs have the
provider's names, all else begins with $:

    $after, $parent    what a resource waits for, and what it is a part of; a program's own resources are the stack's
    $provider          where it is not what the stack says of all of a package
    "as <resource>"    of $after: the same as that one, which comes first in the file
    "$stage"           a text that is the stage's name
    {"$json": ..}      a text that is JSON with ascending keys
    {"$lines": [..]}   a text of several lines
    {"$file": path}    the text of a file of this repository

`apiVersion` and `kind` of a Kubernetes object are left out where its type says them. A program with a base is kept as
what differs from it (`differences.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from infra.testing_pulumi.recorder import Recorded, Row

Tree = dict[str, dict[str, Any]]
"""Type -> name -> what is kept of the row."""

STACK = "pulumi:pulumi:Stack"
WIDTH = 150
AFTER_MAX = 2
"""A resource that waits for more than these says so once for all that wait for the same."""


def kept(recorded: Recorded, stage: str, files: Mapping[str, str]) -> Tree:
    """Rows and outputs of a program, by type and name, ascending. `files`: text -> path."""
    known = {stage: "$stage", **{content: {"$file": path} for content, path in files.items()}}
    providers = _providers(recorded.rows)
    found: Tree = {STACK: {"outputs": _spelt(recorded.outputs, known), "providers": providers}}
    first: dict[str, str] = {}
    for row in recorded.rows:
        after: Any = _after(row.dependencies)
        if len(row.dependencies) > AFTER_MAX:
            same = first.setdefault(json.dumps(after), f"{row.type}::{row.name}")
            after = after if same == f"{row.type}::{row.name}" else f"as {same}"
        parent, provider = _short(row.parent) if row.parent else "", _provider(row)
        said = {
            "$after": after,
            "$ignore_changes": list(row.ignore_changes),
            "$parent": "" if parent.startswith(f"{STACK}::") else parent,
            "$protect": row.protect,
            "$provider": "" if providers.get(_package(row.type), "") == provider else provider or "the default",
            "$secrets": sorted(row.secrets),
        }
        inputs = _spelt({k: v for k, v in row.inputs.items() if _implied(row.type).get(k) != v}, known)
        found.setdefault(row.type, {})[row.name] = {**{key: value for key, value in said.items() if value}, **inputs}
    return dict(sorted(found.items()))


def _providers(rows: Iterable[Row]) -> dict[str, str]:
    """Package -> the provider of most of its resources."""
    counted: dict[str, Counter[str]] = {}
    for row in rows:
        if provider := _provider(row):
            counted.setdefault(_package(row.type), Counter())[provider] += 1
    return {package: max(sorted(names), key=names.__getitem__) for package, names in sorted(counted.items())}


def _provider(row: Row) -> str:
    return row.provider.split("::")[-2] if row.provider else ""


def _package(type_: str) -> str:
    return type_.partition(":")[0]


def _implied(type_: str) -> dict[str, str]:
    """What the type of a Kubernetes object says of it.

    >>> _implied("kubernetes:core/v1:Service")
    {'apiVersion': 'v1', 'kind': 'Service'}
    """
    package, _, rest = type_.partition(":")
    version, _, kind = rest.partition(":")
    return {"apiVersion": version.removeprefix("core/"), "kind": kind} if package == "kubernetes" else {}


def _short(urn: str) -> str:
    """Type and name, which no two resources of a stack share."""
    _, _, types, name = urn.split("::", 3)
    return f"{types.rpartition('$')[2]}::{name}"


def _after(urns: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for type_, _, name in sorted(_short(urn).partition("::") for urn in urns):
        found.setdefault(type_, []).append(name)
    return found


def _spelt(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _spelt(value[key], known) for key in sorted(value)}
    if isinstance(value, list):
        return [_spelt(each, known) for each in value]
    if not isinstance(value, str):
        return value
    if value in known:
        return known[value]
    if value[:1] in ("{", "["):
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        if json.dumps(parsed, sort_keys=True) == value:
            return {"$json": parsed}
    return {"$lines": value.split("\n")} if "\n" in value else value


def text(value: Any, indent: str = "", begun: int = 0) -> str:
    """JSON with one space of indent in which everything that fits is on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + begun + len(line) < WIDTH or not value or not isinstance(value, dict | list):
        return line
    deeper = indent + " "
    if isinstance(value, list):
        lines = [deeper + text(each, deeper) for each in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    named = ((json.dumps(key, ensure_ascii=False) + ": ", each) for key, each in value.items())
    lines = [deeper + key + text(each, deeper, len(key)) for key, each in named]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
