"""How does what is rendered for the local target become Pulumi resources?

One record, one resource. References between records become outputs, so that the engine knows what depends on what, what
can be done at once, and in which order things go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pulumi

from infra.config import Options
from infra.local.pulumi.kinds import DEPLOYMENT, EDGE, KINDS, run_id_of
from infra.local.render import preload, render
from infra.local.render_messages import VARIABLE, OwnBroker, own_broker, own_broker_problems
from infra.local.resource import NAMING, Ref, Resource, Value, parts
from stages.mesh import control_of
from stages.model import Stage

Key = tuple[str, str]
Outputs = dict[str, "pulumi.Input[Any]"]


class LocalResource(pulumi.CustomResource):
    """Any resource of the local cloud; which outputs it has is the business of its kind."""

    def __init__(self, kind: str, name: str, inputs: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        outputs = dict.fromkeys(KINDS[kind].outputs_of(inputs))
        super().__init__(KINDS[kind].token, name, {**outputs, **inputs}, opts)

    def output(self, attribute: str) -> pulumi.Output[Any]:
        """An input or an output by its name."""
        found: pulumi.Output[Any] = getattr(self, attribute)
        return found


def deploy(options: Options, stage: Stage) -> Outputs:
    """Register everything; returns the stack's outputs. Raise pulumi.RunError if the broker cannot be used."""
    own = _own_broker(options)
    run_id = run_id_of(pulumi.get_project(), pulumi.get_stack(), options.name)
    program = _Program(options, stage, run_id, _secrets(own))
    program.add_all(render(stage, run_id=run_id, variant=options.variant, broker=own))
    return program.outputs()


class _Program:
    """The resources of one stack while they are being registered."""

    def __init__(self, options: Options, stage: Stage, run_id: str, secrets: Sequence[str]) -> None:
        self._stage = stage
        self._variant = options.variant
        self._secrets = secrets
        inputs = _given({"name": options.name, "stage": stage.name, "variant": options.variant, "run_id": run_id})
        inputs["preload"] = preload(stage)
        self._deployment = LocalResource(DEPLOYMENT, options.name, inputs, pulumi.ResourceOptions())
        self._added: dict[Key, LocalResource] = {}

    def add_all(self, records: Sequence[Resource]) -> None:
        """In the order they come: what a record needs is before it."""
        for record in records:
            self._added[record.kind, record.name] = self._add(record)
        self._edge = LocalResource(
            EDGE,
            EDGE,
            _given({**self._identity(EDGE), "stage": self._stage.name, "variant": self._variant}),
            self._options([*self._added.values()]),
        )

    def outputs(self) -> Outputs:
        """What `pulumi stack output` says."""
        return {
            "deployment": self._deployment.output("name"),
            "stage": self._deployment.output("stage"),
            "record": self._edge.output("record"),
            "edge": self._edge.output("url"),
            "services": self._each("service", "url"),
            "wires": self._each("wire", "listen"),
            **({"broker": self._each("broker", "endpoint")} if self._has("broker") else {}),
            **(
                {"queues": self._each("queue", "url"), "topics": self._each("topic", "arn")}
                if self._has("queue")
                else {}
            ),
            "databases": self._each("database", "url"),
            **({"registry": self._each("registry", "endpoint")} if self._has("registry") else {}),
        }

    def _add(self, record: Resource) -> LocalResource:
        inputs: dict[str, Any] = {**self._identity(record.name), **record.inputs}
        for key, kind in NAMING.get(record.kind, ()):
            if inputs.get(
                key
            ):  # the name as the other resource's output: replacing that one is then known to reach this
                inputs[key] = self._added[kind, str(inputs[key])].output("name")
        if record.kind == "service":
            inputs["env"] = {key: self._text(value) for key, value in record.env.items()}
        if record.args:
            inputs["args"] = [self._text(value) for value in record.args]
        needs = [self._added[need] for need in sorted(record.needs | _configured_by(record))]
        return LocalResource(record.kind, record.name, self._sealed(_given(inputs)), self._options(needs))

    def _identity(self, name: str) -> dict[str, Any]:
        return {"deployment": self._deployment.output("name"), "name": name}

    def _options(self, needs: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
        """Whatever goes with the deployment needs no deletion of its own."""
        return pulumi.ResourceOptions(depends_on=[self._deployment, *needs], deleted_with=self._deployment)

    def _text(self, value: Value) -> pulumi.Input[str]:
        found = [self._referred(part) if isinstance(part, Ref) else part for part in parts(value)]
        if all(isinstance(part, str) for part in found):
            return "".join(str(part) for part in found)
        return found[0] if len(found) == 1 else pulumi.Output.concat(*found)

    def _referred(self, ref: Ref) -> pulumi.Output[Any]:
        known = self._deployment if ref.kind == DEPLOYMENT else self._added[ref.kind, ref.name]
        return known.output(ref.attribute)

    def _sealed(self, raw: Any) -> Any:
        """What holds one of the user's secrets is a secret."""
        if isinstance(raw, Mapping):
            return {key: self._sealed(item) for key, item in raw.items()}
        if isinstance(raw, str) and any(secret in raw for secret in self._secrets):
            return pulumi.Output.secret(raw)
        return raw

    def _has(self, kind: str) -> bool:
        return any(known == kind for known, _ in self._added)

    def _each(self, kind: str, attribute: str) -> dict[str, pulumi.Output[Any]]:
        return {name: it.output(attribute) for (known, name), it in self._added.items() if known == kind}


def _configured_by(record: Resource) -> frozenset[Key]:
    """An Envoy is ready once its control plane has told it what to do. The engine does few things at once: were Envoys
    among the first of them, they would wait for a control plane whose turn never comes."""
    if record.inputs.get("role") not in ("sidecar", "gateway"):
        return frozenset()
    return frozenset({("service", control_of(str(record.inputs["cluster"])))})


def _own_broker(options: Options) -> OwnBroker | None:
    """The broker that the configuration names, with the credentials that the environment has."""
    if options.broker_url is None:
        return None
    environment = {**os.environ, VARIABLE: options.broker_url}
    if own_broker_problems(environment):
        raise pulumi.RunError(
            "broker_url (not shown) must be http://host:port, https://host or 'aws'; "
            "`pulumi config set --secret broker_url ...`"
        )
    return own_broker(environment)


def _secrets(own: OwnBroker | None) -> list[str]:
    """Texts that must not be readable in the state: credentials, and an address which may hold some."""
    if own is None:
        return []
    return [text for text in (own.url, *(own.env[key] for key in own.env if _SECRET(key))) if text and text != "aws"]


_SECRET: Callable[[str], bool] = lambda name: any(word in name for word in ("KEY", "SECRET", "TOKEN"))  # noqa: E731


def _given(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if value is not None}
