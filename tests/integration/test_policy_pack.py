"""The policy pack as the engine runs it: a process of its own environment, asked over gRPC."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from infra.policy import RULES, Scope

ROOT = Path(__file__).parents[2]
PACK = ROOT / "policy"
PYTHON = PACK / ".venv/bin/python"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
TAGS = {"owner": "platform", "stage": "async"}

needs_environment = pytest.mark.skipif(
    not PYTHON.exists(), reason="the policy pack's own environment is not there: make policy"
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[analyzer_pb2_grpc.AnalyzerStub]:
    log = tmp_path_factory.mktemp("pack") / "stderr"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [PYTHON, "-u", "-m", "pulumi.policy", "127.0.0.1:1", "."],
            cwd=PACK,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port.isdigit(), log.read_text()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=20)
                yield analyzer_pb2_grpc.AnalyzerStub(channel)
        finally:
            process.terminate()


def _struct(content: dict[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(content)
    return made


def _told(response: analyzer_pb2.AnalyzeResponse) -> list[tuple[str, str, bool]]:
    """(Policy, URN, whether it stops the update)."""
    return [(d.policyName, d.urn, d.enforcementLevel == analyzer_pb2.MANDATORY) for d in response.diagnostics]


def _analyze(pack: analyzer_pb2_grpc.AnalyzerStub, type_: str, **properties: Any) -> analyzer_pb2.AnalyzeResponse:
    return pack.Analyze(
        analyzer_pb2.AnalyzeRequest(type=type_, name="db", urn="urn:db", properties=_struct(properties)), timeout=20
    )


@pytest.mark.slow
@needs_environment
def test_the_engine_is_told_every_rule_and_that_it_is_mandatory(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    info = pack.GetAnalyzerInfo(empty_pb2.Empty(), timeout=20)
    kinds = {Scope.RESOURCE: analyzer_pb2.POLICY_TYPE_RESOURCE, Scope.STACK: analyzer_pb2.POLICY_TYPE_STACK}
    assert [(p.name, p.policy_type, p.enforcementLevel) for p in info.policies] == [
        *((rule.name, kinds[rule.scope], analyzer_pb2.MANDATORY) for rule in RULES),
        ("not-judged", analyzer_pb2.POLICY_TYPE_STACK, analyzer_pb2.ADVISORY),
    ]


@pytest.mark.slow
@needs_environment
def test_a_resource_that_breaks_a_rule_is_refused_before_it_is_created(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    type_ = "aws:rds/instance:Instance"
    assert _told(_analyze(pack, type_, storageEncrypted=True, tags=TAGS)) == []
    response = _analyze(pack, type_, storageEncrypted=False, publiclyAccessible=True, tags={"owner": "platform"})
    assert [(name, stops) for name, _, stops in _told(response)] == [
        ("encrypted-at-rest", True),
        ("no-public-data", True),
        ("owner-and-stage", True),
    ]
    assert "set storageEncrypted" in response.diagnostics[0].message


@pytest.mark.slow
@needs_environment
def test_what_a_preview_does_not_know_refuses_nothing_and_is_said_as_advice(
    pack: analyzer_pb2_grpc.AnalyzerStub,
) -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": True}
    type_ = "aws:rds/instance:Instance"
    unknown = {"storageEncrypted": UNKNOWN_TEXT, "publiclyAccessible": secret, "tags": TAGS}
    assert [name for name, *_ in _told(_analyze(pack, type_, **unknown))] == ["no-public-data"]
    resource = analyzer_pb2.AnalyzerResource(type=type_, name="db", urn="urn:db", properties=_struct(unknown))
    response = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=[resource]), timeout=20)
    assert _told(response) == [("not-judged", "urn:db", False)]
    assert "is not judged: whether its storage is unencrypted is not known yet" in response.diagnostics[0].message


@pytest.mark.slow
@needs_environment
def test_a_stack_is_judged_as_a_whole(pack: analyzer_pb2_grpc.AnalyzerStub) -> None:
    def queue(name: str, **inputs: Any) -> analyzer_pb2.AnalyzerResource:
        properties = _struct({"name": name, "sqsManagedSseEnabled": True, "tags": TAGS, **inputs})
        return analyzer_pb2.AnalyzerResource(
            type="aws:sqs/queue:Queue", name=name, urn=f"urn:{name}", properties=properties
        )

    redrive = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:dead", "maxReceiveCount": 5})
    whole = [queue("orders", redrivePolicy=redrive), queue("dead")]
    assert _told(pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=whole), timeout=20)) == []
    broken = [*whole, queue("lonely")]
    response = pack.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=broken), timeout=20)
    assert _told(response) == [("dead-letter-queues", "urn:lonely", True)]


def test_the_pack_names_one_version_of_pulumi_and_an_environment_that_make_sets_up() -> None:
    described = yaml.safe_load((PACK / "PulumiPolicy.yaml").read_text())
    assert described["runtime"] == {"name": "python", "options": {"virtualenv": ".venv"}}
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    needed = [line for line in (PACK / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert next(line for line in needed if line.startswith("pulumi==")) in constraints
    assert re.search(r"^policy:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_only_the_pack_imports_what_only_its_environment_has() -> None:
    folders = ("stages", "workloads", "infra", "chaos", "loadtests", "suite")
    said = [p for folder in folders for p in (ROOT / folder).rglob("*.py") if "pulumi_policy" in p.read_text()]
    assert said == []
    assert sys.executable != str(PYTHON)


PROGRAM = """
import json
import pulumi

TAGS = {"owner": "platform", "stage": "async"}


class Thing(pulumi.ComponentResource):
    # a component, so that no provider of a cloud is needed: the engine asks policies about it all the same
    def __init__(self, type_, called, **inputs):
        super().__init__(type_, called, inputs)
        self.register_outputs(inputs)  # what a provider does: rules of a stack are asked about what came out


config = pulumi.Config()
made = Thing("aws:rds/instance:Instance", "records", storageEncrypted=config.require_bool("encrypted"), tags=TAGS)
redrive = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:dead", "maxReceiveCount": 5})
for name, more in (("orders", {"redrivePolicy": redrive} if config.require_bool("buries") else {}), ("dead", {})):
    Thing("aws:sqs/queue:Queue", name, name=name, sqsManagedSseEnabled=True, tags=TAGS, **more)
"""


@pytest.mark.slow
@needs_environment
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH; the tests above ran")
def test_the_engine_refuses_what_the_pack_refuses(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: things\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
        "PULUMI_CONFIG_PASSPHRASE": "for tests",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }

    def run(*words: str) -> tuple[int, str]:
        ended = subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout

    def update(encrypted: bool, buries: bool) -> tuple[bool, str]:
        for key, value in (("encrypted", encrypted), ("buries", buries)):
            run("config", "set", key, str(value).lower())
        status, said = run("up", "--yes", "--skip-preview", "--policy-pack", str(PACK))
        return status == 0, said

    assert run("stack", "init", "test")[0] == 0
    passed, said = update(encrypted=True, buries=True)
    assert passed, said
    passed, said = update(encrypted=False, buries=True)
    assert (passed, "encrypted-at-rest" in said, "set storageEncrypted" in said) == (False, True, True), said
    passed, said = update(encrypted=True, buries=False)
    assert (passed, "dead-letter-queues" in said) == (False, True), said
