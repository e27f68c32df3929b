"""How do rendered resources get deployed without Pulumi? As many at once as what they need allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from infra.local.client import LocalCloud
from infra.local.resource import Resource, resolve
from infra.naming import plural

Key = tuple[str, str]
Outputs = dict[Key, Mapping[str, object]]

AT_ONCE = 32
"""Requests under way at once; each waits for the cloud, none needs the processor."""


def apply(
    cloud: LocalCloud, deployment: str, resources: Sequence[Resource], outputs: Outputs, tell: Callable[[str], None]
) -> Outputs:
    """Have all these resources; returns what each said, by (kind, name).

    `outputs` holds what is there already (the deployment itself under ("deployment", "")). Raises the first
    CloudError, after what was under way has come to its end; what was created stays.
    """
    waiting = list(resources)
    done = dict(outputs)
    running: dict[Future[Any], Resource] = {}
    failed: BaseException | None = None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while running or (waiting and failed is None):
            if failed is None:
                for resource in [r for r in waiting if r.needs <= done.keys()]:
                    waiting.remove(resource)
                    running[pool.submit(_put, cloud, deployment, resource, done)] = resource
                if not running:
                    raise ValueError(f"nothing provides what {[r.name for r in waiting]} need")
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                resource = running.pop(future)
                if error := future.exception():
                    failed = failed or error
                else:
                    done[resource.kind, resource.name] = future.result()
                    tell(f"{resource.kind} {resource.name}")
    if failed is not None:
        raise failed
    return done


def _put(cloud: LocalCloud, deployment: str, resource: Resource, outputs: Outputs) -> Any:
    body = dict(resource.inputs)
    if resource.kind == "service":
        body["env"] = {key: resolve(value, outputs) for key, value in resource.env.items()}
    if resource.args:
        body["args"] = [resolve(value, outputs) for value in resource.args]
    return cloud.put(f"/deployments/{deployment}/{plural(resource.kind)}/{resource.name}", body)
