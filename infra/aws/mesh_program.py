"""Which part of a mesh does a stack hold? The backbone, or one system; never both, and never two systems.

    pulumi config set system backbone | commerce | fulfilment | payments | engagement

`stages up mesh --target aws` makes all of them, in the order that `infra.aws.split` says.
"""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.backbone import Backbone, referred
from infra.aws.system import System
from infra.config import ANYWHERE, BACKBONE, NOBODY, Options
from stages.model import Stage


def problems(options: Options, stage: Stage) -> list[str]:
    """What the stage cannot be on AWS, each a sentence with the remedy."""
    found = []
    if options.system is None:
        known = ", ".join((BACKBONE, *(system.name for system in stage.systems)))
        found.append(
            "system is not set, and stage mesh has a stack for each; `stages up mesh --target aws` builds all, "
            f"`pulumi config set system ...` makes this stack one of {known}"
        )
    if options.broker != "sqs":
        found.append(
            f"broker is {options.broker!r}, but its brokers live in the network of one system, which others would need "
            "to be alive; `pulumi config set broker sqs`"
        )
    if options.api_cidrs not in ((ANYWHERE,), NOBODY):
        # With a public endpoint its name leads to public addresses, also from other VPCs: control planes of other
        # clusters come by their NAT gateways then, whose addresses belong to stacks that are built later.
        found.append(
            f"api_cidrs is {list(options.api_cidrs)}, which shuts out the control planes of other clusters; "
            "`pulumi config set api_cidrs '[\"none\"]'` for an endpoint that only the networks of the mesh reach"
        )
    return found


def deploy(options: Options, stage: Stage) -> dict[str, Any]:
    """Register the stack's part; returns its outputs. Raise pulumi.RunError for options that cannot be used."""
    if found := problems(options, stage):
        raise pulumi.RunError("\n".join(f"configuration: {problem}" for problem in found))
    assert options.system is not None
    opts = pulumi.ResourceOptions(provider=aws.Provider("aws", region=options.region))
    if options.system == BACKBONE:
        backbone = Backbone(stage, options, opts)
        return {"stage": stage.name, "repository": backbone.image_repository, **backbone.shared.outputs()}
    return System(options.system, stage, options, referred(stage, options), opts).outputs()
