"""Does a stack's configuration become the options it means, and is everything wrong with it said at once?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.config import KEYS, ConfigError, Options, options

DIGEST = "registry.example/shop@sha256:" + "0" * 64
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/0f0f"
ROOT = Path(__file__).parents[2]


def problems(raw: dict[str, object], stack: str = "mine") -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        options(raw, stack)
    return raised.value.problems


def test_what_is_not_configured_has_a_default() -> None:
    assert options({"stage": "sync"}, "mine") == Options(
        stage="sync",
        target="local",
        name="mine",
        variant=None,
        broker="sqs",
        region="us-east-1",
        image=None,
        domain=None,
        certificate=None,
        system=None,
        kubeconfig_context=None,
        broker_url=None,
        database_url=None,
        availability_zones=("us-east-1a", "us-east-1b", "us-east-1c"),
        owner="platform",
    )


def test_everything_can_be_configured_and_a_list_comes_as_json() -> None:
    found = options(
        {
            "stage": "mesh",
            "target": "aws",
            "name": "shop",
            "broker": "kafka",
            "region": "eu-west-1",
            "image": DIGEST,
            "domain": "shop.example.com",
            "certificate": CERTIFICATE,
            "system": "backbone",
            "availability_zones": '["eu-west-1a", "eu-west-1b", "eu-west-1d"]',
            "owner": "team-a",
        },
        "aws-mesh",
    )
    assert (found.name, found.system, found.certificate) == ("shop", "backbone", CERTIFICATE)
    assert found.availability_zones == ("eu-west-1a", "eu-west-1b", "eu-west-1d")


def test_zones_follow_the_region() -> None:
    found = options(
        {"stage": "sync", "target": "aws", "image": DIGEST, "domain": "shop.example.com", "region": "eu-west-1"}, "s"
    )
    assert found.availability_zones == ("eu-west-1a", "eu-west-1b", "eu-west-1c")


def test_every_problem_is_said_at_once_with_key_value_and_remedy() -> None:
    found = problems({"stage": "later", "target": "moon", "colour": "red", "broker": "rabbit"}, "My_Stack")
    assert len(found) == 5
    for key, value in (("stage", "'later'"), ("target", "'moon'"), ("broker", "'rabbit'"), ("name", "'My_Stack'")):
        assert any(key in p and value in p and "`pulumi config set" in p for p in found), (key, found)
    assert any("colour" in p and "`pulumi config rm colour`" in p for p in found)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "stage is not set; `pulumi config set stage sync`"),
        ({"stage": 7}, "stage is 7, must be a text"),
        ({"stage": ""}, "stage is not set"),
        ({"stage": "sync", "variant": "no-such"}, "variant is 'no-such'"),
        ({"stage": "sync", "broker": "kafka"}, "`pulumi config set broker sqs`"),
        ({"stage": "sync", "region": "eu-west-1"}, "region means nothing on target 'local', only on aws"),
        ({"stage": "sync", "target": "k8s"}, "image is not set, target 'k8s' needs it"),
        ({"stage": "sync", "target": "aws", "image": "shop"}, "image is 'shop'"),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "variant": "no-breaker"}, "only on local"),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "system": "backbone"}, "only stage mesh"),
        ({"stage": "mesh", "target": "aws", "image": DIGEST, "system": "moon"}, "must be backbone, "),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "availability_zones": ["us-east-1a"]}, "three different"),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "availability_zones": "a, b"}, "a list of texts"),
        (
            {
                "stage": "sync",
                "target": "aws",
                "image": DIGEST,
                "availability_zones": ["us-west-2a", "b", "us-east-1c"],
            },
            "has us-west-2a, b, not of region us-east-1",
        ),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "region": "mars"}, "region is 'mars'"),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "domain": "no dots"}, "domain is 'no dots'"),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "certificate": CERTIFICATE}, "set domain"),
        ({"stage": "sync", "owner": "\n"}, "owner is '\\n'"),
        ({"stage": "sync", "target": "aws", "image": DIGEST}, "domain is not set, target 'aws' needs it"),
        ({"stage": "mesh", "target": "aws", "image": DIGEST, "system": "commerce"}, "domain is not set"),
        ({"stage": "sync", "target": "aws", "image": DIGEST, "size": "huge"}, "size is 'huge'"),
        (
            {"stage": "sync", "target": "aws", "image": DIGEST, "network_faults": "true"},
            "only stage mesh has experiments",
        ),
        ({"stage": "mesh", "target": "aws", "image": DIGEST, "network_faults": "yes"}, "network_faults is 'yes'"),
        (
            {"stage": "sync", "target": "aws", "image": DIGEST, "api_cidrs": ["10.0.0.1/8"]},
            "api_cidrs has '10.0.0.1/8'",
        ),
    ],
)
def test_what_is_wrong_is_refused(raw: dict[str, object], said: str) -> None:
    assert any(said in problem for problem in problems(raw)), problems(raw)


def test_only_the_system_that_users_enter_by_needs_a_domain() -> None:
    assert options({"stage": "mesh", "target": "aws", "image": DIGEST, "system": "payments"}, "s").domain is None


def test_the_kubernetes_api_can_be_closed_to_the_outside() -> None:
    raw = {"stage": "sync", "target": "aws", "image": DIGEST, "domain": "shop.example.com", "api_cidrs": ["none"]}
    assert options(raw, "s").api_cidrs == ("none",)


def test_a_secret_is_not_repeated() -> None:
    found = problems({"stage": "sync", "target": "k8s", "image": DIGEST, "database_url": "hunter2"})
    assert found == (
        "database_url (not shown) must be scheme://host[:port]/...; `pulumi config set --secret database_url ...`",
    )


def test_the_project_declares_every_key_and_no_other() -> None:
    """The CLI checks types by the project file, before the program runs."""
    text = (ROOT / "Pulumi.yaml").read_text(encoding="utf-8")
    declared = re.findall(r"^  (\w+):$", text.split("\nconfig:\n")[1], re.MULTILINE)
    assert sorted(declared) == sorted(KEYS)


def test_what_may_be_left_out_has_a_default_which_means_that_it_was() -> None:
    """Without a default the CLI would ask for the key."""
    text = (ROOT / "Pulumi.yaml").read_text(encoding="utf-8").split("\nconfig:\n")[1]
    defaults = dict(re.findall(r"^  (\w+):\n(?:    .*\n)*?    default: (.*)$", text, re.MULTILINE))
    assert defaults.keys() == set(KEYS) - {"stage"}
    raw = {key: value.strip('"') for key, value in defaults.items()}
    assert options({"stage": "sync", **raw}, "mine") == options({"stage": "sync"}, "mine")
