"""Would a cluster take this manifest? Checks against the schemas of Kubernetes and of Istio, without a cluster.

Kubernetes: the package kubernetes-validate, strictly (an unknown field is a problem). Istio: the schemas of the Go
module istio.io/api 1.31.1 (Apache-2.0) in `istio-1.31.1.json`, which are its CRDs without descriptions and without the
rules in CEL. Both need the extra `dev`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from infra.k8s.site import Manifest

KUBERNETES = ("1.31", "1.37")
"""The oldest and the newest version whose schemas are asked."""
_SCHEMAS = Path(__file__).with_name("istio-1.31.1.json")
_DURATION = re.compile(r"\d+(\.\d+)?s")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_CLUSTER_WIDE = frozenset({"Namespace", "ClusterRole", "ClusterRoleBinding", "IngressClass"})


def manifest_problems(manifest: Manifest) -> list[str]:
    """What a cluster would refuse, as sentences; empty when it would take it."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    found = [*_naming(manifest), *(_istio(manifest) if "istio.io" in manifest["apiVersion"] else _kubernetes(manifest))]
    return [f"{kind} {name}: {problem}" for problem in found]


def _naming(manifest: Manifest) -> Iterator[str]:
    """What schemas leave to the API server's own checks."""
    meta = manifest["metadata"]
    if not _NAME.fullmatch(meta["name"]):
        yield f"the name is no DNS subdomain: {meta['name']!r}"
    if ("namespace" in meta) == (manifest["kind"] in _CLUSTER_WIDE):
        yield "metadata.namespace is " + ("there" if "namespace" in meta else "missing")
    for key, value in meta.get("labels", {}).items():
        if not _LABEL.fullmatch(value):
            yield f"label {key} is {value!r}"


def _kubernetes(manifest: Manifest) -> Iterator[str]:
    plain = json.loads(json.dumps(manifest))
    found = [
        f"{error.json_path}: {error.message}"
        for version in KUBERNETES
        for error in _kubernetes_validator(manifest["kind"], manifest["apiVersion"], version).iter_errors(plain)
    ]
    yield from dict.fromkeys(found)  # what both versions refuse is said once


@cache
def _kubernetes_validator(kind: str, api_version: str, version: str) -> Any:
    """As `kubernetes_validate.validate` makes it, but once per kind: reading the definitions takes most of the time.

    Raise FileNotFoundError for a kind that Kubernetes does not know.
    """
    import jsonschema  # type: ignore[import-untyped]  # only where tests run, and without types
    import referencing
    from kubernetes_validate.utils import schema_contents  # type: ignore[import-untyped]

    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    parts = [schema_contents(f"{folder}/{name}.json", version) for name in (f"{kind.lower()}-{group}", "_definitions")]
    registry: Any = referencing.Registry().with_resources(
        (contents["$id"], referencing.Resource.from_contents(contents)) for contents in parts
    )
    return jsonschema.Draft202012Validator(parts[0], registry=registry)


def _istio(manifest: Manifest) -> Iterator[str]:
    import jsonschema

    key = f"{manifest['apiVersion']} {manifest['kind']}"
    if key not in _istio_schemas():
        yield f"there is no {key}"
        return
    for error in jsonschema.Draft202012Validator(_istio_schemas()[key]).iter_errors(manifest["spec"]):
        yield f"{error.json_path}: {error.message}"
    yield from _durations(manifest["spec"], "spec")


def _durations(value: Any, path: str) -> Iterator[str]:
    """The schemas say 'string' for what is a duration."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in DURATIONS and not _DURATION.fullmatch(str(inner)):
                yield f"{path}.{key} is {inner!r}, no duration in seconds such as '0.5s'"
            yield from _durations(inner, f"{path}.{key}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _durations(inner, f"{path}[{number}]")


DURATIONS = frozenset(
    {"timeout", "perTryTimeout", "backoff", "interval", "baseEjectionTime", "connectTimeout", "maxConnectionDuration"}
)


@cache
def _istio_schemas() -> dict[str, Any]:
    """Kind -> schema of its spec, closed: a field that a cluster would drop is a problem."""
    schemas: dict[str, Any] = json.loads(_SCHEMAS.read_text(encoding="utf-8"))["schemas"]
    return {key: _closed(schema) for key, schema in schemas.items()}


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed
