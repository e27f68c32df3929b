"""Which resources does the provider have, and what of each is input, what output, what replaced? (pure)

One to one the local cloud's API, with two that are more than a PUT:

    Deployment      the deployment itself; may become another stage in place
    Edge            where users come: there once everybody is found and the edge has answered well
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from infra.local import requests
from infra.local.errors import CloudError, Invalid
from infra.local.state import (
    AuthoritySpec,
    BrokerSpec,
    ClusterSpec,
    QueueSpec,
    ServiceSpec,
    SubscriptionSpec,
    TopicSpec,
    WireSpec,
)
from infra.naming import plural
from stages.catalogue import STAGES, VARIANTS

PACKAGE = "stages"
DEPLOYMENT, EDGE = "deployment", "edge"

IDENTITY = ("deployment", "name")
"""Inputs of every resource: another deployment or another name is another resource."""

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of resource."""

    name: str
    read: Callable[[str, Body], object]
    """(name, inputs) -> what the local cloud makes of them. Raises Invalid with every problem."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """What never changes by itself but for `state`, which is drift."""
    replaces: frozenset[str] = frozenset()
    """Inputs that cannot be changed in place; its name is taken, so the old one goes first."""
    moving: frozenset[str] = frozenset()
    """Outputs that an update may change."""

    @property
    def token(self) -> str:
        """Its type, as Pulumi has it: 'stages:local:Service'."""
        return f"{PACKAGE}:local:{self.name.capitalize()}"

    def outputs_of(self, inputs: Body) -> tuple[str, ...]:
        """The outputs of one resource: ports have one per name."""
        names = inputs.get("names" if self.name == "port" else "ports") or ()
        return (*self.outputs, *(f"listen_{name}" for name in names))

    def problems(self, inputs: Body) -> list[str]:
        """What is wrong with all inputs, name and deployment included; empty if nothing is."""
        deployment, name = str(inputs.get("deployment", "")), str(inputs.get("name", ""))
        looks: tuple[Callable[[], object], ...] = (
            lambda: self._check_names(deployment, name),
            lambda: self.read(name, self.body(inputs)),
        )
        found: list[str] = []
        for look in looks:
            try:
                look()
            except Invalid as error:
                found += error.problems
        return found

    def body(self, inputs: Body) -> dict[str, Any]:
        """What a PUT says: every input but the address."""
        return {key: value for key, value in inputs.items() if key not in IDENTITY}

    def normal(self, inputs: Body) -> dict[str, Any]:
        """The inputs with every default, as JSON would have them. Raise CloudError if they are wrong."""
        spec = self.read(str(inputs.get("name", "")), self.body(inputs))
        raw: Mapping[str, Any] = {"names": spec} if isinstance(spec, tuple) else {}
        if is_dataclass(spec) and not isinstance(spec, type):
            raw = asdict(spec)
        found: dict[str, Any] = json.loads(json.dumps(raw))
        return found

    def id_of(self, inputs: Body) -> str:
        """Names the resource for good, and is its address: 'shop/services/orders'."""
        if self.name == DEPLOYMENT:
            return str(inputs["name"])
        if self.name == EDGE:
            return f"{inputs['deployment']}/{EDGE}"
        return f"{inputs['deployment']}/{plural(self.name)}/{inputs['name']}"

    def _check_names(self, deployment: str, name: str) -> None:
        if self.name == DEPLOYMENT:
            requests.check_names(name)
        else:
            requests.check_names(deployment, self.name, name)


def _deployment(_: str, raw: Body) -> requests.DeploymentRequest:
    found = _stage_problems(raw)
    try:
        request = requests.read_deployment(dict(raw))
    except Invalid as error:
        raise Invalid.of("deployment", [*error.problems, *found]) from None
    if found:
        raise Invalid.of("deployment", found)
    return request


def _edge(_: str, raw: Body) -> None:
    found = _stage_problems(raw)
    found += [f"unknown field {key!r}" for key in sorted(raw.keys() - {"stage", "variant"})]
    if found:
        raise Invalid.of("edge", found)


def _stage_problems(raw: Body) -> list[str]:
    stage, variant = raw.get("stage"), raw.get("variant")
    found = [] if stage in STAGES else [f"stage is {stage!r}, must be one of {', '.join(STAGES)}"]
    if variant is not None and variant not in VARIANTS:
        found.append(f"variant is {variant!r}, must be one of {', '.join(VARIANTS)}")
    return found


def _names(spec: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(spec))


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name=DEPLOYMENT,
            read=_deployment,
            inputs=("stage", "variant", "run_id", "preload"),
            outputs=("directory", "control", "record"),
            replaces=frozenset({"run_id"}),
        ),
        Kind(
            name="cluster",
            read=lambda _, raw: requests.read_cluster(raw),
            inputs=_names(ClusterSpec),
            outputs=("state",),
            replaces=frozenset(_names(ClusterSpec)),
        ),
        Kind(name="database", read=lambda _, raw: requests.read_database(raw), inputs=(), outputs=("state", "url")),
        Kind(
            name="broker",
            read=lambda _, raw: requests.read_broker(raw),
            inputs=_names(BrokerSpec),
            outputs=("state", "endpoint"),
            replaces=frozenset(_names(BrokerSpec)),
        ),
        Kind(
            name="queue",
            read=requests.read_queue,
            inputs=_names(QueueSpec),
            outputs=("state", "url", "arn"),
            replaces=frozenset({"broker", "fifo"}),
        ),
        Kind(
            name="topic",
            read=requests.read_topic,
            inputs=_names(TopicSpec),
            outputs=("state", "arn"),
            replaces=frozenset(_names(TopicSpec)),
        ),
        Kind(
            name="subscription",
            read=lambda _, raw: requests.read_subscription(raw),
            inputs=_names(SubscriptionSpec),
            outputs=("state", "arn"),
            replaces=frozenset({"broker", "topic", "queue"}),
        ),
        Kind(
            name="registry", read=lambda _, raw: requests.read_registry(raw), inputs=(), outputs=("state", "endpoint")
        ),
        Kind(
            name="authority",
            read=lambda _, raw: requests.read_authority(raw),
            inputs=_names(AuthoritySpec),
            outputs=("state",),
            replaces=frozenset(_names(AuthoritySpec)),
        ),
        Kind(name="port", read=lambda _, raw: requests.read_ports(raw), inputs=("names",), outputs=("state",)),
        Kind(
            name="wire",
            read=lambda _, raw: requests.read_wire(raw),
            inputs=_names(WireSpec),
            outputs=("listen",),
        ),
        Kind(
            name="service",
            read=lambda _, raw: requests.read_service(raw),
            inputs=_names(ServiceSpec),
            outputs=("state", "url", "log"),
            moving=frozenset({"url"}),
        ),
        Kind(name=EDGE, read=_edge, inputs=("stage", "variant"), outputs=("url", "record")),
    )
}

BY_TOKEN: Mapping[str, Kind] = {kind.token: kind for kind in KINDS.values()}


def kind_of(token: str) -> Kind:
    """Raise CloudError for a type that there is not."""
    if token not in BY_TOKEN:
        raise CloudError(f"there is no resource type {token!r}; known: {', '.join(sorted(BY_TOKEN))}")
    return BY_TOKEN[token]


def run_id_of(*words: str) -> str:
    """The run id of a stack's deployment: the same at every `up`, and another for every project, stack and name."""
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:8]
