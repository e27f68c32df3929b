"""How is the real program tested together with the real provider, where no Pulumi CLI is? By a small engine of our own.

    Engine (this process) <-- gRPC -- infra/__main__.py, run by the SDK as the language host runs it
        |
        `-- gRPC --> pulumi-resource-stages, the provider's own process

It keeps a state in memory and does what the real engine does: check, diff, create, update, replace, delete what is not
registered any more, read. It has no plugin search, no file formats, and takes no account of targets or aliases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import (
    engine_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
)

ROOT = Path(__file__).parents[3]
PROJECT = "staged-decoupling"
PLUGIN = ROOT / "infra" / "local" / "provider" / "pulumi-resource-stages"
SECRET = "4dabf18193072939515e22adb298388d"  # what Pulumi calls a signature: it marks a secret on the wire
SECRET_VALUE = "1b47061264138c4ac30d75fd1eb44270"

PROGRAM = """
import asyncio, json, os, runpy, sys
import pulumi.runtime
given = json.loads(sys.argv[1])
pulumi.runtime.set_all_config(given["config"], given["secrets"])
pulumi.runtime.configure(pulumi.runtime.Settings(
    project=given["project"], stack=given["stack"], parallel=32, dry_run=given["preview"],
    monitor=given["address"], engine=given["address"], organization="organization", root_directory=given["root"]))
os.chdir(os.path.join(given["root"], "infra"))
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
try:
    loop.run_until_complete(
        pulumi.runtime.run_in_stack(lambda: runpy.run_path(".", run_name="__main__")))
except pulumi.RunError as error:
    sys.exit(str(error))
"""
"""The core of the language host's executor."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the engine did, or would do, about one resource."""

    act: str
    """same, create, update, replace, delete, gone or drift."""
    kind: str
    name: str
    diffs: tuple[str, ...] = ()


@dataclass(slots=True)
class Known:
    """A resource in the engine's state."""

    id: str
    inputs: struct_pb2.Struct
    outputs: struct_pb2.Struct


@dataclass(slots=True)
class Result:
    """What came of one operation."""

    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.act != "same"]

    def acts(self) -> dict[str, int]:
        """How often each act was done."""
        return {act: sum(s.act == act for s in self.steps) for act in sorted({s.act for s in self.steps})}


class Engine:
    """One stack of the project, with a provider process of its own per operation, as the real engine has it."""

    def __init__(self, stack: str, home: Path, env: Mapping[str, str] | None = None) -> None:
        self._stack = stack
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._env = {**os.environ, "PATH": paths, "STAGES_HOME": str(home), **(env or {})}
        self.state: dict[str, Known] = {}
        """By URN, in the order in which they were created."""

    def up(self, config: Mapping[str, str], *, preview: bool = False, secrets: Sequence[str] = ()) -> Result:
        """`pulumi up`, or `pulumi preview`."""
        with _provider(self._env) as provider:
            operation = _Operation(self, provider, preview)
            with _serving(operation) as address:
                operation.result.errors += self._program(config, secrets, preview, address)
            if not operation.result.errors:
                operation.delete([urn for urn in self.state if urn not in operation.registered])
            return operation.result

    def refresh(self) -> Result:
        """`pulumi refresh`: gone and drifted resources are steps."""
        result = Result()
        with _provider(self._env) as provider:
            for urn, known in list(self.state.items()):
                answer = provider.Read(
                    provider_pb2.ReadRequest(id=known.id, urn=urn, properties=known.outputs, inputs=known.inputs)
                )
                if not answer.id:
                    del self.state[urn]
                    result.steps.append(_step("gone", urn))
                elif (changed := _differing(known.outputs, answer.properties)) or known.inputs != answer.inputs:
                    self.state[urn] = Known(known.id, answer.inputs, answer.properties)
                    result.steps.append(_step("drift", urn, changed))
        return result

    def destroy(self) -> Result:
        """`pulumi destroy`."""
        with _provider(self._env) as provider:
            operation = _Operation(self, provider, preview=False)
            operation.delete(list(self.state))
            return operation.result

    def urn(self, kind: str, name: str) -> str:
        return f"urn:pulumi:{self._stack}::{PROJECT}::{kind}::{name}"

    def recorded(self, kind: str, name: str) -> dict[str, Any]:
        """The outputs of a resource in the state."""
        found: dict[str, Any] = json_format.MessageToDict(self.state[self.urn(f"stages:local:{kind}", name)].outputs)
        return found

    @property
    def project_and_stack(self) -> tuple[str, str]:
        return PROJECT, self._stack

    def _program(self, config: Mapping[str, str], secrets: Sequence[str], preview: bool, address: str) -> list[str]:
        given = {
            "config": {f"{PROJECT}:{key}": value for key, value in config.items()},
            "secrets": [f"{PROJECT}:{key}" for key in secrets],
            "project": PROJECT,
            "stack": self._stack,
            "preview": preview,
            "address": address,
            "root": str(ROOT),
        }
        words = [sys.executable, "-c", PROGRAM, json.dumps(given)]
        ended = subprocess.run(words, env=self._env, capture_output=True, text=True, check=False)
        return [ended.stderr.strip()] if ended.returncode else []


class _Operation(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """What the program is answered during one operation."""

    def __init__(self, engine: Engine, provider: Any, preview: bool) -> None:
        self._engine = engine
        self._provider = provider
        self._preview = preview
        self.result = Result()
        self.registered: set[str] = set()
        self.said: list[str] = []
        self._lock = threading.Lock()

    def SupportsFeature(self, request: Any, context: Any) -> Any:
        return resource_pb2.SupportsFeatureResponse(
            hasSupport=request.id in ("secrets", "resourceReferences", "deletedWith")
        )

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "asked feature by feature instead")

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Log(self, request: Any, context: Any) -> Any:
        self.said.append(request.message)
        return empty_pb2.Empty()

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:
        self.result.outputs = json_format.MessageToDict(request.outputs)
        return empty_pb2.Empty()

    def RegisterResource(self, request: Any, context: Any) -> Any:
        urn = self._engine.urn(request.type, request.name)
        if not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=urn, object=request.object)
        known = self._engine.state.get(urn)
        olds = known.inputs if known else struct_pb2.Struct()
        checked = self._provider.Check(provider_pb2.CheckRequest(urn=urn, olds=olds, news=request.object))
        if checked.failures:
            found = "; ".join(f"{failure.property}: {failure.reason}" for failure in checked.failures)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{request.name}: {found}")
        with self._lock:
            self.registered.add(urn)
        try:
            now = self._have(urn, known, checked.inputs)
        except grpc.RpcError as error:
            context.abort(grpc.StatusCode.ABORTED, f"{request.type} {request.name}: {error.details()}")
        return resource_pb2.RegisterResourceResponse(urn=urn, id=now.id, object=now.outputs)

    def delete(self, urns: Sequence[str]) -> None:
        """In the order opposite to their creation; what goes with the deployment needs no deletion of its own."""
        gone = [urn for urn in urns if "::stages:local:Deployment::" in urn]
        for urn in reversed(urns):
            known = self._engine.state[urn]
            self._note("delete", urn)
            if not self._preview and (not gone or urn in gone):
                self._provider.Delete(provider_pb2.DeleteRequest(id=known.id, urn=urn, properties=known.outputs))
            if not self._preview:
                del self._engine.state[urn]

    def _have(self, urn: str, known: Known | None, news: struct_pb2.Struct) -> Known:
        if known is None:
            self._note("create", urn)
            return self._create(urn, news)
        diff = self._provider.Diff(
            provider_pb2.DiffRequest(id=known.id, urn=urn, olds=known.outputs, news=news, old_inputs=known.inputs)
        )
        if diff.changes == provider_pb2.DiffResponse.DIFF_NONE:
            self._note("same", urn)
            return known
        paths = tuple(sorted(diff.detailedDiff))
        if not diff.replaces:
            self._note("update", urn, paths)
            answer = self._provider.Update(
                provider_pb2.UpdateRequest(id=known.id, urn=urn, olds=known.outputs, news=news, preview=self._preview)
            )
            return self._keep(urn, Known(known.id, news, answer.properties))
        self._note("replace", urn, paths)
        if diff.deleteBeforeReplace and not self._preview:
            self._provider.Delete(provider_pb2.DeleteRequest(id=known.id, urn=urn, properties=known.outputs))
        return self._create(urn, news)

    def _create(self, urn: str, news: struct_pb2.Struct) -> Known:
        request = provider_pb2.CreateRequest(urn=urn, properties=news, preview=self._preview)
        answer = self._provider.Create(request)
        return self._keep(urn, Known(answer.id, news, answer.properties))

    def _keep(self, urn: str, now: Known) -> Known:
        if not self._preview:
            with self._lock:
                self._engine.state[urn] = now
        return now

    def _note(self, act: str, urn: str, diffs: Sequence[str] = ()) -> None:
        with self._lock:
            self.result.steps.append(_step(act, urn, diffs))


def _step(act: str, urn: str, diffs: Sequence[str] = ()) -> Step:
    _, _, token, name = urn.rsplit("::", 3)
    return Step(act, token.rpartition(":")[2], name, tuple(diffs))


def _differing(before: struct_pb2.Struct, after: struct_pb2.Struct) -> list[str]:
    old, new = json_format.MessageToDict(before), json_format.MessageToDict(after)
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


@contextmanager
def _serving(operation: _Operation) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(64))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(operation, server)
    engine_pb2_grpc.add_EngineServicer_to_server(operation, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=0).wait()


class _Plugin:
    """A client of a provider process; the first call waits until that listens: the program can start meanwhile."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._channel: Any = None
        self._client: Any = None

    def __getattr__(self, method: str) -> Any:
        with self._lock:
            if self._client is None:
                assert self._process.stdout is not None
                port = self._process.stdout.readline().strip()
                if not port.isdecimal():
                    raise AssertionError(f"the provider said no port but {port!r}")
                self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
                self._client = provider_pb2_grpc.ResourceProviderStub(self._channel)
                self._client.Configure(provider_pb2.ConfigureRequest(acceptSecrets=True, acceptResources=True))
        return getattr(self._client, method)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


@contextmanager
def _provider(env: Mapping[str, str]) -> Iterator[Any]:
    """A provider process of its own, and a client of it."""
    words = [str(PLUGIN), "127.0.0.1:1"]
    with subprocess.Popen(words, cwd=ROOT / "infra", env=dict(env), stdout=subprocess.PIPE, text=True) as process:
        plugin = _Plugin(process)
        try:
            yield plugin
        finally:
            plugin.close()
            process.terminate()
