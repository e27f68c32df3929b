"""When may users come? Once services have found one another and the edge answers well: being ready is not enough."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from infra.local.client import LocalCloud
from infra.local.errors import CloudUnreachable, Conflict, Unavailable
from infra.local.home import Home, read_json
from stages.deployment import Deployment
from stages.mesh import cluster_plan
from stages.model import Stage

FIRST_ANSWER_S = 20.0
"""Longest wait for the first good request once every service is ready."""


def until_settled(
    cloud: LocalCloud, stage: Stage, name: str, cancelled: Callable[[], bool] = lambda: False
) -> Deployment:
    """Wait until a deployment whose resources are all there serves users; returns its record.

    Raise Unavailable or CloudUnreachable with what was seen last, Conflict if it is `cancelled` meanwhile.
    """
    deployment = record_of(cloud, name)
    if stage.mesh:
        _until_known(cloud.home, stage, name, cancelled)
    _first_answer(deployment, ("/ready", "/", *(("/products",) if stage.mesh else ())), cancelled)
    return deployment


def record_of(cloud: LocalCloud, name: str) -> Deployment:
    """The record as of now; raise NotFound."""
    return Deployment.from_json(json.dumps(cloud.get(f"/deployments/{name}")["deployment"]))


def said(home: Home, name: str, cluster: str) -> Mapping[str, Any]:
    """What a cluster's control plane says of itself; {} where there is none, or nothing was said yet."""
    return read_json(home.deployment(name) / "mesh" / cluster / "status.json") or {}


def _until_known(home: Home, stage: Stage, name: str, cancelled: Callable[[], bool]) -> None:
    """Wait until every control plane has heard of everybody whom its cluster calls."""
    deadline = time.monotonic() + FIRST_ANSWER_S
    while True:
        heard = {cluster.name: said(home, name, cluster.name).get("known", {}) for cluster in stage.clusters}
        missing = [
            f"{callee} in {cluster}"
            for cluster, known in heard.items()
            for callee in cluster_plan(stage, cluster).callees
            if not known.get(callee, {}).get("healthy")
        ]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"{name}: not known within {FIRST_ANSWER_S:g} s: {', '.join(missing)}")
        _pause(0.03, name, cancelled)


def _first_answer(deployment: Deployment, paths: Sequence[str], cancelled: Callable[[], bool]) -> None:
    """Wait until a user gets good answers at the edge."""
    deadline = time.monotonic() + FIRST_ANSWER_S
    # verify=False: nothing is encrypted on loopback, and loading certificates costs 40 ms
    with httpx.Client(base_url=deployment.edge, timeout=5.0, trust_env=False, verify=False) as users:
        while True:
            try:
                answers = [users.get(path) for path in paths]
                seen = str([f"{a.status_code}{' stale' if 'warning' in a.headers else ''}" for a in answers])
            except httpx.HTTPError as error:
                seen = repr(error)
            if seen == str(["200"] * len(paths)):
                return
            if time.monotonic() > deadline:
                raise CloudUnreachable(
                    f"{deployment.name}: every service is ready, but the edge {deployment.edge} gave no good answer "
                    f"within {FIRST_ANSWER_S:g} s, last {seen}; logs: {deployment.directory}/logs"
                )
            _pause(0.05, deployment.name, cancelled)


def _pause(seconds: float, name: str, cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Conflict(f"{name}: waiting for its first good answer was cancelled")
    time.sleep(seconds)
