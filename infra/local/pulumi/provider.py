"""What does the engine ask of the local cloud, and what is it told? The logic; `server` puts it on a port."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pulumi.provider.experimental import provider as api

from infra.local.client import LocalCloud
from infra.local.errors import CloudError, Conflict, NotFound
from infra.local.pulumi.diffing import DRIFTED, UNKNOWN, Difference, differences, seen_inputs
from infra.local.pulumi.kinds import DEPLOYMENT, EDGE, IDENTITY, Kind, kind_of
from infra.local.pulumi.values import Properties, plain_map, property_map, supposed
from infra.local.settled import record_of, until_settled
from infra.local.target import LocalTarget
from stages.catalogue import STAGES

T = TypeVar("T")

AT_ONCE = 32
"""Requests to the cloud at once; the engine's own limit is lower on most machines."""

_KINDS_OF_CHANGE = {
    ("add", False): api.PropertyDiffKind.ADD,
    ("add", True): api.PropertyDiffKind.ADD_REPLACE,
    ("delete", False): api.PropertyDiffKind.DELETE,
    ("delete", True): api.PropertyDiffKind.DELETE_REPLACE,
    ("update", False): api.PropertyDiffKind.UPDATE,
    ("update", True): api.PropertyDiffKind.UPDATE_REPLACE,
}


class LocalProvider(api.Provider):
    """Resources of one home's local cloud. Every method raises CloudError with a sentence for the user."""

    def __init__(self, target: LocalTarget) -> None:
        self._target = target
        self._cloud: LocalCloud = target.cloud
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="cloud")
        self._cancelled = threading.Event()
        self._cancelling: asyncio.Event | None = None
        self._fresh: set[str] = set()
        """Deployments that were not there before this process made them: nothing of them was."""

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        """Secrets arrive as such, and previews too; there is nothing to configure."""
        return api.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        """Every problem of the inputs, whether or not values of other resources are known yet."""
        kind, news = kind_of(_type(request.urn)), plain_map(request.new_inputs)
        problems = kind.problems(supposed(news))
        if kind.name == DEPLOYMENT and not problems:
            problems = [f"stage {news['stage']!r} cannot run here: {why}" for why in self._cannot(news["stage"])]
        failures = [api.CheckFailure(_property(problem, news), problem) for problem in problems]
        return api.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        """Property by property; nothing is asked of the cloud."""
        kind = kind_of(_type(request.urn))
        found = differences(kind, plain_map(request.old_state), plain_map(request.new_inputs))
        found = tuple(d for d in found if d.path.partition(".")[0] not in request.ignore_changes)
        return api.DiffResponse(
            changes=bool(found),
            diffs=sorted({difference.path.partition(".")[0] for difference in found}),
            replaces=sorted({d.path.partition(".")[0] for d in found if d.replace}),
            delete_before_replace=_taken(found),
            detailed_diff={
                d.path: api.PropertyDiff(_KINDS_OF_CHANGE[d.change, d.replace], input_diff=d.is_input) for d in found
            },
        )

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        """Have it; an attempt that fails leaves nothing of what was not there before."""
        kind, inputs = kind_of(_type(request.urn)), plain_map(request.properties)
        if request.preview:
            unknown = dict.fromkeys(kind.outputs_of(supposed(inputs)), UNKNOWN)
            return api.CreateResponse("", _state(inputs, unknown, request.properties))
        outputs = await self._working(lambda: self._create(kind, inputs))
        return api.CreateResponse(kind.id_of(inputs), _state(inputs, outputs, request.properties))

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        """As it is now: with what somebody else asked for since, and gone if it is."""
        kind = kind_of(_type(request.urn))
        recorded = plain_map(request.inputs) or _identity(kind, request.resource_id)
        found = await self._working(lambda: self._read(kind, request.resource_id, recorded))
        if found is None:
            return api.ReadResponse("")
        inputs, outputs = found
        return api.ReadResponse(
            request.resource_id, _state(inputs, outputs, request.inputs), property_map(inputs, request.inputs)
        )

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        """Change it in place: a service by a rolling replacement, which loses no request."""
        kind, news = kind_of(_type(request.urn)), plain_map(request.news)
        olds = plain_map(request.olds)
        if request.preview:
            names = kind.outputs_of(supposed(news))
            moving = {*kind.moving, *({"state"} if olds.get("state") in DRIFTED else ())}
            expected = {name: olds.get(name, UNKNOWN) if name not in moving else UNKNOWN for name in names}
            return api.UpdateResponse(_state(news, expected, request.news))
        outputs = await self._working(lambda: self._put(kind, news, olds))
        return api.UpdateResponse(_state(news, outputs, request.news))

    async def delete(self, request: api.DeleteRequest) -> None:
        """Take it away; fine if it is gone already."""
        kind = kind_of(_type(request.urn))
        await self._working(lambda: self._delete(kind, request.resource_id))

    async def cancel(self) -> None:
        """Begin nothing more, and wait for nothing: what the cloud has begun it ends by itself."""
        self._cancelled.set()
        if self._cancelling is not None:
            self._cancelling.set()

    # how; all below is blocking

    def _create(self, kind: Kind, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if kind.name == EDGE or self._is_there(kind, inputs):
            return self._put(kind, inputs, {})
        if kind.name == DEPLOYMENT:
            self._fresh.add(str(inputs["name"]))
        try:
            return self._put(kind, inputs, {})
        except CloudError:
            with contextlib.suppress(CloudError):  # the reason that the user gets to see is the first one
                self._delete(kind, kind.id_of(inputs))
            raise

    def _is_there(self, kind: Kind, inputs: Mapping[str, Any]) -> bool:
        if self._cloud.blank or inputs.get("deployment") in self._fresh:
            return False
        try:
            self._cloud.get(f"/deployments/{kind.id_of(inputs)}")
        except NotFound:
            return False
        return True

    def _put(self, kind: Kind, inputs: Mapping[str, Any], olds: Mapping[str, Any]) -> dict[str, Any]:
        if kind.name == EDGE:
            name = str(inputs["deployment"])
            deployment = until_settled(self._cloud, STAGES[inputs["stage"]], name, self._cancelled.is_set)
            return {"url": deployment.edge, "record": _record(deployment.directory)}
        path = f"/deployments/{kind.id_of(inputs)}"
        if kind.name == DEPLOYMENT:
            body = {"variant": None, "owner_pid": None, **kind.body(inputs)}
            answer = self._cloud.put(f"{path}?move=true" if olds else path, body)
            return _deployment_outputs(answer)
        again = kind.name == "service" and olds.get("state") == "paused"  # it lives, so asking alone changes nothing
        answer = self._cloud.put(f"{path}?restart=true" if again else path, kind.body(inputs))
        return _outputs(kind, inputs, answer)

    def _read(
        self, kind: Kind, resource_id: str, recorded: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        if self._cloud.blank:
            return None
        try:
            if kind.name in (DEPLOYMENT, EDGE):
                found = record_of(self._cloud, resource_id.partition("/")[0])
                said = {"stage": found.stage, "variant": found.variant, "run_id": found.run_id}
                said = {key: value for key, value in said.items() if key in kind.inputs}
                outputs = {"url": found.edge, "record": _record(found.directory)}
                if kind.name == DEPLOYMENT:
                    outputs = _deployment_outputs({"directory": found.directory, "control": found.control})
                return _merged(recorded, said), outputs
            answer = self._cloud.get(f"/deployments/{resource_id}?inputs=true")
        except NotFound:
            return None
        inputs = seen_inputs(kind, recorded, answer["inputs"])
        return inputs, _outputs(kind, inputs, answer)

    def _delete(self, kind: Kind, resource_id: str) -> None:
        if kind.name == DEPLOYMENT:
            self._target.down(resource_id)
            self._fresh.discard(resource_id)
        elif kind.name != EDGE and not self._cloud.blank:
            with contextlib.suppress(NotFound):
                self._cloud.delete(f"/deployments/{resource_id}")

    def _cannot(self, stage: str) -> list[str]:
        found = [*self._target.problems()]
        return [*found, *self._target.mesh_problems()] if STAGES[stage].mesh else found

    async def _working(self, work: Callable[[], T]) -> T:
        """Do a piece of blocking work in a thread. Raise Conflict at once when the user cancels."""
        if self._cancelling is None:
            self._cancelling = asyncio.Event()
        if self._cancelled.is_set():
            raise Conflict("cancelled before it was begun; `pulumi up` continues")
        working = asyncio.get_running_loop().run_in_executor(self._pool, work)
        cancelling = asyncio.ensure_future(self._cancelling.wait())
        either: set[asyncio.Future[Any]] = {working, cancelling}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        cancelling.cancel()
        if working.done():
            return working.result()
        raise Conflict("cancelled while the local cloud worked on it; `pulumi up --refresh` continues")


def _type(urn: str) -> str:
    """The type token in a URN, without those of its parents."""
    return urn.split("::")[2].rpartition("$")[2]


def _taken(found: tuple[Difference, ...]) -> bool:
    """Whether the old one has to go first, since it has the name that the new one shall have."""
    return any(d.replace for d in found) and not any(d.path in IDENTITY for d in found)


def _property(problem: str, inputs: Mapping[str, Any]) -> str:
    """The input that a problem is about, if it says so."""
    word = problem.partition(" ")[0]
    return word if word in inputs else ""


def _outputs(kind: Kind, inputs: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    names = kind.outputs_of(inputs)
    found = {name: answer[name] for name in names if answer.get(name) is not None}
    return found | ({"ended": answer["ended"]} if answer.get("ended") else {})


def _deployment_outputs(answer: Mapping[str, Any]) -> dict[str, Any]:
    directory, control = answer["directory"], answer["control"]
    return {"directory": directory, "control": control, "record": _record(directory)}


def _record(directory: str) -> str:
    return f"{directory}/deployment.json"


def _merged(recorded: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**recorded, **said}.items() if value is not None}


def _state(inputs: Mapping[str, Any], outputs: Mapping[str, Any], like: Properties) -> dict[str, Any]:
    """What the engine records: the inputs, by which the next `diff` judges, and the outputs."""
    return property_map({**inputs, **outputs}, like)


def _identity(kind: Kind, resource_id: str) -> dict[str, Any]:
    """What an id says of inputs, for `pulumi import`."""
    deployment, _, rest = resource_id.partition("/")
    if kind.name == DEPLOYMENT:
        return {"name": deployment}
    return {"deployment": deployment, "name": rest.rpartition("/")[2] or EDGE}
