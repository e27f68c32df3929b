"""What would a Pulumi program create? Its resources as rows, without an engine, a provider plugin or an account.

    found = rows(lambda: deploy(options, SYNC), stack="aws-sync")
    found[0]     Row(type='aws:ec2/vpc:Vpc', name='shop', inputs={'cidrBlock': '10.0.0.0/16', ...}, ...)

Tests assert on rows and never call `apply`. An exception anywhere in the program, also in an `apply`, is raised here.
Unlike Pulumi's own mocks, two resources of one name and type are refused, numbers stay whole, and what only the cloud
knows (ids, ARNs, addresses) is answered in the form the cloud would give it, or left unknown with `preview=True`.
Required properties and values are not checked: no schema is at hand without the plugins.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Thread
from typing import Any

from pulumi.runtime import mocks, rpc, settings, stack
from pulumi.runtime.config import set_all_config

ACCOUNT = "123456789012"
"""The account that every mocked ARN names."""

REGION = "us-east-1"

PROJECT = "staged-decoupling"

_SECRET = "4dabf18193072939515e22adb298388d"
"""Key that marks a wrapped secret in what goes over the wire; 1b47061264138c4ac30d75fd1eb44270 is its value there."""


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
) -> Recorded:
    """Like `rows`, with the outputs. The program runs in a thread and event loop of its own: nothing leaks."""
    recorded = Recorded()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            contextvars.Context().run(_run, program, dict(config or {}), stack, preview, recorded)
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run, name="pulumi program")
    thread.start()
    thread.join()
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


def _run(program: Callable[[], object], config: dict[str, str], name: str, preview: bool, recorded: Recorded) -> None:
    loop, serving = asyncio.new_event_loop(), asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # one server: its order is the same every time; the mocks want a loop in its thread, and would not close their own
    loop.set_default_executor(ThreadPoolExecutor(1, initializer=asyncio.set_event_loop, initargs=(serving,)))
    loop.set_exception_handler(lambda *_: None)  # the first error is raised; those that follow from it are noise
    try:
        monitor = _Monitor(_Cloud(recorded, preview), recorded)
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

    def __init__(self, recorded: Recorded, preview: bool) -> None:
        self._recorded = recorded
        self._preview = preview

    def call(self, args: mocks.MockCallArgs) -> Any:
        self._recorded.calls.append(args.token)
        if args.token == "aws:lb/getLoadBalancer:getLoadBalancer":
            return {**args.args, "arnSuffix": f"app/{args.args['name']}/0123456789abcdef"}
        return CALLS.get(args.token, {})

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if self._preview and args.custom:
            return None, dict(args.inputs)
        return (f"{args.name}-id" if args.custom else None), {
            **args.inputs,
            **answers(args.typ, args.name, args.inputs),
        }


CALLS: dict[str, dict[str, Any]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {
        "accountId": ACCOUNT,
        "arn": f"arn:aws:iam::{ACCOUNT}:user/test",
        "userId": "TEST",
        "id": ACCOUNT,
    },
    "aws:index/getPartition:getPartition": {"partition": "aws", "dnsSuffix": "amazonaws.com", "id": "aws"},
    "aws:index/getRegion:getRegion": {"region": REGION, "id": REGION, "name": REGION},
}


def answers(type_: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the cloud adds to a resource.

    >>> answers("aws:sqs/queue:Queue", "q", {"name": "shop-orders"})["arn"]
    'arn:aws:sqs:us-east-1:123456789012:shop-orders'
    """
    if type_ == "kubernetes:networking.k8s.io/v1:Ingress":
        host = f"k8s-{inputs['metadata']['name']}-1f2e3d4c5b-1234567890.{REGION}.elb.amazonaws.com"
        return {"status": {"loadBalancer": {"ingress": [{"hostname": host}]}}}
    if type_.startswith("stages:local:"):
        return _tokens(type_, name, inputs)
    if not type_.startswith("aws:"):
        return {}
    service = type_.split(":")[1].split("/")[0]
    called = str(next((inputs[key] for key in _NAMES if inputs.get(key)), name))
    place = f"{'' if service in _GLOBAL else REGION}:{ACCOUNT}"
    arn = f"arn:aws:{_SERVICE.get(service, service)}:{place}:{_INFIX.get(type_, '')}{called}{_SUFFIX.get(type_, '')}"
    return {"arn": arn, **_MORE.get(type_, _nothing)(called, inputs)}


_NAMES = ("name", "identifier", "clusterName")
_GLOBAL = frozenset({"iam", "route53"})
_SERVICE = {"lb": "elasticloadbalancing", "msk": "kafka"}
_INFIX = {
    "aws:iam/role:Role": "role/",
    "aws:iam/policy:Policy": "policy/",
    "aws:eks/cluster:Cluster": "cluster/",
    "aws:rds/instance:Instance": "db:",
    "aws:ecr/repository:Repository": "repository/",
    "aws:kms/key:Key": "key/",
    "aws:msk/cluster:Cluster": "cluster/",
    "aws:msk/configuration:Configuration": "configuration/",
    "aws:acm/certificate:Certificate": "certificate/",
    "aws:cloudwatch/logGroup:LogGroup": "log-group:",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "alarm:",
    "aws:ec2/vpc:Vpc": "vpc/",
    "aws:ec2/subnet:Subnet": "subnet/",
}
_SUFFIX = {"aws:msk/cluster:Cluster": "/uuid", "aws:msk/configuration:Configuration": "/uuid"}

_Answer = Callable[[str, Mapping[str, Any]], dict[str, Any]]


def _tokens(type_: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of a resource of the local cloud: what refers to its outputs before they are known."""
    from infra.local.pulumi.kinds import DEPLOYMENT, kind_of
    from infra.local.resource import Ref

    kind = kind_of(type_)
    known_by = "" if kind.name == DEPLOYMENT else name
    return {output: Ref(kind.name, known_by, output).token for output in kind.outputs_of(inputs)}


def _nothing(_called: str, _inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _eks(called: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "endpoint": f"https://{called}.eks.{REGION}.amazonaws.com",
        "certificateAuthority": {"data": "Q0E="},
        "identities": [{"oidcs": [{"issuer": f"https://oidc.eks.{REGION}.amazonaws.com/id/{called}"}]}],
        "vpcConfig": {**inputs.get("vpcConfig", {}), "clusterSecurityGroupId": f"sg-{called}"},
    }


def _rds(called: str, _inputs: Mapping[str, Any]) -> dict[str, Any]:
    host = f"{called}.mock.{REGION}.rds.amazonaws.com"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{called}"
    return {
        "address": host,
        "endpoint": f"{host}:5432",
        "port": 5432,
        "resourceId": f"db-{called}",
        "masterUserSecrets": [{"secretArn": secret, "secretStatus": "active"}],
    }


def _acm(_called: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    domain = inputs["domainName"]
    proof = {
        "domainName": domain,
        "resourceRecordName": f"_proof.{domain}.",
        "resourceRecordType": "CNAME",
        "resourceRecordValue": "_value.acm-validations.aws.",
    }
    return {"domainValidationOptions": [proof]}


_MORE: Mapping[str, _Answer] = {
    "aws:acm/certificate:Certificate": _acm,
    "aws:ec2/vpc:Vpc": lambda _called, _inputs: {"ownerId": ACCOUNT},
    "aws:ecr/repository:Repository": lambda called, _inputs: {
        "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{called}",
        "registryId": ACCOUNT,
    },
    "aws:eks/cluster:Cluster": _eks,
    "aws:kms/key:Key": lambda called, _inputs: {"keyId": called},
    "aws:msk/cluster:Cluster": lambda called, _inputs: {
        "bootstrapBrokersSaslIam": ",".join(
            f"b-{n}.{called}.mock.kafka.{REGION}.amazonaws.com:9098" for n in (1, 2, 3)
        ),
        "clusterUuid": "uuid",
    },
    "aws:msk/configuration:Configuration": lambda _called, _inputs: {"latestRevision": 1},
    "aws:rds/instance:Instance": _rds,
    "aws:sqs/queue:Queue": lambda called, _inputs: {"url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{called}"},
}
"""Type -> what its provider answers besides an ARN."""


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
