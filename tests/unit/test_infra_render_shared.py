"""What a stage becomes where services share a database, and where an answer has a fallback."""

from __future__ import annotations

import pytest

from infra.local.render import render
from infra.local.resource import Resource, resolve
from stages.catalogue import STAGES
from workloads.settings import Settings


def service(stage: str, name: str, variant: str | None = None) -> tuple[Resource, Settings]:
    """A rendered service and the settings it will read; every reference resolved to its own name."""
    resources = render(STAGES[stage], run_id="r", variant=variant)
    found = next(r for r in resources if (r.kind, r.name) == ("service", name))
    env = {key: resolve(value, Names()).replace("{port}", "1") for key, value in found.env.items()}
    return found, Settings.from_env(env)


class Names(dict[tuple[str, str], dict[str, object]]):
    def __missing__(self, key: tuple[str, str]) -> dict[str, object]:
        return Outputs(key[1])


class Outputs(dict[str, object]):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __missing__(self, key: str) -> object:
        return f"127.0.0.1:1/{self._name}" if key.startswith("listen") else f"{key}-of-{self._name}"


def test_services_that_share_a_database_are_hurt_by_the_faults_of_the_one_they_share() -> None:
    for name in ("orders", "payments"):
        resource, settings = service("mesh", name, "shared-database")
        assert (resource.inputs["database"], settings.database_url) == ("payments", "url-of-payments")
        assert settings.disabled == {"own-database"}
    for name in ("orders", "payments"):
        resource, settings = service("mesh", name)
        assert (resource.inputs["database"], settings.database_url) == (name, f"url-of-{name}")


@pytest.mark.parametrize(
    ("stage", "fallbacks"),
    [
        ("sync", {"inventory": "cache"}),
        ("async", {"inventory": "cache"}),
        ("mesh", {"inventory": "cache", "analytics": "cache"}),
    ],
)
def test_only_the_channels_that_have_a_fallback_give_one_to_the_storefront(
    stage: str, fallbacks: dict[str, str]
) -> None:
    _, settings = service(stage, "storefront")
    assert {name: peer.fallback for name, peer in settings.peers.items() if peer.fallback} == fallbacks


def test_in_a_mesh_the_services_own_attempts_and_breakers_step_back() -> None:
    _, settings = service("mesh", "storefront")
    assert {(peer.attempts, peer.breaker) for peer in settings.peers.values()} == {(1, False)}
