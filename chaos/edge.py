"""The way of a steady-state probe into the shop: requests to its edge, each of them written down.

Whoever acts on the shop says so in the history, or its checkers would find effects that nobody caused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import httpx

from chaos.completion import Send
from chaos.steady import Try
from stages.history import Invocation, Outcome, dump
from workloads.client import Answer, Request, Shopper, Trouble

TIMEOUT_S = 3.0
"""Above every SLO and every chain of timeouts of the shop."""


@lru_cache(maxsize=1)
def shopper(run_id: str, token: str) -> Shopper:
    """The user of one experiment, whose keys meet nobody else's.

    Remembered from probe to probe: orders placed before a fault can be tracked and cancelled while it is on.
    """
    name = f"{run_id}-steady-{token}"
    return Shopper(random.Random(name), name)


@contextmanager
def sending(edge: str) -> Iterator[Send]:
    """A function that sends one request and returns what came back, whatever it is."""
    with httpx.Client(base_url=edge, timeout=TIMEOUT_S, verify=False, trust_env=False) as http:

        def send(request: Request) -> Answer | Trouble:
            try:
                answer = http.request(request.method, request.path, headers=dict(request.headers), content=request.body)
            except httpx.ConnectError:
                return Trouble(kind="refused", definite=True)
            except httpx.TimeoutException:
                return Trouble(kind="timeout", definite=False)
            except httpx.HTTPError:
                return Trouble(kind="broken", definite=False)
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(status=answer.status_code, headers=headers, body=answer.content)

        yield send


def recorder(history: Path) -> Callable[[Try], None]:
    """A function that appends one try to the history."""

    def tried(one: Try) -> None:
        line = Invocation(
            operation=one.request.operation,
            key=one.request.key,
            intended_ns=one.started_ns,
            started_ns=one.started_ns,
            ended_ns=one.ended_ns,
            outcome=Outcome(one.result.outcome),
            degraded=one.result.degraded,
            status=one.result.status,
            subject=one.result.subject,
            error=one.result.error,
        )
        with history.open("a") as file:
            file.write(dump(line) + "\n")

    return tried
