"""What belongs to no system? The backbone: what all lean on, with an owner and a state of its own.

    transit gateway   networks meet here             root            everybody's trust ends here
    namespace         systems have names here        letterboxes     control planes leave credentials here
    queues, topics    messages between systems       registry        the workloads' image

A system's stack reads it by StackReference and can change nothing of it. It holds no cluster and no service: while it
is updated, or gone wrong, systems go on with what they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pulumi

from infra.aws.discovery import Namespace
from infra.aws.keys import Key, key_policy, publisher_statement
from infra.aws.messaging import Messages
from infra.aws.naming import called, tags
from infra.aws.peering import Hub
from infra.aws.permissions import Target
from infra.aws.registry import Registry
from infra.aws.remote import Letterboxes, published
from infra.aws.sizing import SIZES
from infra.aws.split import stack_of
from infra.aws.trust import Root
from infra.config import BACKBONE, Options
from stages.messaging import messaging
from stages.model import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What systems need of the backbone; the outputs of its stack have the fields' names."""

    account: pulumi.Input[str]
    transit_gateway: pulumi.Input[str]
    root: pulumi.Input[str]
    """ARN of the certificate authority."""
    namespace: pulumi.Input[str]
    """Id of the Cloud Map namespace, ..."""
    zone: pulumi.Input[str]
    """... and of its hosted zone."""
    messages_key: pulumi.Input[str]
    letters_key: pulumi.Input[str]
    """ARNs of what encrypts messages and letterboxes."""
    queues: Mapping[str, pulumi.Input[str]]
    topics: Mapping[str, pulumi.Input[str]]
    """The model's name -> ARN; dead-letter queues among them."""
    letterboxes: Mapping[str, pulumi.Input[str]]
    """Cluster -> ARN of the secret with its credential."""

    def targets(self) -> dict[Target, pulumi.Input[str]]:
        """What a permission of a service may be about, of what is here."""
        queues = {Target(kind="queue", name=name): arn for name, arn in self.queues.items()}
        topics = {Target(kind="topic", name=name): arn for name, arn in self.topics.items()}
        return {**queues, **topics, Target(kind="key", name="messages"): self.messages_key}

    def outputs(self) -> dict[str, Any]:
        """For the stack."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Backbone(pulumi.ComponentResource):
    """Everything of the backbone's stack."""

    shared: Shared
    image_repository: pulumi.Output[str]

    def __init__(self, stage: Stage, options: Options, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("stages:aws:Backbone", BACKBONE, None, opts)
        below = pulumi.ResourceOptions(parent=self)
        sizing = SIZES[options.size]
        namespace = Namespace(options.name, tags(options), below)
        account = namespace.account
        messages_policy = account.apply(
            lambda its: key_policy(its, publisher_statement("Topics", "sns.amazonaws.com", its))
        )
        messages_key = Key("messages", options, sizing, messages_policy, opts=below)
        letters_key = Key("letters", options, sizing, account.apply(key_policy), opts=below)
        messages = Messages(stage, options, key=messages_key.arn, opts=below)
        letterboxes = Letterboxes(stage, options, key=letters_key.arn, opts=below)
        registry = Registry(options, sizing, key=letters_key.arn, opts=below)
        self.image_repository = registry.url
        self.shared = Shared(
            account=account,
            transit_gateway=Hub(called(options, "hub"), tags(options), below).gateway_id,
            root=Root(options, sizing, below).arn,
            namespace=namespace.id,
            zone=namespace.zone_id,
            messages_key=messages_key.arn,
            letters_key=letters_key.arn,
            queues={name: queue.arn for name, queue in messages.queues.items()},
            topics={name: topic.arn for name, topic in messages.topics.items()},
            letterboxes=letterboxes.arns,
        )
        self.register_outputs({})


def referred(stage: Stage, options: Options) -> Shared:
    """The backbone as a system's stack sees it: by the outputs of the other stack. Fails where there are none."""
    organization = pulumi.get_organization() or "organization"
    name = f"{organization}/{pulumi.get_project()}/{stack_of(options.name, BACKBONE)}"
    reference = pulumi.StackReference(BACKBONE, stack_name=name)

    def one(key: str) -> pulumi.Output[str]:
        return reference.require_output(key)

    def of(key: str, name: str) -> pulumi.Output[str]:
        return reference.require_output(key).apply(lambda known: str(known[name]))

    needed = messaging(stage)
    queues = [name for queue in needed.queues for name in (queue.name, queue.dead_letters)]
    return Shared(
        account=one("account"),
        transit_gateway=one("transit_gateway"),
        root=one("root"),
        namespace=one("namespace"),
        zone=one("zone"),
        messages_key=one("messages_key"),
        letters_key=one("letters_key"),
        queues={name: of("queues", name) for name in queues},
        topics={topic.name: of("topics", topic.name) for topic in needed.topics},
        letterboxes={cluster: of("letterboxes", cluster) for cluster in published(stage)},
    )
