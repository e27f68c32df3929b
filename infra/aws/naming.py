"""What are things called on AWS, whose are they, and does AWS allow the name? (pure)

A name begins with the deployment's: several share an account and a region. Names in IAM are the whole account's,
so deployments of one name in two regions of one account are refused by AWS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.config import Options
from stages.catalogue import STAGES

SHARED = "shared"
"""The tag `system` of what no system owns."""


def tags(options: Options, system: str | None = None, name: str | None = None) -> dict[str, str]:
    """What every resource carries that takes tags. `name` is what AWS's console shows where a thing has no other."""
    stage = STAGES[options.stage]
    owner = stage.system(system).owner if system else None
    return {
        "stage": options.stage,
        "owner": owner or options.owner,
        "system": system or SHARED,
        "deployment": options.name,
        "managed-by": "pulumi",
        **({"Name": name} if name else {}),
    }


def called(options: Options, *parts: str) -> str:
    """A name in AWS: the deployment's, then its own.

    >>> from infra.config import options
    >>> called(options({"stage": "sync"}, "mine"), "orders", "replies")
    'mine-orders-replies'
    """
    return "-".join((options.name, *parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What AWS allows as a name."""

    pattern: str
    longest: int
    source: str


RULES = {
    "queue": Rule(pattern=r"[A-Za-z0-9_-]+(\.fifo)?", longest=80, source="SQS CreateQueue, QueueName"),
    "topic": Rule(pattern=r"[A-Za-z0-9_-]+(\.fifo)?", longest=256, source="SNS CreateTopic, Name"),
    "cluster": Rule(pattern=r"[0-9A-Za-z][A-Za-z0-9_-]*", longest=100, source="EKS CreateCluster, name"),
    "database": Rule(pattern=r"[a-z](-?[a-z0-9])*", longest=63, source="RDS CreateDBInstance, DBInstanceIdentifier"),
    "subnet group": Rule(pattern=r"[a-z0-9 ._-]+", longest=255, source="RDS CreateDBSubnetGroup"),
    "parameter group": Rule(pattern=r"[a-z](-?[a-z0-9])*", longest=255, source="RDS CreateDBParameterGroup"),
    "role": Rule(pattern=r"[A-Za-z0-9+=,.@_-]+", longest=64, source="IAM CreateRole, RoleName"),
    "repository": Rule(
        pattern=r"(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*",
        longest=256,
        source="ECR CreateRepository, repositoryName",
    ),
    "kafka cluster": Rule(pattern=r"[A-Za-z0-9][A-Za-z0-9-]*", longest=64, source="MSK CreateCluster, clusterName"),
    "kafka topic": Rule(pattern=r"[A-Za-z0-9._-]+", longest=249, source="Apache Kafka, Topic.validate"),
    "alias": Rule(pattern=r"alias/(?!aws/)[A-Za-z0-9/_-]+", longest=256, source="KMS CreateAlias, AliasName"),
    "log group": Rule(pattern=r"[A-Za-z0-9._/#-]+", longest=512, source="CloudWatch Logs CreateLogGroup"),
    "alarm": Rule(pattern=r"[ -~]+", longest=255, source="CloudWatch PutMetricAlarm, AlarmName"),
    "dashboard": Rule(pattern=r"[A-Za-z0-9_-]+", longest=255, source="CloudWatch PutDashboard, DashboardName"),
    "security group": Rule(
        pattern=r"(?!sg-)[A-Za-z0-9 ._:/()#,@+=&;{}!$*\[\]-]+", longest=255, source="EC2 CreateSecurityGroup, GroupName"
    ),
}
"""Kind of thing -> its rule, with the page of the API reference that has it."""


def name_problems(kind: str, name: str) -> list[str]:
    """What AWS would refuse a name for; empty when it would not.

    >>> name_problems("database", "1shop")[0]
    "database name '1shop' is not what RDS CreateDBInstance, DBInstanceIdentifier allows"
    """
    rule = RULES[kind]
    found = []
    if not re.fullmatch(rule.pattern, name):
        found.append(f"{kind} name {name!r} is not what {rule.source} allows")
    if len(name) > rule.longest:
        found.append(f"{kind} name {name!r} has {len(name)} characters, {rule.source} allows {rule.longest}")
    return found


def deployment_name_problems(options: Options) -> list[str]:
    """What AWS would refuse a deployment's name for: databases have the strictest rule."""
    found = name_problems("database", called(options, "database"))
    return [f"name is {options.name!r}, but on AWS {problem}; `pulumi config set name ...`" for problem in found]
