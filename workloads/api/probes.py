"""What can be read from every service? Liveness, readiness, metrics, its backlog, and the audit of its records."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from functools import partial

from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse

from workloads import problems
from workloads.domain import Record
from workloads.handlers.leaves import AUDITED
from workloads.handlers.steps import UNFINISHED
from workloads.ports import Repository, Unit
from workloads.problems import ProblemError
from workloads.telemetry import Telemetry
from workloads.web import answer, refusal

PAGE = 500
"""Records per transaction of an audit: short enough that requests in between hardly wait."""


@dataclass(slots=True)
class State:
    """How far the process is in its life."""

    draining: Callable[[], bool]
    opened: bool = False
    """The database can be used and the recovery of unfinished work has begun."""


def mount(
    app: FastAPI,
    service: str,
    telemetry: Telemetry,
    repository: Repository | None,
    state: State,
    *,
    has_outbox: bool = False,
) -> None:
    """Add the probes. `has_outbox`: whether the audit says what waits to be published."""

    @app.get("/live", tags=["probes"])
    async def live() -> Response:
        """200 as long as the process can answer; never looks at the database."""
        return answer({"service": service, "live": True})

    @app.get("/ready", tags=["probes"])
    async def ready() -> Response:
        """200 once the database can be used and recovery has begun, 503 before that and while draining."""
        if state.draining():
            return refusal(ProblemError(problems.NOT_READY, f"{service} is draining"))
        if not state.opened:
            return refusal(ProblemError(problems.NOT_READY, f"{service} is starting"))
        return answer({"service": service, "ready": True})

    @app.get("/metrics", tags=["probes"])
    async def metrics() -> Response:
        """Prometheus text format."""
        return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/backlog", tags=["probes"])
    async def backlog() -> Response:
        """How many messages wait to be published, and how many orders and accounts are not at their end."""
        if repository is None:
            return answer({"outbox": 0, "unfinished": 0})
        unfinished = await repository.read(_unfinished)
        return answer({"outbox": await repository.unpublished(), "unfinished": unfinished})

    @app.get("/audit", tags=["probes"])
    async def audit() -> Response:
        """Every effect this service has recorded, one JSON object per line."""
        lines = _lines(service, repository, has_outbox=has_outbox)
        first = await anext(lines, b"")  # a database that does not answer is a 503, not a torn stream

        async def rest() -> AsyncIterator[bytes]:
            yield first
            async for chunk in lines:
                yield chunk

        return StreamingResponse(rest(), media_type="application/x-ndjson")


async def _lines(service: str, repository: Repository | None, *, has_outbox: bool) -> AsyncIterator[bytes]:
    after = ("", "")
    if repository is not None and has_outbox:
        yield _line(service, _outbox(await repository.unpublished()))
    while repository is not None:
        page = await repository.read(partial(_page, after))
        if not page:
            return
        yield b"".join(_line(service, record) for record in page)
        after = (page[-1].kind, page[-1].id)


def _outbox(waiting: int) -> Record:
    """What waits to be published, as a line of the audit."""
    state = "pending" if waiting else "drained"
    return Record(kind="outbox", id="outbox", subject="", key="", state=state, quantity=waiting)


def _unfinished(unit: Unit) -> int:
    return sum(unit.count(kind, UNFINISHED) for kind in ("order", "user"))


def _page(after: tuple[str, str], unit: Unit) -> list[Record]:
    return unit.page(AUDITED, after, PAGE)


def _line(service: str, record: Record) -> bytes:
    said = {"service": service, **asdict(record)}
    del said["due_ns"]
    if said["state"] == "cancelling":  # to the outside an order is being undone, whatever the reason
        said["state"] = "compensating"
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"
