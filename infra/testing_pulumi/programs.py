"""Which programs are there, and what does each ask for? Every target, stage, broker, size and part of a split state.

    k8s-sync       aws-sync           aws-mesh-backbone
    k8s-async      aws-async-sqs      aws-mesh-commerce ..
    k8s-mesh       aws-async-kafka    each on AWS also with '-trial'

A program runs once in a process, whoever asks for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

import pulumi

from infra.aws.split import stack_of
from infra.config import BACKBONE, BROKERS, SIZES, options
from infra.program import deploy
from infra.testing_pulumi.cloud import ACCOUNT
from infra.testing_pulumi.recorder import Recorded, record
from stages.catalogue import ASYNC, MESH, STAGES, SYNC

CERTIFICATE = f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/0f0f"
_COMMON = {"image": "repository:1", "name": "shop"}
_AWS = {"target": "aws", "domain": "shop.example.com", "certificate": CERTIFICATE, **_COMMON}
_K8S = {"target": "k8s", "kubeconfig_context": "kind", **_COMMON}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One stack of one deployment."""

    name: str
    """Such as 'aws-async-kafka' or 'aws-mesh-payments-trial'."""
    stack: str
    config: Mapping[str, str]
    """Keys of the project and their values."""
    base: str | None = None
    """The program that this one is kept as differences from: its size in production, or the stage before."""
    needs: str | None = None
    """The program whose outputs this one reads."""


def _programs() -> Iterator[Program]:
    for stage, base in ((SYNC, None), (ASYNC, "k8s-sync"), (MESH, None)):
        config = {**_K8S, "stage": stage.name}
        yield Program(name=f"k8s-{stage.name}", stack="shop", config=config, base=base)
    for size in SIZES:
        suffix = "" if size == SIZES[0] else f"-{size}"
        for stage, broker, name, base in (
            (SYNC, "sqs", "aws-sync", None),
            *((ASYNC, broker, f"aws-async-{broker}", "aws-sync") for broker in BROKERS),
        ):
            config = {**_AWS, "stage": stage.name, "broker": broker, "size": size}
            yield Program(name=name + suffix, stack="shop", config=config, base=name if suffix else base)
        for system in (BACKBONE, *(system.name for system in MESH.systems)):
            name = f"aws-mesh-{system}"
            yield Program(
                name=name + suffix,
                stack=stack_of("shop", system),
                config={**_AWS, "stage": MESH.name, "system": system, "size": size},
                base=name if suffix else None,
                needs=None if system == BACKBONE else f"aws-mesh-{BACKBONE}{suffix}",
            )


PROGRAMS = {program.name: program for program in _programs()}


def recorded(name: str, *, preview: bool = False) -> Recorded:
    """What a program does; the same for everybody, so change nothing of it. Passwords are drawn as a row of 0s."""
    return _recorded(name, preview)


@cache
def _recorded(name: str, preview: bool) -> Recorded:
    program = PROGRAMS[name]
    found = options(program.config, program.stack)

    def run() -> None:
        for output, value in deploy(found, STAGES[found.stage]).items():
            pulumi.export(output, value)

    read = {PROGRAMS[program.needs].stack: recorded(program.needs).outputs} if program.needs else {}
    with patch.object(secrets, "token_hex", lambda length: length * 2 * "0"):
        return record(run, stack=program.stack, preview=preview, references=read)
