"""The programs of stages sync and async on AWS, as rows: what they make, what a step changes, what nobody may do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pulumi
import pytest

from infra.aws.naming import name_problems
from infra.aws.permissions import wildcards
from infra.aws.program import deploy
from infra.config import options
from infra.k8s.environment import COLLECTOR
from infra.k8s.testing import manifest_problems
from infra.program import main
from infra.testing_pulumi import ACCOUNT, CERTIFICATE, PROGRAMS, Recorded, Row, of_type, record, recorded, row_of
from stages.catalogue import STAGES
from stages.messaging import messaging
from workloads.settings import Settings

# the SDK warns of one of its own classes when it is loaded, which nobody uses
pytestmark = pytest.mark.filterwarnings("ignore:aws.ec2/encryptioncontrol:DeprecationWarning")

GRAPHS = {"sync": "aws-sync", "async": "aws-async-sqs", "kafka": "aws-async-kafka", "trial": "aws-async-sqs-trial"}
"""Stack of these tests -> program."""
CONFIG = PROGRAMS["aws-sync"].config
QUEUE, TOPIC, KEY = "aws:sqs/queue:Queue", "aws:sns/topic:Topic", "aws:kms/key:Key"
POLICY, DEPLOYMENT = "aws:iam/rolePolicy:RolePolicy", "kubernetes:apps/v1:Deployment"


@cache
def graph(name: str, preview: bool = False) -> Recorded:
    """What a stack would create. The trial's asks for a certificate and shuts its API."""
    if name != "trial":
        return recorded(GRAPHS[name], preview=preview)
    raw = {key: value for key, value in PROGRAMS[GRAPHS[name]].config.items() if key != "certificate"}
    found = options({**raw, "api_cidrs": ["none"]}, "shop")

    def program() -> None:
        for output, value in deploy(found, STAGES[found.stage]).items():
            pulumi.export(output, value)

    return record(program, stack="shop", preview=preview)


def arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:us-east-1:{ACCOUNT}:{name}"


def policy(recorded: Recorded, service: str) -> dict[str, Any]:
    text = row_of(recorded.rows, POLICY, service).inputs["policy"]
    return {part["Sid"]: (part["Action"], part["Resource"]) for part in json.loads(text)["Statement"]}


def without_stage(value: Any) -> Any:
    """A value without tags, labels and variables that name the stage."""
    if isinstance(value, dict):
        return {key: without_stage(each) for key, each in value.items() if key != "stage"}
    if isinstance(value, list):
        return [
            without_stage(each) for each in value if not (isinstance(each, dict) and each.get("name") == "SHOP_STAGE")
        ]
    return value


def inputs(recorded: Recorded) -> dict[tuple[str, str], Any]:
    return {(row.type, row.name): without_stage(row.inputs) for row in recorded.rows}


# what stands


def test_what_a_stack_of_sync_consists_of() -> None:
    found = Counter(row.type for row in graph("sync").rows if row.type.startswith("aws:"))
    assert found == {
        "aws:cloudwatch/dashboard:Dashboard": 1,
        "aws:cloudwatch/logGroup:LogGroup": 11,
        "aws:cloudwatch/metricAlarm:MetricAlarm": 2,
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": 1,
        "aws:ec2/eip:Eip": 3,
        "aws:ec2/flowLog:FlowLog": 1,
        "aws:ec2/internetGateway:InternetGateway": 1,
        "aws:ec2/natGateway:NatGateway": 3,
        "aws:ec2/route:Route": 4,
        "aws:ec2/routeTable:RouteTable": 5,
        "aws:ec2/routeTableAssociation:RouteTableAssociation": 9,
        "aws:ec2/securityGroup:SecurityGroup": 5,
        "aws:ec2/subnet:Subnet": 9,
        "aws:ec2/vpc:Vpc": 1,
        "aws:ec2/vpcEndpoint:VpcEndpoint": 6,
        "aws:ecr/lifecyclePolicy:LifecyclePolicy": 1,
        "aws:ecr/repository:Repository": 1,
        "aws:eks/addon:Addon": 1,
        "aws:eks/cluster:Cluster": 1,
        "aws:eks/podIdentityAssociation:PodIdentityAssociation": 13,
        "aws:iam/role:Role": 16,
        "aws:iam/rolePolicy:RolePolicy": 15,
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment": 7,
        "aws:kms/alias:Alias": 2,
        "aws:kms/key:Key": 2,
        "aws:rds/instance:Instance": 4,
        "aws:rds/parameterGroup:ParameterGroup": 4,
        "aws:rds/subnetGroup:SubnetGroup": 4,
        "aws:sns/topic:Topic": 1,
    }


def test_the_cluster_is_auto_mode_with_all_that_belongs_to_it() -> None:
    found = row_of(graph("sync").rows, "aws:eks/cluster:Cluster", "shop").inputs
    names = {key: found[key] for key in found if key not in ("roleArn", "tags", "encryptionConfig")}
    assert names == {
        "name": "shop-shop",
        "version": "1.35",
        "bootstrapSelfManagedAddons": False,
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
        "computeConfig": {
            "enabled": True,
            "nodePools": ["general-purpose", "system"],
            "nodeRoleArn": f"arn:aws:iam::{ACCOUNT}:role/shop-shop-node",
        },
        "kubernetesNetworkConfig": {"ipFamily": "ipv4", "elasticLoadBalancing": {"enabled": True}},
        "storageConfig": {"blockStorage": {"enabled": True}},
        "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "upgradePolicy": {"supportType": "STANDARD"},
        "zonalShiftConfig": {"enabled": True},
        "deletionProtection": True,
        "vpcConfig": {
            "subnetIds": [f"shop-private-{zone}-id" for zone in "abc"],
            "endpointPrivateAccess": True,
            "endpointPublicAccess": True,
            "publicAccessCidrs": ["0.0.0.0/0"],
        },
    }
    assert found["encryptionConfig"]["resources"] == ["secrets"]


def test_the_kubernetes_api_can_be_closed_to_the_outside() -> None:
    found = row_of(graph("trial").rows, "aws:eks/cluster:Cluster", "shop").inputs["vpcConfig"]
    assert (found["endpointPublicAccess"], found["endpointPrivateAccess"]) == (False, True)
    assert "publicAccessCidrs" not in found


def test_a_server_is_encrypted_private_doubled_kept_and_signed_in_to_by_role() -> None:
    row = row_of(graph("sync").rows, "aws:rds/instance:Instance", "commerce")
    key = row_of(graph("sync").rows, "aws:rds/instance:Instance", "payments").inputs["kmsKeyId"]
    wanted = {
        "engine": "postgres",
        "storageEncrypted": True,
        "kmsKeyId": key,
        "multiAz": True,
        "publiclyAccessible": False,
        "iamDatabaseAuthenticationEnabled": True,
        "manageMasterUserPassword": True,
        "deletionProtection": True,
        "performanceInsightsEnabled": True,
        "backupRetentionPeriod": 14,
        "vpcSecurityGroupIds": ["commerce-database-id"],
        "dbSubnetGroupName": "shop-commerce",
        "skipFinalSnapshot": False,
    }
    assert row.protect
    assert "password" not in row.inputs
    assert {name: row.inputs[name] for name in wanted} == wanted


def test_a_production_can_become_a_trial_to_be_taken_down() -> None:
    """RDS refuses less storage than there is, and a limit below it."""
    before = row_of(graph("async").rows, "aws:rds/instance:Instance", "commerce")
    after = row_of(graph("trial").rows, "aws:rds/instance:Instance", "commerce")
    assert after.ignore_changes == ("allocatedStorage",)
    assert after.inputs["maxAllocatedStorage"] >= before.inputs["maxAllocatedStorage"]
    assert after.inputs["identifier"] == before.inputs["identifier"]


def test_databases_hear_the_cluster_only_and_say_nothing_themselves() -> None:
    group = row_of(graph("sync").rows, "aws:ec2/securityGroup:SecurityGroup", "commerce-database").inputs
    (rule,) = group["ingress"]
    assert (rule["fromPort"], rule["toPort"], rule["securityGroups"]) == (5432, 5432, ["sg-shop-shop"])
    assert "cidrBlocks" not in rule
    assert group["egress"] == []


def test_subnets_of_databases_have_no_way_out() -> None:
    found = graph("sync").rows
    assert "shop-intra" not in of_type(found, "aws:ec2/route:Route")
    tables = of_type(found, "aws:ec2/routeTableAssociation:RouteTableAssociation")
    assert {tables[f"shop-intra-{zone}"]["routeTableId"] for zone in "abc"} == {"shop-intra-id"}


def test_a_trial_has_one_way_out_no_standby_and_nothing_that_outlives_it() -> None:
    found = graph("trial").rows
    server = row_of(found, "aws:rds/instance:Instance", "commerce").inputs
    assert list(of_type(found, "aws:ec2/natGateway:NatGateway")) == ["shop-public-a"]
    assert list(of_type(found, "aws:ec2/vpcEndpoint:VpcEndpoint")) == ["shop-s3"]
    assert (server["multiAz"], server["deletionProtection"], server["skipFinalSnapshot"]) == (False, False, True)
    assert not any(row.protect for row in found)


def test_an_image_once_pushed_stays_what_it_is() -> None:
    found = row_of(graph("sync").rows, "aws:ecr/repository:Repository", "shop").inputs
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["encryptionConfigurations"][0]["encryptionType"] == "KMS"


# the step from sync to async


@pytest.mark.parametrize("step", ["async", "kafka"])
def test_a_step_takes_nothing_away_and_replaces_nothing(step: str) -> None:
    before, after = inputs(graph("sync")), inputs(graph(step))
    changed = {key for key in before if before[key] != after.get(key)}

    assert before.keys() <= after.keys()
    assert {type_ for type_, _ in changed} <= {
        "aws:cloudwatch/dashboard:Dashboard",
        POLICY,
        DEPLOYMENT,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        *([KEY] if step == "kafka" else []),  # it encrypts one log group more
    }


def test_async_adds_what_carries_messages_and_nothing_else() -> None:
    added = inputs(graph("async")).keys() - inputs(graph("sync")).keys()
    assert Counter(type_ for type_, _ in added) == {
        QUEUE: 14,
        TOPIC: 2,
        KEY: 1,
        "aws:kms/alias:Alias": 1,
        "aws:sns/topicSubscription:TopicSubscription": 6,
        "aws:sqs/queuePolicy:QueuePolicy": 3,
        "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy": 7,
        "aws:cloudwatch/metricAlarm:MetricAlarm": 14,
        "aws:ec2/vpcEndpoint:VpcEndpoint": 2,
        "stages:aws:Key": 1,
        "stages:aws:Messages": 1,
    }


def test_the_step_to_async_can_be_taken_back() -> None:
    """What is protected cannot be deleted."""
    added = inputs(graph("async")).keys() - inputs(graph("sync")).keys()
    assert not [row.name for row in graph("async").rows if row.protect and (row.type, row.name) in added]
    assert row_of(graph("async").rows, KEY, "data").protect


def test_async_by_kafka_adds_a_cluster_and_its_topics() -> None:
    added = inputs(graph("kafka")).keys() - inputs(graph("sync")).keys()
    assert Counter(type_ for type_, _ in added) == {
        "aws:msk/cluster:Cluster": 1,
        "aws:msk/configuration:Configuration": 1,
        "aws:msk/topic:Topic": 13,
        KEY: 1,
        "aws:kms/alias:Alias": 1,
        "aws:cloudwatch/logGroup:LogGroup": 1,
        "aws:cloudwatch/metricAlarm:MetricAlarm": 17,
        "aws:ec2/securityGroup:SecurityGroup": 1,
        "stages:aws:Key": 1,
        "stages:aws:Kafka": 1,
    }


def test_of_a_service_a_step_changes_only_what_it_is_told() -> None:
    before, after = inputs(graph("sync")), inputs(graph("async"))
    for key in before:
        if key[0] == DEPLOYMENT and before[key] != after[key]:
            assert told(before[key]).keys() == told(after[key]).keys()
            changed = {name for name, value in told(before[key]).items() if told(after[key])[name] != value}
            assert changed <= {"SHOP_BROKER", "SHOP_PEERS"}
            assert untold(before[key]) == untold(after[key])


def told(deployment: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container(deployment)["env"]}


def untold(deployment: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(deployment))
    container(copied)["env"] = []
    return copied


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


# messages


def test_queues_and_topics_are_exactly_the_models() -> None:
    needed, found = messaging(STAGES["async"]), graph("async").rows
    queues = of_type(found, QUEUE)
    assert queues.keys() == {name for q in needed.queues for name in (q.name, q.dead_letters)}
    for queue in needed.queues:
        made, dead = queues[queue.name], queues[queue.dead_letters]
        assert made["name"] == f"shop-{queue.name}"
        assert made["visibilityTimeoutSeconds"] == queue.visibility_timeout_s
        assert made.get("fifoQueue", False) == dead.get("fifoQueue", False) == queue.fifo
        assert json.loads(made["redrivePolicy"]) == {
            "deadLetterTargetArn": arn("sqs", f"shop-{queue.dead_letters}"),
            "maxReceiveCount": queue.max_receives,
        }
    assert of_type(found, TOPIC).keys() == {"alarms", *(t.name for t in needed.topics)}


def test_a_dead_letter_queue_takes_letters_of_its_queue_alone() -> None:
    for queue in messaging(STAGES["async"]).queues:
        row = row_of(graph("async").rows, "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy", queue.dead_letters)
        assert json.loads(row.inputs["redriveAllowPolicy"]) == {
            "redrivePermission": "byQueue",
            "sourceQueueArns": [arn("sqs", f"shop-{queue.name}")],
        }


def test_a_subscription_passes_the_messages_that_the_model_says_as_they_were_sent() -> None:
    for wanted in messaging(STAGES["async"]).subscriptions:
        row = row_of(graph("async").rows, "aws:sns/topicSubscription:TopicSubscription", wanted.name)
        assert row.inputs == {
            "topic": arn("sns", f"shop-{wanted.topic}"),
            "protocol": "sqs",
            "endpoint": arn("sqs", f"shop-{wanted.queue}"),
            "rawMessageDelivery": True,
            "filterPolicy": json.dumps({"type": list(wanted.messages)}),
            "filterPolicyScope": "MessageAttributes",
        }


def test_queues_topics_and_their_key_fit_together() -> None:
    found = graph("async").rows
    key = arn("kms", "key/messages")
    assert {q["kmsMasterKeyId"] for q in of_type(found, QUEUE).values()} == {key}
    statements = json.loads(row_of(found, KEY, "messages").inputs["policy"])["Statement"]
    (topics,) = (part for part in statements if part["Sid"] == "Topics")
    assert topics["Principal"] == {"Service": ["sns.amazonaws.com"]}
    assert topics["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert topics["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_kafka_is_express_in_three_zones_by_role_over_tls() -> None:
    found = row_of(graph("kafka").rows, "aws:msk/cluster:Cluster", "kafka").inputs
    nodes = found["brokerNodeGroupInfo"]
    assert (found["numberOfBrokerNodes"], nodes["instanceType"]) == (3, "express.m7g.large")
    assert nodes["clientSubnets"] == [f"shop-intra-{zone}-id" for zone in "abc"]
    assert "storageInfo" not in nodes  # Express brokers refuse it
    assert found["clientAuthentication"] == {"sasl": {"iam": True}, "unauthenticated": False}
    assert found["encryptionInfo"]["encryptionInTransit"] == {"clientBroker": "TLS", "inCluster": True}


# who may do what


def test_the_policy_of_orders_names_its_queues_topic_user_and_key_and_nothing_else() -> None:
    sqs = "sqs"
    assert policy(graph("async"), "orders") == {
        "Connect": (["rds-db:connect"], [arn("rds-db", "dbuser:db-shop-commerce/orders")]),
        "Receive": (
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
            [arn(sqs, "shop-orders-replies")],
        ),
        "Send": (
            ["sqs:SendMessage"],
            [
                arn(sqs, "shop-inventory-commands"),
                arn(sqs, "shop-payments-commands"),
                arn(sqs, "shop-shipping-commands"),
                arn(sqs, "shop-orders-replies-dlq"),
            ],
        ),
        "Publish": (["sns:Publish"], [arn("sns", "shop-orders-events.fifo")]),
        "Encrypt": (["kms:Decrypt", "kms:GenerateDataKey"], [arn("kms", "key/messages")]),
    }


def test_on_kafka_a_policy_names_topics_and_groups_of_the_cluster() -> None:
    assert policy(graph("kafka"), "payments")["Group"] == (
        ["kafka-cluster:AlterGroup", "kafka-cluster:DescribeGroup"],
        [arn("kafka", "group/shop-kafka/uuid/payments")],
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_no_role_may_do_more_than_is_named(name: str) -> None:
    for service, row in of_type(graph(name).rows, POLICY).items():
        traces = ["statement 'Traces' allows resource '*'"] if service == COLLECTOR else []  # traces have no ARN
        assert wildcards(json.loads(row["policy"])) == traces, service


@pytest.mark.parametrize("name", GRAPHS)
def test_the_collector_may_send_traces_and_metrics_to_its_log_group(name: str) -> None:
    group = arn("cloudwatch", "log-group:/stages/shop-shop/metrics")  # as the mocks name what the module makes
    assert policy(graph(name), COLLECTOR) == {
        "Traces": (["xray:PutTraceSegments"], ["*"]),
        "Metrics": (["logs:CreateLogStream", "logs:PutLogEvents"], [group, f"{group}:*"]),
    }
    collector = row_of(graph(name).rows, DEPLOYMENT, f"shop/{COLLECTOR}-deployment")
    assert any(f"PodIdentityAssociation::{COLLECTOR}" in urn for urn in collector.dependencies)


@pytest.mark.parametrize("name", GRAPHS)
def test_no_key_policy_allows_an_action_by_a_star(name: str) -> None:
    for key in of_type(graph(name).rows, KEY).values():
        for part in json.loads(key["policy"])["Statement"]:
            assert not [action for action in part["Action"] if "*" in action]


def test_the_key_of_logs_is_for_the_log_groups_of_the_stack() -> None:
    for name in GRAPHS:
        statements = json.loads(row_of(graph(name).rows, KEY, "platform").inputs["policy"])["Statement"]
        (logs,) = (part for part in statements if part["Sid"] == "Logs")
        groups = [group["name"] for group in of_type(graph(name).rows, "aws:cloudwatch/logGroup:LogGroup").values()]
        allowed = logs["Condition"]["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]
        assert sorted(allowed) == sorted(arn("logs", f"log-group:{group}") for group in groups)


def test_roles_are_for_pods_of_one_service_account() -> None:
    found = of_type(graph("async").rows, "aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert {name: (each["namespace"], each["serviceAccount"]) for name, each in found.items()} == {
        name: ("shop", name) for name in found
    }
    assert "storefront" not in found
    accounts = {name.partition("/")[2] for name in of_type(graph("async").rows, "kubernetes:core/v1:ServiceAccount")}
    assert {f"{name}-serviceaccount" for name in found} <= accounts


# inside the cluster


def test_services_find_their_queues_as_the_cloud_named_them() -> None:
    row = row_of(graph("async").rows, DEPLOYMENT, "shop/orders-deployment")
    environment = {name: value for name, value in told(row.inputs).items() if value is not None}
    broker = Settings.from_env({**environment, "SHOP_DATABASE_URL": "x"}).broker
    assert broker is not None
    assert broker.inbound is not None
    base = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/shop-"
    assert (broker.inbound.url, broker.inbound.dead_letters_url) == (
        f"{base}orders-replies",
        f"{base}orders-replies-dlq",
    )
    assert broker.queues == {name: f"{base}{name}-commands" for name in ("inventory", "payments", "shipping")}
    assert broker.topic == arn("sns", "shop-orders-events.fifo")
    assert (broker.endpoint, broker.signed) == (None, True)


def test_a_service_finds_a_database_url_without_a_password() -> None:
    found = of_type(graph("sync").rows, "kubernetes:core/v1:Secret")
    assert found["shop/orders-database-secret"]["stringData"] == {
        "url": "postgresql+psycopg://orders@shop-commerce.mock.us-east-1.rds.amazonaws.com:5432/orders"
        "?sslmode=verify-full&sslrootcert=/etc/ssl/rds/global-bundle.pem"
    }
    assert len(found) == 8


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (DEPLOYMENT, "shop/orders-deployment"),
        ("kubernetes:core/v1:Service", "shop/orders-service"),  # Pulumi waits for its pods, but not for ever
        ("kubernetes:networking.k8s.io/v1:Ingress", "shop/storefront-ingress"),
    ],
)
def test_pods_and_who_waits_for_them_wait_for_roles_databases_and_messages(kind: str, name: str) -> None:
    row = row_of(graph("async").rows, kind, name)
    for needed in (
        "PodIdentityAssociation::orders",
        "Job::shop/commerce-database-setup",
        "Secret::shop/orders-database-secret",
        "TopicSubscription::orders-events-to-cache-events",
    ):
        assert any(needed in urn for urn in row.dependencies), needed


def test_the_job_of_a_server_may_read_one_password() -> None:
    assert policy(graph("sync"), "payments-database-setup") == {
        "ReadPassword": (["secretsmanager:GetSecretValue"], [arn("secretsmanager", "secret:shop-payments")]),
        "DecryptPassword": (["kms:Decrypt"], [arn("kms", "key/data")]),
    }
    plan = of_type(graph("sync").rows, "kubernetes:core/v1:ConfigMap")["shop/payments-database-setup-configmap"]
    assert json.loads(plan["data"]["plan.json"])["services"] == ["payments"]


def test_users_come_in_by_tls_from_load_balancers_alone() -> None:
    found = graph("sync").rows
    params = row_of(found, "kubernetes:eks.amazonaws.com/v1:IngressClassParams", "alb-ingressclassparams").inputs
    ingress = row_of(found, "kubernetes:networking.k8s.io/v1:Ingress", "shop/storefront-ingress").inputs
    assert params["spec"]["certificateARNs"] == [CERTIFICATE]
    assert ingress["spec"]["ingressClassName"] == "alb"
    assert ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/ssl-redirect"] == "443"
    walls = of_type(found, "kubernetes:networking.k8s.io/v1:NetworkPolicy")["shop/storefront-networkpolicy"]
    blocks = [peer["ipBlock"]["cidr"] for peer in walls["spec"]["ingress"][0]["from"]]
    assert blocks == ["10.0.96.0/24", "10.0.97.0/24", "10.0.98.0/24"]


def test_without_a_certificate_one_is_asked_for_and_its_proof_is_an_output() -> None:
    found = graph("trial")
    assert of_type(found.rows, "aws:acm/certificate:Certificate")["entry"]["domainName"] == "shop.example.com"
    assert found.outputs["certificate_proof"][0]["type"] == "CNAME"
    assert not of_type(graph("sync").rows, "aws:acm/certificate:Certificate")


@pytest.mark.parametrize("name", GRAPHS)
def test_a_cluster_would_take_every_object(name: str) -> None:
    own = "kubernetes:eks.amazonaws.com"  # no schema of it is published
    for row in graph(name).rows:
        if row.type.startswith("kubernetes:") and not row.type.startswith(own):
            assert manifest_problems(row.inputs) == []


# the whole


@pytest.mark.parametrize("name", GRAPHS)
def test_everything_has_a_name_that_aws_takes(name: str) -> None:
    for row in graph(name).rows:
        for kind, called in _named(row):
            assert name_problems(kind, called) == []


def _named(row: Row) -> Iterator[tuple[str, str]]:
    kinds = {
        QUEUE: ("queue", "name"),
        TOPIC: ("topic", "name"),
        "aws:eks/cluster:Cluster": ("cluster", "name"),
        "aws:rds/instance:Instance": ("database", "identifier"),
        "aws:rds/subnetGroup:SubnetGroup": ("subnet group", "name"),
        "aws:rds/parameterGroup:ParameterGroup": ("parameter group", "name"),
        "aws:iam/role:Role": ("role", "name"),
        "aws:ecr/repository:Repository": ("repository", "name"),
        "aws:msk/cluster:Cluster": ("kafka cluster", "clusterName"),
        "aws:msk/topic:Topic": ("kafka topic", "name"),
        "aws:kms/alias:Alias": ("alias", "name"),
        "aws:cloudwatch/logGroup:LogGroup": ("log group", "name"),
        "aws:cloudwatch/metricAlarm:MetricAlarm": ("alarm", "name"),
        "aws:cloudwatch/dashboard:Dashboard": ("dashboard", "dashboardName"),
        "aws:ec2/securityGroup:SecurityGroup": ("security group", "name"),
    }
    if row.type in kinds:
        kind, key = kinds[row.type]
        yield kind, row.inputs[key]


@pytest.mark.parametrize("name", GRAPHS)
def test_everything_that_takes_tags_says_whose_it_is(name: str) -> None:
    tagged = [row for row in graph(name).rows if "tags" in row.inputs]
    assert len(tagged) > 80
    for row in tagged:
        assert {"stage", "owner", "system", "deployment", "managed-by"} <= row.inputs["tags"].keys(), row.name


def test_a_preview_knows_the_same_graph_and_asks_nobody() -> None:
    """Without an account nothing can be asked; the one question there is waits for a load balancer's address."""
    real, preview = graph("async"), graph("async", preview=True)
    assert [(row.type, row.name) for row in preview.rows] == [(row.type, row.name) for row in real.rows]
    assert preview.calls == []


@pytest.mark.parametrize("name", GRAPHS)
def test_every_resource_of_aws_goes_by_the_one_provider_and_lies_in_a_component(name: str) -> None:
    bare = {"aws:acm/certificate:Certificate", "aws:acm/certificateValidation:CertificateValidation"}
    for row in graph(name).rows:
        if row.type.startswith("aws:"):
            assert "pulumi:providers:aws::aws" in row.provider, row.name
            assert "stages:aws:" in row.parent or row.type in bare, row.name


def test_alarms_ring_at_the_topic_and_watch_what_users_see() -> None:
    found = row_of(graph("async").rows, "aws:cloudwatch/metricAlarm:MetricAlarm", "storefront-latency").inputs
    assert (found["extendedStatistic"], found["threshold"], found["period"]) == ("p99", 1.5, 60)
    assert found["dimensions"] == {"LoadBalancer": "app/k8s-storefront-1f2e3d4c5b/0123456789abcdef"}
    assert found["alarmActions"] == found["okActions"] == [arn("sns", "shop-alarms")]


def test_the_age_alarm_names_the_queue_as_the_cloud_does() -> None:
    found = of_type(graph("async").rows, "aws:cloudwatch/metricAlarm:MetricAlarm")
    assert found["cache-events-age"]["dimensions"] == {"QueueName": "shop-cache-events.fifo"}
    assert found["cache-events-dlq-depth"]["dimensions"] == {"QueueName": "shop-cache-events-dlq.fifo"}


def test_what_people_ask_a_stack_for_is_an_output() -> None:
    assert graph("sync").outputs.keys() == {
        "stage",
        "cluster",
        "cluster_endpoint",
        "kubeconfig",
        "endpoints",
        "load_balancer",
        "repository",
        "databases",
        "dashboard",
        "alarms",
    }
    assert graph("async").outputs.keys() - graph("sync").outputs.keys() == {"queues", "topics"}
    assert graph("kafka").outputs.keys() - graph("sync").outputs.keys() == {"kafka"}
    assert graph("sync").outputs["endpoints"] == {"users": "https://shop.example.com"}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_input_is_one_that_the_sdk_knows(name: str) -> None:
    """The SDK turns the names that it knows into the provider's; a misspelt one would stay as it is."""
    for row in graph(name).rows:
        if row.type.startswith("aws:"):
            assert not [path for path in paths(row.inputs) if "_" in path], row.name


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Every key in a value, but those that are names of the user's: tags, dimensions."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield f"{path}.{key}"
            if key not in ("tags", "dimensions"):
                yield from paths(each, f"{path}.{key}")
    if isinstance(value, list):
        for each in value:
            yield from paths(each, path)


def test_the_project_with_a_stacks_configuration_makes_the_same() -> None:
    raw = PROGRAMS[GRAPHS["async"]].config
    found = record(main, {f"staged-decoupling:{key}": value for key, value in raw.items()}, "aws-async")
    assert {(row.type, row.name) for row in found.rows} == {(row.type, row.name) for row in graph("async").rows}
    assert found.outputs.keys() == graph("async").outputs.keys()


def test_what_is_missing_is_told_at_once_before_anything_is_made() -> None:
    with pytest.raises(pulumi.RunError) as raised:
        record(main, {"staged-decoupling:stage": "sync", "staged-decoupling:target": "aws"}, "aws-sync")
    assert "image is not set" in str(raised.value)
    assert "domain is not set" in str(raised.value)


def test_components_say_what_they_made() -> None:
    components = {row.type for row in graph("async").rows if not row.custom}
    said = {urn.split("::")[2].rpartition("$")[2] for urn in graph("async").component_outputs}
    assert components == said


def test_a_name_that_a_database_cannot_have_is_refused_before_anything_is_made() -> None:
    found = options({**CONFIG, "stage": "sync", "name": "1shop"}, "s")
    with pytest.raises(pulumi.RunError, match="name is '1shop', but on AWS"):
        record(lambda: deploy(found, STAGES["sync"]))
