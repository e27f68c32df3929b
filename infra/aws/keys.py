"""Which keys encrypt what, and who may use them? KMS keys with policies that name every user.

    platform    secrets of Kubernetes, logs, the image repository, alarms
    data        databases, their snapshots, their master passwords
    messages    queues and topics

One key for each: the misuse of one says nothing about the others. In a key's own policy the resource
`*` means that key and no other (KMS Developer Guide, 'Key policies in AWS KMS').
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pulumi
from pulumi_aws import kms

from infra.aws.naming import called, tags
from infra.aws.permissions import Statement, document
from infra.aws.sizing import Sizing
from infra.config import Options

ADMINISTER = tuple(
    f"kms:{action}"
    for action in (
        "CancelKeyDeletion",
        "CreateAlias",
        "CreateGrant",
        "Decrypt",
        "DeleteAlias",
        "DescribeKey",
        "DisableKey",
        "DisableKeyRotation",
        "EnableKey",
        "EnableKeyRotation",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GetKeyPolicy",
        "GetKeyRotationStatus",
        "ListGrants",
        "ListKeyPolicies",
        "ListResourceTags",
        "PutKeyPolicy",
        "ReEncryptFrom",
        "ReEncryptTo",
        "RetireGrant",
        "RevokeGrant",
        "ScheduleKeyDeletion",
        "TagResource",
        "UntagResource",
        "UpdateAlias",
        "UpdateKeyDescription",
    )
)
"""What the account may hand out to its roles by IAM. Written out: 'kms:*' also means what AWS adds next year."""

DELETION_DAYS = {True: 30, False: 7}
"""Days until a deleted key is gone, with it everything that it encrypts; 7 to 30 are allowed."""


PASSING = "messages"
"""The key of what only passes through: a stack may take the step to stage async back."""


def account_statement(account: str) -> Statement:
    """Without it nobody could ever change the key again, AWS's support included."""
    return Statement(
        sid="Account",
        actions=ADMINISTER,
        resources=("*",),
        principals={"AWS": (f"arn:aws:iam::{account}:root",)},
    )


def logs_statement(region: str, account: str, groups: Sequence[str]) -> Statement:
    """CloudWatch Logs, for exactly these log groups."""
    arns = [f"arn:aws:logs:{region}:{account}:log-group:{group}" for group in groups]
    return Statement(
        sid="Logs",
        actions=(
            "kms:Encrypt",
            "kms:Decrypt",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
            "kms:GenerateDataKey",
            "kms:DescribeKey",
        ),
        resources=("*",),
        principals={"Service": (f"logs.{region}.amazonaws.com",)},
        conditions={"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": arns}},
    )


def publisher_statement(sid: str, service: str, account: str) -> Statement:
    """A service of AWS that publishes to an encrypted queue or topic of this account."""
    return Statement(
        sid=sid,
        actions=("kms:Decrypt", "kms:GenerateDataKey"),
        resources=("*",),
        principals={"Service": (service,)},
        conditions={"StringEquals": {"aws:SourceAccount": account}},
    )


def key_policy(account: str, *more: Statement) -> str:
    """The document of a key, as JSON."""
    return json.dumps(document(account_statement(account), *more), sort_keys=True)


def platform_policy(region: str, account: str, groups: tuple[str, ...]) -> str:
    """The document of the key of a cluster's log groups and of its alarms' topic, as JSON."""
    return key_policy(
        account,
        logs_statement(region, account, groups),
        publisher_statement("Alarms", "cloudwatch.amazonaws.com", account),
    )


class Key(pulumi.ComponentResource):
    """A key that rotates every year, with its alias."""

    arn: pulumi.Output[str]

    def __init__(
        self,
        purpose: str,
        options: Options,
        sizing: Sizing,
        policy: pulumi.Input[str],
        *,
        system: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        name = f"{system}-{purpose}" if system else purpose
        super().__init__("stages:aws:Key", f"{name}-key", None, opts)
        below = pulumi.ResourceOptions(parent=self)
        key = kms.Key(
            name,
            description=f"{options.name}: {purpose}",
            policy=policy,
            enable_key_rotation=True,
            deletion_window_in_days=DELETION_DAYS[sizing.protected],
            tags=tags(options, system, called(options, name)),
            opts=pulumi.ResourceOptions(parent=self, protect=sizing.protected and purpose != PASSING),
        )
        kms.Alias(name, name=f"alias/{called(options, name)}", target_key_id=key.key_id, opts=below)
        self.arn = key.arn
        self.register_outputs({"arn": key.arn})
