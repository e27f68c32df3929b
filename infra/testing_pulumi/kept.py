"""How are a program's rows kept for people to read, and what differs between two? (pure)

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
what differs from it: whole resources that are new or gone, and of others the properties, by JSON Pointer (RFC 6901).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from infra.testing_pulumi.recorder import Recorded, Row

Tree = dict[str, dict[str, Any]]
"""Type -> name -> what is kept of the row; or, of a program with a base, the differences."""

STACK = "pulumi:pulumi:Stack"
WIDTH = 150
SHOWN = 160
"""Characters of a value that a message shows."""
AFTER_MAX = 2
"""A resource that waits for more than these says so once for all that wait for the same."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


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


def changes(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every property that differs: its pointer, what it was, what it is; ABSENT for one that is not there.

    >>> list(changes({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}))
    [('/a/1/b', 2, 3)]
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            step = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            yield from changes(before.get(key, ABSENT), after.get(key, ABSENT), step)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from changes(one, other, f"{path}/{place}")
    elif before != after or type(before) is not type(after):
        yield path, before, after


def difference(base: Tree, tree: Tree) -> Tree:
    """What `applied` makes the tree of the base with."""
    new: Tree = {}
    gone: dict[str, Any] = {}
    changed: Tree = {}
    for type_, name, before, after in _pairs(base, tree):
        if before is ABSENT:
            new.setdefault(type_, {})[name] = after
        elif after is ABSENT:
            gone.setdefault(type_, []).append(name)
        elif found := list(changes(before, after)):
            said = {"changed": {p: now for p, _, now in found if now is not ABSENT}}
            said |= {"gone": [p for p, _, now in found if now is ABSENT]}  # type: ignore[dict-item]
            changed.setdefault(type_, {})[name] = {key: value for key, value in said.items() if value}
    return {"changed": changed, "gone": gone, "new": new}


def applied(base: Tree, found: Tree) -> Tree:
    """The tree that the differences were found for."""
    tree = deepcopy(base)
    for type_, names in found["gone"].items():
        for name in names:
            del tree[type_][name]
    for type_, rows in found["new"].items():
        tree.setdefault(type_, {}).update(rows)
    for type_, rows in found["changed"].items():
        for name, said in rows.items():
            for path, value in said.get("changed", {}).items():
                holder, step = _holder(tree[type_][name], path)
                holder[step] = value
            for path in said.get("gone", ()):
                holder, step = _holder(tree[type_][name], path)
                del holder[step]
    return {type_: rows for type_, rows in tree.items() if rows}


def _holder(value: Any, path: str) -> tuple[Any, Any]:
    """Where a pointer leads to: the dict or list, and the key or index in it."""
    *steps, last = (step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/"))
    for step in steps:
        value = value[int(step) if isinstance(value, list) else step]
    return value, int(last) if isinstance(value, list) else last


def _pairs(base: Tree, tree: Tree) -> Iterator[tuple[str, str, Any, Any]]:
    for type_ in sorted(base.keys() | tree.keys()):
        before, after = base.get(type_, {}), tree.get(type_, {})
        for name in sorted(before.keys() | after.keys()):
            yield type_, name, before.get(name, ABSENT), after.get(name, ABSENT)


def told(wanted: Tree, found: Tree) -> list[str]:
    """What is new, gone or changed, a sentence each; [] for equal trees."""
    said = []
    for type_, name, before, after in _pairs(wanted, found):
        resource = f"{type_} {name!r}"
        if before is ABSENT:
            said.append(f"new: {resource}")
        elif after is ABSENT:
            said.append(f"gone: {resource}")
        else:
            said += [f"changed: {resource} {path}: {_cut(was, now)}" for path, was, now in changes(before, after)]
    return said


def _cut(was: Any, now: Any) -> str:
    """Both values; of long ones the part around the first character that differs."""
    texts = [repr(v) if v is ABSENT else json.dumps(v, ensure_ascii=False) for v in (was, now)]
    if max(map(len, texts)) <= SHOWN:
        return " -> ".join(texts)
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, same - SHOWN // 4)
    return " -> ".join(("..." if start else "") + t[start : start + SHOWN] for t in texts)
