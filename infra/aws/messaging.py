"""What carries messages on AWS? SQS queues with their dead letters, SNS topics, and the subscriptions between them.

    service --> (topic) --filter, raw--> [queue] --> service
                                           +-- after max_receives --> [queue-dlq]

The plan is `stages.messaging`, the same as on every target. Everything lies encrypted by the key `messages`, whose
policy lets SNS use it: without that, SNS drops what it delivers to an encrypted queue, and says so nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi_aws import sns, sqs

from infra.aws import messaging_plan as plan
from infra.aws.naming import called, tags
from infra.aws.permissions import Target
from infra.config import Options
from stages.messaging import Messaging, Queue, messaging
from stages.model import Stage


class Messages(pulumi.ComponentResource):
    """Queues, topics and subscriptions of a stage."""

    queues: Mapping[str, sqs.Queue]
    """By the model's names, dead letters among them."""
    topics: Mapping[str, sns.Topic]

    def __init__(
        self, stage: Stage, options: Options, *, key: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("stages:aws:Messages", "messages", None, opts)
        self._stage, self._options, self._key = stage, options, key
        self._below = pulumi.ResourceOptions(parent=self)
        needed = messaging(stage)
        self.queues = {}
        for queue in needed.queues:
            self.queues |= self._queue(queue)
        self.topics = {
            topic.name: sns.Topic(
                topic.name,
                **plan.topic_args(called(options, topic.name), fifo=topic.fifo),
                kms_master_key_id=key,
                tags=self._tags(topic.producer),
                opts=self._below,
            )
            for topic in needed.topics
        }
        self._policies(needed)
        self._subscriptions(needed)
        self.register_outputs({"queues": {name: queue.url for name, queue in self.queues.items()}})

    def targets(self) -> dict[Target, pulumi.Input[str]]:
        """ARN of everything that a permission may be about."""
        queues = {Target(kind="queue", name=name): queue.arn for name, queue in self.queues.items()}
        topics = {Target(kind="topic", name=name): topic.arn for name, topic in self.topics.items()}
        return {**queues, **topics, Target(kind="key", name="messages"): self._key}

    def _tags(self, service: str) -> dict[str, str]:
        return tags(self._options, self._stage.service(service).system)

    def _queue(self, queue: Queue) -> dict[str, sqs.Queue]:
        its_tags = self._tags(queue.consumer)
        dead = sqs.Queue(
            queue.dead_letters,
            **plan.dead_letter_args(queue, called(self._options, queue.dead_letters)),
            kms_master_key_id=self._key,
            tags=its_tags,
            opts=self._below,
        )
        made = sqs.Queue(
            queue.name,
            **plan.queue_args(queue, called(self._options, queue.name)),
            kms_master_key_id=self._key,
            redrive_policy=dead.arn.apply(lambda arn: plan.redrive(arn, queue)),
            tags=its_tags,
            opts=self._below,
        )
        # a resource of its own: each of the two queues names the other
        sqs.RedriveAllowPolicy(
            queue.dead_letters,
            queue_url=dead.url,
            redrive_allow_policy=made.arn.apply(plan.redrive_allow),
            opts=self._below,
        )
        return {queue.dead_letters: dead, queue.name: made}

    def _policies(self, needed: Messaging) -> None:
        for queue in needed.queues:
            topics = plan.feeding(needed, queue)
            if topics:
                arns = pulumi.Output.all(self.queues[queue.name].arn, *(self.topics[name].arn for name in topics))
                sqs.QueuePolicy(
                    queue.name,
                    queue_url=self.queues[queue.name].url,
                    policy=arns.apply(lambda known: plan.queue_policy(known[0], known[1:])),
                    opts=self._below,
                )

    def _subscriptions(self, needed: Messaging) -> None:
        for subscription in needed.subscriptions:
            sns.TopicSubscription(
                subscription.name,
                topic=self.topics[subscription.topic].arn,
                protocol="sqs",
                endpoint=self.queues[subscription.queue].arn,
                raw_message_delivery=True,
                filter_policy=plan.filter_policy(subscription.messages),
                filter_policy_scope="MessageAttributes",
                opts=self._below,
            )
