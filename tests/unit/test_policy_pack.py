"""What the policy pack hands to the engine, with a stand-in for the SDK that only its own environment has.

The real SDK, and the real engine, are in tests/integration/test_policy_pack.py.
"""

from __future__ import annotations

import enum
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from infra.policy import RULES, Scope

MAIN = Path(__file__).parents[2] / "policy/__main__.py"


class UnknownValueError(Exception):
    """What the SDK's proxies raise."""


class Unknown:
    """Marks a value that raises when it is touched."""


class Proxy(Mapping[str, Any]):
    """As the SDK's: raises for what is not known, proxies what is below."""

    def __init__(self, target: dict[str, Any]) -> None:
        self._target = target

    def __getitem__(self, key: str) -> Any:
        return _touched(self._target[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._target)

    def __len__(self) -> int:
        return len(self._target)


class Several(Sequence[Any]):
    """The same for lists."""

    def __init__(self, target: list[Any]) -> None:
        self._target = target

    def __getitem__(self, key: Any) -> Any:
        return _touched(self._target[key])

    def __len__(self) -> int:
        return len(self._target)


def _touched(value: Any) -> Any:
    if value is Unknown:
        raise UnknownValueError
    return Proxy(value) if isinstance(value, dict) else Several(value) if isinstance(value, list) else value


class EnforcementLevel(enum.Enum):
    ADVISORY = "advisory"
    MANDATORY = "mandatory"


class Policy:
    def __init__(self, name: str, description: str, validate: Any, *, enforcement_level: EnforcementLevel) -> None:
        self.name, self.description, self.validate, self.level = name, description, validate, enforcement_level


class ResourceValidationPolicy(Policy):
    """Asked about one resource."""


class StackValidationPolicy(Policy):
    """Asked about all of them."""


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> dict[str, Policy]:
    """The policies of the pack, by name."""
    made: list[list[Policy]] = []
    sdk = ModuleType("pulumi_policy")
    given: dict[str, Any] = {
        "EnforcementLevel": EnforcementLevel,
        "Policy": Policy,
        "PolicyPack": lambda name, policies: made.append(policies),
        "ResourceValidationPolicy": ResourceValidationPolicy,
        "StackValidationPolicy": StackValidationPolicy,
        **dict.fromkeys(("PolicyResource", "ReportViolation", "ResourceValidationArgs", "StackValidationArgs"), object),
    }
    vars(sdk).update(given)
    proxy = ModuleType("pulumi_policy.proxy")
    vars(proxy)["UnknownValueError"] = UnknownValueError
    monkeypatch.setitem(sys.modules, "pulumi_policy", sdk)
    monkeypatch.setitem(sys.modules, "pulumi_policy.proxy", proxy)
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(MAIN), run_name="__main__")
    return {policy.name: policy for policy in made[0]}


def resource(type_: str, **props: Any) -> SimpleNamespace:
    return SimpleNamespace(resource_type=type_, name="it", urn="urn:it", props=Proxy(props))


def asked(policy: Policy, *resources: SimpleNamespace) -> list[tuple[str, str | None]]:
    """What a policy reports."""
    told: list[tuple[str, str | None]] = []
    args = resources[0] if isinstance(policy, ResourceValidationPolicy) else SimpleNamespace(resources=list(resources))
    policy.validate(args, lambda message, urn=None: told.append((message, urn)))
    return told


def test_every_rule_is_a_mandatory_policy_of_its_scope(pack: dict[str, Policy]) -> None:
    assert list(pack) == [*(rule.name for rule in RULES), "not-judged"]
    kinds = {Scope.RESOURCE: ResourceValidationPolicy, Scope.STACK: StackValidationPolicy}
    for rule in RULES:
        policy = pack[rule.name]
        assert (type(policy), policy.level) == (kinds[rule.scope], EnforcementLevel.MANDATORY)
    assert pack["not-judged"].level is EnforcementLevel.ADVISORY


def test_a_finding_is_reported_where_it_is_with_what_to_do(pack: dict[str, Policy]) -> None:
    ((message, urn),) = asked(pack["encrypted-at-rest"], resource("aws:rds/instance:Instance", storageEncrypted=False))
    assert urn == "urn:it"
    assert "its storage is unencrypted; set storageEncrypted" in message


def test_what_is_unknown_is_advice_wherever_it_lies(pack: dict[str, Policy]) -> None:
    tags = {"owner": "platform", "stage": "sync"}
    types: list[Any] = [{"encryptionType": Unknown}]
    it = resource("aws:ecr/repository:Repository", encryptionConfigurations=types, tags=tags)
    assert [told for name, policy in pack.items() if name != "not-judged" for told in asked(policy, it)] == []
    ((message, urn),) = asked(pack["not-judged"], it)
    assert (urn, "is not judged" in message) == ("urn:it", True)


def test_a_stack_without_faults_is_told_nothing(pack: dict[str, Policy]) -> None:
    tags = {"owner": "platform", "stage": "sync"}
    it = resource("aws:rds/instance:Instance", storageEncrypted=True, publiclyAccessible=False, tags=tags)
    assert [told for policy in pack.values() for told in asked(policy, it)] == []
