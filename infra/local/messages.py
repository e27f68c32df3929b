"""What do a deployment's messages look like from outside: what still waits, what is dead, what was moved back?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from infra.local import letters
from infra.local.brokerclient import client
from infra.local.client import LocalCloud
from infra.local.errors import NotFound, Unavailable
from infra.local.render_messages import BROKER, EMBEDDED_CREDENTIALS
from stages.catalogue import STAGES
from stages.messaging import Queue, messaging, talkers

ANSWER_S = 5.0


class Messages:
    """The messages of the deployments of one local cloud."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    def backlog(self, name: str) -> dict[str, int]:
        """What is accepted and not done: {"outbox", "unfinished", "queued"}; dead letters do not count.

        Raise Unavailable naming the service, or the broker, that does not answer.
        """
        deployed = self._cloud.get(f"/deployments/{name}")
        stage = STAGES.get(deployed["deployment"]["stage"])
        services = deployed["deployment"]["services"]
        asked = [service for service in services if stage is None or service in talkers(stage)]
        told = [_own_backlog(service, services[service]["url"]) for service in asked]
        return {
            "outbox": sum(one.get("outbox", 0) for one in told),
            "unfinished": sum(one.get("unfinished", 0) for one in told),
            "queued": _queued(deployed),
        }

    def dead_letters(self, name: str) -> list[dict[str, Any]]:
        """Every letter of every dead-letter queue; empty for a stage without messages. Raise Unavailable."""
        queues = self._queues(name)
        if not queues:
            return []
        with self._sqs(name) as (sqs, wait_s), ThreadPoolExecutor(len(queues)) as pool:
            read = list(pool.map(lambda found: letters.read(sqs, found[2], wait_s), queues))
        return [
            letters.letter(message, queue=q.name, dead_letters=q.dead_letters, consumer=q.consumer)
            for (q, _, _), messages in zip(queues, read, strict=True)
            for message in messages
        ]

    def redrive(self, name: str, queue: str | None, ids: Sequence[str] | None) -> dict[str, int]:
        """Send letters back to the queue they came from: {"moved", "left"}.

        Of one queue or of all, those with these ids or all. Raise NotFound for an unknown queue, and Unavailable:
        then some may have been moved, and repeating it is fine.
        """
        queues = self._queues(name)
        chosen = [found for found in queues if queue in (None, found[0].name)]
        if queue is not None and not chosen:
            known = ", ".join(found[0].name for found in queues) or "none"
            raise NotFound(f"{name} has no queue {queue!r} with dead letters; known: {known}")
        if not chosen:
            return {"moved": 0, "left": 0}
        with self._sqs(name) as (sqs, wait_s), ThreadPoolExecutor(len(chosen)) as pool:
            moved = sum(pool.map(lambda found: letters.move(sqs, found[2], found[1], ids, wait_s), chosen))
            left = sum(pool.map(lambda found: letters.depth(sqs, found[2]), chosen))
        return {"moved": moved, "left": left}

    def _queues(self, name: str) -> list[tuple[Queue, str, str]]:
        """The stage's queues as far as they are deployed, each with its URL and that of its dead letters."""
        deployed = self._cloud.get(f"/deployments/{name}")
        urls = {found["name"]: found["url"] for found in _resources(deployed, "queue")}
        return [(q, urls[q.name], urls[q.dead_letters]) for q in _live(deployed) if q.dead_letters in urls]

    @contextmanager
    def _sqs(self, name: str) -> Iterator[tuple[Any, int]]:
        """A client past every wire, and how long it has to wait; errors of the SDK become Unavailable."""
        from botocore.exceptions import BotoCoreError, ClientError

        broker = self._cloud.get(f"/deployments/{name}/brokers/{BROKER}")
        if broker["state"] != "running":
            raise Unavailable(f"the broker of {name} is {broker['state']}")
        credentials = EMBEDDED_CREDENTIALS if broker["embedded"] else {}
        sqs = client("sqs", broker["endpoint"], broker["region"], **credentials)
        try:
            yield sqs, 0 if broker["embedded"] else 1
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"the broker of {name} at {broker['endpoint'] or 'AWS'}: {error}") from error
        finally:
            sqs.close()


def _resources(deployed: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [resource for resource in deployed["resources"] if resource["kind"] == kind]


def _live(deployed: Mapping[str, Any]) -> list[Queue]:
    """The deployed queues that are not for dead letters."""
    stage = STAGES.get(deployed["deployment"]["stage"])
    there = {queue["name"] for queue in _resources(deployed, "queue")}
    return [queue for queue in messaging(stage).queues if queue.name in there] if stage else []


def _queued(deployed: Mapping[str, Any]) -> int:
    counted: dict[str, dict[str, int] | None] = {q["name"]: q.get("messages") for q in _resources(deployed, "queue")}
    waiting = 0
    for queue in _live(deployed):
        messages = counted[queue.name]
        if messages is None:
            states = ", ".join(broker["state"] for broker in _resources(deployed, "broker"))
            name = deployed["deployment"]["name"]
            raise Unavailable(f"the broker of {name} is {states}: nobody knows what waits in {queue.name}")
        waiting += sum(messages.values())
    return waiting


def _own_backlog(service: str, url: str) -> dict[str, int]:
    """What a service says of itself; a service that keeps nothing back has no such page."""
    try:
        answer = httpx.get(f"{url}/backlog", timeout=ANSWER_S, trust_env=False, verify=False)
        if answer.status_code == 404:
            return {}
        found: dict[str, int] = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"backlog of {service} at {url}: {error!r}") from error
    return found
