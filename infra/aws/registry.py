"""Where does the image of the workloads come from? A repository of the deployment's own.

A tag, once pushed, stays what it is; every image is scanned; what has no tag is gone after two weeks. The stack makes
the repository, not the image: what runs is the configuration key `image`, by digest or tag, from here or elsewhere.
"""

from __future__ import annotations

import json
from typing import Any

import pulumi
from pulumi_aws import ecr

from infra.aws.naming import called, tags
from infra.aws.sizing import Sizing
from infra.config import Options

UNTAGGED_DAYS = 14
IMAGES_MAX = 200
"""Tagged images that are kept, the newest ones: many months of releases, and an end of the bill."""


def lifecycle() -> dict[str, Any]:
    """The repository's policy, in AWS's own words."""
    return {
        "rules": [
            _rule(
                1,
                "untagged images",
                {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": UNTAGGED_DAYS,
                },
            ),
            _rule(
                2,
                "all but the newest",
                {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_MAX},
            ),
        ]
    }


def _rule(priority: int, what: str, selection: dict[str, Any]) -> dict[str, Any]:
    return {
        "rulePriority": priority,
        "description": f"expire {what}",
        "selection": selection,
        "action": {"type": "expire"},
    }


class Registry(pulumi.ComponentResource):
    """The repository."""

    url: pulumi.Output[str]

    def __init__(
        self, options: Options, sizing: Sizing, *, key: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("stages:aws:Registry", "registry", None, opts)
        made = ecr.Repository(
            "shop",
            name=f"{called(options)}/shop",
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "KMS", "kms_key": key}],
            force_delete=not sizing.protected,
            tags=tags(options),
            opts=pulumi.ResourceOptions(parent=self, protect=sizing.protected),
        )
        ecr.LifecyclePolicy(
            "shop",
            repository=made.name,
            policy=json.dumps(lifecycle(), sort_keys=True),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.url = made.repository_url
        self.register_outputs({"url": self.url})
