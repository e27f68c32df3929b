"""The recorder behind every test of an AWS program: what it sees, and what it does not let pass."""

from __future__ import annotations

from dataclasses import replace

import pulumi
import pytest
from pulumi_aws import iam, sqs

from infra.testing_pulumi import ACCOUNT, Row, answers, record, row_of, rows


def _queue_and_policy() -> None:
    queue = sqs.Queue("q", name="shop-q", visibility_timeout_seconds=5)
    iam.Policy("p", policy=queue.arn.apply(lambda arn: f"only {arn}"))
    pulumi.export("url", queue.url)


def test_a_row_has_the_inputs_as_the_cloud_would_see_them() -> None:
    found = record(_queue_and_policy, stack="here")

    top = "urn:pulumi:here::staged-decoupling::pulumi:pulumi:Stack::staged-decoupling-here"
    queue = Row(
        type="aws:sqs/queue:Queue", name="q", inputs={"name": "shop-q", "visibilityTimeoutSeconds": 5}, parent=top
    )
    policy = row_of(found.rows, "aws:iam/policy:Policy", "p")
    assert found.rows == [policy, queue]
    assert policy.inputs == {"policy": f"only arn:aws:sqs:us-east-1:{ACCOUNT}:shop-q"}
    assert found.outputs == {"url": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/shop-q"}


def test_in_a_preview_nothing_is_known_that_the_cloud_answers() -> None:
    found = record(_queue_and_policy, preview=True)

    assert isinstance(row_of(found.rows, "aws:iam/policy:Policy", "p").inputs["policy"], pulumi.output.Unknown)
    assert isinstance(found.outputs["url"], pulumi.output.Unknown)


def test_secrets_are_named_and_unwrapped() -> None:
    row = rows(lambda: sqs.Queue("q", tags={"word": pulumi.Output.secret("hush")}))[0]

    assert row == replace(row, inputs={"tags": {"word": "hush"}}, secrets=frozenset({"tags"}))


def test_an_error_in_an_apply_is_raised_and_does_not_reach_the_next_program() -> None:
    with pytest.raises(ZeroDivisionError):
        rows(lambda: sqs.Queue("q").arn.apply(lambda _arn: 1 // 0))

    assert [row.name for row in rows(lambda: sqs.Queue("r"))] == ["r"]


def test_one_name_for_two_resources_of_a_type_is_refused() -> None:
    with pytest.raises(ValueError, match="two resources of type aws:sqs/queue:Queue named 'q'"):
        rows(lambda: (sqs.Queue("q"), sqs.Queue("q")))


def test_parents_protection_and_outputs_of_components_are_seen() -> None:
    class Part(pulumi.ComponentResource):
        def __init__(self) -> None:
            super().__init__("shop:aws:Part", "part")
            sqs.Queue("q", opts=pulumi.ResourceOptions(parent=self, protect=True))
            self.register_outputs({"n": 3})

    found = record(Part)

    queue = row_of(found.rows, "aws:sqs/queue:Queue", "q")
    assert queue.protect
    assert queue.parent in found.component_outputs
    assert found.component_outputs[queue.parent] == {"n": 3}
    assert not row_of(found.rows, "shop:aws:Part", "part").custom


def test_what_is_not_of_aws_gets_no_arn() -> None:
    assert answers("kubernetes:core/v1:ConfigMap", "s", {}) == {}


def test_a_missing_row_is_told_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"no aws:sqs/queue:Queue named 'x'; there are \['q'\]"):
        row_of(rows(lambda: sqs.Queue("q")), "aws:sqs/queue:Queue", "x")
