"""What did a program ask for? Runs it beside a mocked engine and keeps every resource as a row.

Tests assert on rows and never call `apply`. An exception anywhere in the program, also in an `apply`, is raised here.
Unlike Pulumi's own mocks, two resources of one name and type are refused, numbers stay whole, and what only the cloud
knows (ids, ARNs, addresses) is answered in the form the cloud would give it, or left unknown with `preview=True`.
Required properties and values are not checked: no schema is at hand without the plugins.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Thread
from typing import Any

from pulumi.runtime import mocks, rpc, settings, stack
from pulumi.runtime.config import set_all_config

from infra.testing_pulumi.cloud import CALLS, REFERENCE, answers

PROJECT = "staged-decoupling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One resource as the program asked for it."""

    type: str
    """Token such as 'aws:sqs/queue:Queue'; of a component, its own."""
    name: str
    """Pulumi's name, not the one in the cloud."""
    inputs: dict[str, Any]
    """By the provider's names (camelCase); secrets are unwrapped."""
    parent: str = ""
    """URN of the component or stack above it."""
    provider: str = ""
    """'urn::id' of an explicit provider, '' for the default one."""
    protect: bool = False
    custom: bool = True
    """False for a component."""
    secrets: frozenset[str] = frozenset()
    """Names of the inputs that are, or hold, a secret."""
    dependencies: tuple[str, ...] = ()
    """URNs, ascending."""
    ignore_changes: tuple[str, ...] = ()
    """Inputs that are kept as they were first made."""


@dataclass(slots=True)
class Recorded:
    """Everything a program did. Filled while it runs, read afterwards."""

    rows: list[Row] = field(default_factory=list)
    """By type, then by name."""
    outputs: dict[str, Any] = field(default_factory=dict)
    """What the stack exports."""
    component_outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """URN of a component -> what it registered."""
    calls: list[str] = field(default_factory=list)
    """Tokens of the provider functions that were asked."""
    references: list[str] = field(default_factory=list)
    """Other stacks whose outputs were read: organization/project/stack."""


def rows(
    program: Callable[[], object],
    config: Mapping[str, str] | None = None,
    stack: str = "test",
    *,
    preview: bool = False,
) -> list[Row]:
    """The resources of a program, by type and name. Raise what it raises; ValueError for a name that is given twice.

    `config` is the stack's, with its namespace: {'staged-decoupling:stage': 'sync'}. With `preview`, nothing that the
    cloud answers is known, as in `pulumi preview` of a new stack.
    """
    return record(program, config, stack, preview=preview).rows


def record(
    program: Callable[[], object],
    config: Mapping[str, str] | None = None,
    stack: str = "test",
    *,
    preview: bool = False,
    references: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recorded:
    """Like `rows`, with the outputs. The program runs in a thread and event loop of its own: nothing leaks.

    `references`: name of another stack -> its outputs; those of all others are empty.
    """
    recorded = Recorded()
    cloud = _Cloud(recorded, preview, references or {})
    raised: list[BaseException] = []

    def run() -> None:
        try:
            contextvars.Context().run(_run, program, dict(config or {}), stack, preview, recorded, cloud)
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run, name="pulumi program")
    collecting = gc.isenabled()
    gc.disable()  # looking through the SDK's objects again and again takes a third of the time
    try:
        thread.start()
        thread.join()
    finally:
        if collecting:
            gc.enable()
    if raised:
        raise raised[0]
    recorded.rows.sort(key=lambda row: (row.type, row.name))
    for one, other in pairwise(recorded.rows):
        if (one.type, one.name) == (other.type, other.name):
            raise ValueError(f"the program makes two resources of type {one.type} named {one.name!r}")
    return recorded


def row_of(found: Sequence[Row], type_: str, name: str) -> Row:
    """The one row of that type and name. Raise KeyError naming those of the type that there are."""
    for row in found:
        if (row.type, row.name) == (type_, name):
            return row
    raise KeyError(f"no {type_} named {name!r}; there are {[row.name for row in found if row.type == type_]}")


def of_type(found: Sequence[Row], type_: str) -> dict[str, dict[str, Any]]:
    """Name -> inputs of every row of a type."""
    return {row.name: row.inputs for row in found if row.type == type_}


def _run(
    program: Callable[[], object],
    config: dict[str, str],
    name: str,
    preview: bool,
    recorded: Recorded,
    cloud: _Cloud,
) -> None:
    loop, serving = asyncio.new_event_loop(), asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # one server: its order is the same every time; the mocks want a loop in its thread, and would not close their own
    loop.set_default_executor(ThreadPoolExecutor(1, initializer=asyncio.set_event_loop, initargs=(serving,)))
    loop.set_exception_handler(lambda *_: None)  # the first error is raised; those that follow from it are noise
    try:
        monitor = _Monitor(cloud, recorded)
        settings.set_root_resource(None)  # type: ignore[arg-type]  # what a process begins with
        made = mocks.MockSettings(  # type: ignore[no-untyped-call]  # the SDK's mocks have no types
            monitor=monitor,
            monitor_features=set(monitor.features().supportedFeatures),
            engine=mocks.MockEngine(None),
            project=PROJECT,
            stack=name,
            dry_run=preview,
            organization=None,
            callbacks=None,
        )
        settings.configure(made)
        set_all_config(config, [])

        def func() -> None:
            program()

        loop.run_until_complete(stack.run_in_stack(func))
    finally:
        settings.SETTINGS.outputs.clear()
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
        serving.close()


class _Monitor(mocks.MockMonitor):
    """Keeps what Pulumi's own mocks drop: parents, protection, dependencies, outputs."""

    def __init__(self, cloud: _Cloud, recorded: Recorded) -> None:
        super().__init__(cloud)
        self._recorded = recorded

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            self._note(request, rpc.deserialize_properties(request.object, keep_unknowns=True))
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:
        outputs = _plain(rpc.deserialize_properties(request.outputs, keep_unknowns=True))
        if "::pulumi:pulumi:Stack::" in request.urn:
            self._recorded.outputs = outputs
        else:
            self._recorded.component_outputs[request.urn] = outputs
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]

    def features(self) -> Any:
        return self.GetDeploymentInfo(None)  # type: ignore[no-untyped-call]

    def _note(self, request: Any, inputs: Mapping[str, Any]) -> None:
        row = Row(
            type=request.type,
            name=request.name,
            inputs=_plain(inputs),
            parent=request.parent,
            provider=request.provider,
            protect=bool(request.protect),
            custom=bool(request.custom),
            secrets=frozenset(name for name, value in inputs.items() if _secret(value)),
            dependencies=tuple(sorted(request.dependencies)),
            ignore_changes=tuple(request.ignoreChanges),
        )
        self._recorded.rows.append(row)


class _Cloud(mocks.Mocks):
    """Answers as AWS would, or not at all in a preview."""

    def __init__(self, recorded: Recorded, preview: bool, references: Mapping[str, Mapping[str, Any]]) -> None:
        self._recorded = recorded
        self._preview = preview
        self._references = references

    def call(self, args: mocks.MockCallArgs) -> Any:
        self._recorded.calls.append(args.token)
        if args.token == "aws:lb/getLoadBalancer:getLoadBalancer":
            return {**args.args, "arnSuffix": f"app/{args.args['name']}/0123456789abcdef"}
        return CALLS.get(args.token, {})

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if args.typ == REFERENCE:
            self._recorded.references.append(args.inputs["name"])
            known = self._references.get(args.inputs["name"].rpartition("/")[2], {})
            return args.name, {**args.inputs, "outputs": dict(known), "secretOutputNames": []}
        if self._preview and args.custom:
            return None, dict(args.inputs)
        return (f"{args.name}-id" if args.custom else None), {
            **args.inputs,
            **answers(args.typ, args.name, args.inputs),
        }


def _secret(value: Any) -> bool:
    if rpc.is_rpc_secret(value):
        return True
    if isinstance(value, Mapping):
        return any(map(_secret, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_secret, value))


def _plain(value: Any) -> Any:
    """Without the wrapping of secrets; whole numbers as int."""
    if rpc.is_rpc_secret(value):
        return _plain(value["value"])
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
