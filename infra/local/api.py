"""How does the cloud speak HTTP? One small handler per resource and verb; every PUT and DELETE may be repeated.

    /health
    /deployments                                     GET
    /deployments/{d}                                 PUT GET DELETE    PUT ?move=true: may become another stage
    /deployments/{d}/{KIND}s/{name}                  PUT GET DELETE    GET ?inputs=true: with what was asked for
        KIND: cluster, database, broker, queue, topic, subscription, registry, authority, port, wire, service, canary
        (plurals: registries, authorities, canaries; a port's name is its service's, so is a canary's)
    /deployments/{d}/services/{name}/log?lines=N     GET
    /deployments/{d}/faults/{lease}                  PUT GET DELETE
    /deployments/{d}/faults/{lease}/renew            POST
    /deployments/{d}/faults                          DELETE (heals the deployment)
    /faults                                          GET DELETE (heals everything)

Errors are {"error": sentence, "problems": [...]} with 400 (no JSON), 404, 409, 422 or 500.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local import requests
from infra.local.asked import asked
from infra.local.cloud import Cloud
from infra.local.context import log
from infra.local.deployed import Deployed
from infra.local.errors import CloudError, Invalid, NotFound
from infra.local.faultspec import Fault
from infra.local.home import PROTOCOL
from infra.naming import plural

Answer = dict[str, Any] | list[dict[str, Any]]
Handler = Callable[[Request], Awaitable[Answer]]

LOG_LINES = 200

KINDS_OF_RESOURCES = (
    "cluster",
    "database",
    "broker",
    "queue",
    "topic",
    "subscription",
    "registry",
    "authority",
    "port",
    "wire",
    "service",
    "canary",
)
BY_PLURAL = {plural(kind): kind for kind in KINDS_OF_RESOURCES}


class MalformedBody(CloudError):
    """The body is no JSON."""

    status = 400


async def _json(request: Request) -> object:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from error


def _is_set(request: Request, flag: str) -> bool:
    return request.query_params.get(flag, "") in ("true", "1")


def _answering(handler: Handler) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def answer(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await handler(request))
        except CloudError as error:
            return JSONResponse({"error": str(error), "problems": list(error.problems)}, error.status)
        except Exception as error:  # the border of the daemon: one bad request must not end it
            log.exception("%s %s", request.method, request.url.path)
            return JSONResponse({"error": f"{type(error).__name__}: {error}", "problems": []}, 500)

    return answer


async def _unrouted(request: Request, error: Exception) -> Response:
    """An address or a verb that the table does not have."""
    assert isinstance(error, HTTPException)
    said = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": said, "problems": []}, error.status_code)


class Api:
    """The handlers; `application` is what a server serves."""

    def __init__(self, cloud: Cloud, touch: Callable[[], None]) -> None:
        """`touch` is called once per request: the daemon lives while it is talked to."""
        self._cloud = cloud
        self._touch = touch

    def application(self) -> Starlette:
        one = "/deployments/{d}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/health", self._health),
            ("GET", "/deployments", self._list),
            ("PUT", one, self._put_deployment),
            ("GET", one, self._get_deployment),
            ("DELETE", one, self._delete_deployment),
            ("GET", one + "/services/{name}/log", self._log),
            ("POST", one + "/faults/{name}/renew", self._renew),
            ("PUT", one + "/faults/{name}", self._put_fault),
            ("GET", one + "/faults/{name}", self._get_fault),
            ("DELETE", one + "/faults/{name}", self._delete_fault),
            ("DELETE", one + "/faults", self._heal_one),
            ("GET", "/faults", self._faults),
            ("DELETE", "/faults", self._heal),
            ("PUT", one + "/{kind}/{name}", self._put),
            ("GET", one + "/{kind}/{name}", self._get),
            ("DELETE", one + "/{kind}/{name}", self._delete),
        ]
        return Starlette(
            routes=[Route(path, _answering(self._touched(handler)), methods=[verb]) for verb, path, handler in table],
            exception_handlers={HTTPException: _unrouted},
        )

    def _touched(self, handler: Handler) -> Handler:
        async def touched(request: Request) -> Answer:
            self._touch()
            try:
                return await handler(request)
            finally:
                self._touch()

        return touched

    def _deployed(self, request: Request) -> Deployed:
        requests.check_names(request.path_params["d"])
        return self._cloud.get(request.path_params["d"])

    def _named(self, request: Request) -> tuple[Deployed, str, str]:
        kind, name = BY_PLURAL.get(request.path_params["kind"]), request.path_params["name"]
        if kind is None:
            raise NotFound(f"there is no kind of resource {request.path_params['kind']!r}")
        requests.check_names(request.path_params["d"], kind, name)
        return self._deployed(request), kind, name

    def _lease(self, request: Request) -> tuple[Deployed, str]:
        requests.check_names(request.path_params["d"], "lease", request.path_params["name"])
        return self._deployed(request), request.path_params["name"]

    async def _health(self, request: Request) -> Answer:
        return {"protocol": PROTOCOL, "pid": os.getpid(), "home": str(self._cloud.home.path)}

    async def _list(self, request: Request) -> Answer:
        states = [self._cloud.get(name).state for name in self._cloud.names()]
        return [
            {
                "name": s.name,
                "stage": s.stage,
                "run_id": s.run_id,
                "variant": s.variant,
                "owner_pid": s.owner.pid if s.owner else None,
                "state": "deleting" if s.deleting else "up",
                "services": len(s.services),
                "faults": sum(lease.holds for lease in s.leases.values()),
            }
            for s in states
        ]

    async def _put_deployment(self, request: Request) -> Answer:
        name = request.path_params["d"]
        requests.check_names(name)
        asked_for = requests.read_deployment(await _json(request))
        deployed = await self._cloud.put(name, asked_for, move=_is_set(request, "move"))
        return {"name": name, "directory": str(deployed.context.directory), "control": str(self._cloud.home.socket)}

    async def _get_deployment(self, request: Request) -> Answer:
        return await self._deployed(request).describe()

    async def _delete_deployment(self, request: Request) -> Answer:
        requests.check_names(request.path_params["d"])
        return {"left": await self._cloud.delete(request.path_params["d"])}

    async def _put(self, request: Request) -> Answer:
        deployed, kind, name = self._named(request)
        raw = await _json(request)
        match kind:
            case "cluster":
                cluster = requests.read_cluster(raw)
                return await deployed.run(lambda: deployed.clusters.put(name, cluster))
            case "database":
                requests.read_database(raw)
                return deployed.put_database(name)
            case "broker":
                broker = requests.read_broker(raw)
                return await deployed.run(lambda: deployed.brokers.put(name, broker))
            case "queue":
                queue = requests.read_queue(name, raw)
                return await deployed.run(lambda: deployed.queues.put_queue(name, queue))
            case "topic":
                topic = requests.read_topic(name, raw)
                return await deployed.run(lambda: deployed.queues.put_topic(name, topic))
            case "subscription":
                subscription = requests.read_subscription(raw)
                return await deployed.run(lambda: deployed.queues.put_subscription(name, subscription))
            case "registry":
                registry = requests.read_registry(raw)
                return await deployed.run(lambda: deployed.registries.put(name, registry))
            case "authority":
                authority = requests.read_authority(raw)
                return await deployed.run(lambda: deployed.authority.put(name, authority))
            case "port":
                return deployed.named_ports.put(name, requests.read_ports(raw))
            case "canary":
                canary = requests.read_canary(raw)
                return await deployed.run(lambda: deployed.canaries.put(name, canary))
            case "wire":
                wire = requests.read_wire(raw)
                return await deployed.run(lambda: deployed.edges.put(name, wire))
            case _:
                spec = requests.read_service(raw)
                restart = _is_set(request, "restart")
                return await deployed.run(lambda: deployed.services.put(name, spec, restart=restart))

    async def _get(self, request: Request) -> Answer:
        deployed, kind, name = self._named(request)
        found = await self._found(deployed, kind, name)
        return found | {"inputs": asked(deployed.state, kind, name)} if _is_set(request, "inputs") else found

    async def _found(self, deployed: Deployed, kind: str, name: str) -> dict[str, Any]:
        match kind:
            case "cluster":
                return deployed.clusters.get(name)
            case "database":
                return deployed.get_database(name)
            case "broker":
                return await deployed.queues.get_broker(name)
            case "queue" | "topic" | "subscription":
                return await deployed.queues.get(kind, name)
            case "registry":
                return deployed.registries.get(name)
            case "authority":
                return deployed.authority.get(name)
            case "port":
                return deployed.named_ports.get(name)
            case "canary":
                return deployed.canaries.get(name)
            case "wire":
                return await deployed.edges.get(name)
            case _:
                return deployed.services.get(name)

    async def _delete(self, request: Request) -> Answer:
        deployed, kind, name = self._named(request)
        match kind:
            case "cluster":
                await deployed.run(lambda: deployed.clusters.delete(name))
            case "database":
                deployed.delete_database(name)
            case "broker":
                await deployed.run(lambda: deployed.brokers.delete(name))
            case "queue" | "topic" | "subscription":
                await deployed.run(lambda: deployed.queues.delete(kind, name))
            case "registry":
                await deployed.run(lambda: deployed.registries.delete(name))
            case "authority":
                await deployed.run(lambda: deployed.authority.delete(name))
            case "port":
                deployed.named_ports.delete(name)
            case "canary":
                await deployed.run(lambda: deployed.canaries.delete(name))
            case "wire":
                await deployed.run(lambda: deployed.edges.delete(name))
            case _:
                await deployed.run(lambda: deployed.services.delete(name))
        return {}

    async def _log(self, request: Request) -> Answer:
        deployed, name = self._deployed(request), request.path_params["name"]
        text = request.query_params.get("lines", str(LOG_LINES))
        if not text.isdecimal():
            raise Invalid(f"lines is {text!r}, must be a number")
        return {"service": name, "lines": deployed.services.logged(name, int(text))}

    async def _put_fault(self, request: Request) -> Answer:
        deployed, name = self._lease(request)
        raw, ttl_s = requests.read_fault(await _json(request))
        fault = Fault.from_json(raw)
        return await deployed.run(lambda: deployed.leases.put(name, fault, ttl_s))

    async def _renew(self, request: Request) -> Answer:
        deployed, name = self._lease(request)
        ttl_s = requests.read_renewal(await _json(request))
        return await deployed.run(lambda: deployed.leases.renew(name, ttl_s))

    async def _get_fault(self, request: Request) -> Answer:
        deployed, name = self._lease(request)
        return await deployed.leases.get(name)

    async def _delete_fault(self, request: Request) -> Answer:
        deployed, name = self._lease(request)
        return await deployed.run(lambda: deployed.leases.delete(name))

    async def _faults(self, request: Request) -> Answer:
        return await self._cloud.faults()

    async def _heal(self, request: Request) -> Answer:
        return await self._cloud.heal(self._cloud.names())

    async def _heal_one(self, request: Request) -> Answer:
        return await self._cloud.heal([self._deployed(request).state.name])
