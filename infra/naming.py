"""What are things called, and how does a process or a file show that it is ours?

Names are shared by every renderer, so that a deployment reads the same on every target. A name is
checked once, here, before anything is created from it: names become paths, resource names and labels.
"""

from __future__ import annotations

import re

USERS = "users"
"""The caller of the wire through which users reach the edge; no service may be called so."""

TAG_CLOUD = "STAGES_CLOUD"
"""Environment tag of every process a local cloud starts: the home of that cloud."""
TAG_DEPLOYMENT = "STAGES_DEPLOYMENT"
TAG_RUN = "STAGES_RUN_ID"
TAG_CLUSTER = "STAGES_CLUSTER"

DEPLOYMENT_LENGTH = 40
"""Leaves 23 characters for '-<service>' in a Kubernetes name: RFC 1123 labels hold 63."""
NAME_LENGTH = 60
LEASE_LENGTH = 80
QUEUE_LENGTH = 34
"""SQS allows 80 characters; a user's own broker also has '<deployment>-' before the name and '.fifo' behind it."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def edge_wire(service: str) -> str:
    """Name of the wire in front of an entry service.

    >>> edge_wire("storefront")
    'users-storefront'
    """
    return f"{USERS}-{service}"


def plural(kind: str) -> str:
    """Of a kind of resource, as addresses have it.

    >>> plural("registry"), plural("wire")
    ('registries', 'wires')
    """
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def deployment_problems(name: str) -> list[str]:
    """What is wrong with a deployment's name; empty when it can be used on every target."""
    return _problems("deployment", name, _LABEL, DEPLOYMENT_LENGTH, "lower-case letters, digits and inner hyphens")


def resource_problems(kind: str, name: str) -> list[str]:
    """What is wrong with the name of a cluster, database, broker, subscription, wire or service."""
    return _problems(kind, name, _LABEL, NAME_LENGTH, "lower-case letters, digits and inner hyphens")


def queue_problems(kind: str, name: str) -> list[str]:
    """What is wrong with the name of a queue or a topic: '.fifo' at its end says that order is kept.

    >>> queue_problems("queue", "cache-events.fifo")
    []
    """
    return _problems(kind, name.removesuffix(".fifo"), _LABEL, QUEUE_LENGTH, "lower-case letters, digits and hyphens")


def word_problems(kind: str, name: str) -> list[str]:
    """What is wrong with a run id or the id of a fault lease."""
    return _problems(
        kind, name, _WORD, LEASE_LENGTH, "letters, digits, '.', '_' and '-', not beginning with '.' or '-'"
    )


def _problems(kind: str, name: str, pattern: re.Pattern[str], longest: int, allowed: str) -> list[str]:
    found = []
    if not pattern.fullmatch(name):
        found.append(f"{kind} name {name!r} may hold only {allowed}")
    if len(name) > longest:
        found.append(f"{kind} name {name!r} has {len(name)} characters, at most {longest} are allowed")
    return found
