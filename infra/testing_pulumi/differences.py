"""What differs between two programs' rows, as they are kept? (pure)

    {"new": {type: {name: row}}, "gone": {type: [name, ..]},
     "changed": {type: {name: {"changed": {"/tags/stage": "async"}, "gone": ["/backupWindow"]}}}}

Properties go by JSON Pointer (RFC 6901). Lists of one length are compared item by item, others as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

from infra.testing_pulumi.kept import Tree

SHOWN = 160
"""Characters of a value that a message shows."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


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
            said: dict[str, Any] = {
                "changed": {path: now for path, _, now in found if now is not ABSENT},
                "gone": [path for path, _, now in found if now is ABSENT],
            }
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
