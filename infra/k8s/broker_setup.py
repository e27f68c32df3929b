"""How does a broker come to have a stage's queues? This file runs in a pod, with the AWS SDK and nothing of ours.

    python broker_setup.py plan.json            once, then exit
    python broker_setup.py plan.json --forever  again every few seconds: an emulator that restarts has lost them

Making what is there already changes nothing: queues keep their messages.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

EVERY_S = 5.0
PATIENCE_S = 300.0
"""How long a broker may be silent."""
MADE = Path("/tmp/made")
"""There as long as everything was there when last looked at: what a readiness probe asks for."""


def setup(sqs: Any, sns: Any, plan: dict[str, Any]) -> None:
    """Make what is missing. Raise the SDK's errors."""
    arns: dict[str, str] = {}
    for queue in plan["queues"]:  # dead-letter queues come first
        attributes = {"VisibilityTimeout": str(queue["visibility_timeout_s"])}
        if queue["dead_letters"]:
            policy = {"deadLetterTargetArn": arns[queue["dead_letters"]], "maxReceiveCount": str(queue["max_receives"])}
            attributes["RedrivePolicy"] = json.dumps(policy)
        fifo = {"FifoQueue": "true"} if queue["fifo"] else {}
        url = sqs.create_queue(QueueName=queue["name"], Attributes=fifo)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        arns[queue["name"]] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
    for topic in plan["topics"]:
        fifo = {"FifoTopic": "true", "ContentBasedDeduplication": "false"} if topic["fifo"] else {}
        arns[topic["name"]] = sns.create_topic(Name=topic["name"], Attributes=fifo)["TopicArn"]
    for subscription in plan["subscriptions"]:
        wanted = {
            "RawMessageDelivery": "true",
            "FilterPolicy": json.dumps({"type": subscription["messages"]}),
        }
        topic, queue = arns[subscription["topic"]], arns[subscription["queue"]]
        made = sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=wanted, ReturnSubscriptionArn=True
        )
        for name, value in wanted.items():  # what was there before keeps its own
            sns.set_subscription_attributes(
                SubscriptionArn=made["SubscriptionArn"], AttributeName=name, AttributeValue=value
            )


def main(arguments: list[str]) -> int:
    """0 when everything is there, 1 if the broker did not answer for long."""
    plan = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    sqs, sns = (_client(service, plan) for service in ("sqs", "sns"))
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            setup(sqs, sns, plan)
            MADE.touch()
            until = time.monotonic() + PATIENCE_S
            if "--forever" not in arguments:
                print(f"broker_setup: {len(plan['queues'])} queues, {len(plan['topics'])} topics")
                return 0
        except Exception as error:  # whatever it is, it is tried again and said
            MADE.unlink(missing_ok=True)
            print(f"broker_setup: {error}", file=sys.stderr, flush=True)
            if time.monotonic() > until:
                return 1
        time.sleep(EVERY_S)


def _client(service: str, plan: dict[str, Any]) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session

    options = {} if plan["signed"] else {"signature_version": UNSIGNED}
    config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, **options)
    return Session().create_client(service, region_name=plan["region"], endpoint_url=plan["endpoint"], config=config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
