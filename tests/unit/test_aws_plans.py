"""The pure plans of target aws: subnets, names, permissions, queues, alarms, keys, and the script in the Job."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

import pytest

from infra.aws import messaging_plan, permissions
from infra.aws.alarm_plan import alarms, deadline_ms
from infra.aws.database import services_with_records, systems_with_records
from infra.aws.database_setup import CA_BUNDLE, login, setup
from infra.aws.naming import RULES, deployment_name_problems, name_problems, tags
from infra.aws.network_plan import INTRA, PRIVATE, PUBLIC, TIERS, interface_endpoints, network_plan
from infra.aws.permissions import Permission, Statement, Target, document, wildcards
from infra.config import options
from stages.catalogue import ASYNC, MESH, SYNC
from stages.kafka import kafka_topics, kafka_writes
from stages.messaging import messaging
from stages.model import Stage

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
RAW = {"target": "aws", "image": "repository:1", "domain": "shop.example.com", "name": "shop"}


def queues(*names: str) -> tuple[Target, ...]:
    return tuple(Target(kind="queue", name=name) for name in names)


@pytest.mark.parametrize("cluster", [*SYNC.clusters, *MESH.clusters], ids=lambda cluster: str(cluster.name))
def test_subnets_lie_in_their_network_and_apart_from_each_other(cluster: Any) -> None:
    plan = network_plan(cluster.network, ZONES, nat_per_zone=True)

    cut = [IPv4Network(subnet.cidr) for subnet in plan.subnets]
    assert all(one.subnet_of(IPv4Network(cluster.network)) for one in cut)
    assert not any(a.overlaps(b) for n, a in enumerate(cut) for b in cut[:n])
    assert {(s.tier, s.zone) for s in plan.subnets} == {(tier, zone) for tier in TIERS for zone in ZONES}


def test_a_plan_is_cut_as_the_picture_says() -> None:
    plan = network_plan("10.0.0.0/16", ZONES, nat_per_zone=True)

    assert {tier: [s.cidr for s in plan.tier(tier)] for tier in TIERS} == {
        PRIVATE: ["10.0.0.0/19", "10.0.32.0/19", "10.0.64.0/19"],
        PUBLIC: ["10.0.96.0/24", "10.0.97.0/24", "10.0.98.0/24"],
        INTRA: ["10.0.100.0/24", "10.0.101.0/24", "10.0.102.0/24"],
    }
    assert {s.tier: s.tags for s in plan.subnets} == {
        PUBLIC: (("kubernetes.io/role/elb", "1"),),
        PRIVATE: (("kubernetes.io/role/internal-elb", "1"),),
        INTRA: (),
    }


def test_a_zone_goes_out_by_its_own_gateway_unless_one_has_to_do() -> None:
    each = network_plan("10.0.0.0/16", ZONES, nat_per_zone=True)
    one = network_plan("10.0.0.0/16", ZONES, nat_per_zone=False)

    assert dict(each.nat) == {f"private-{z}": f"public-{z}" for z in "abc"}
    assert dict(one.nat) == {f"private-{z}": "public-a" for z in "abc"}
    assert one.gateways == ("public-a",)


def test_a_network_that_is_too_small_or_in_two_zones_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/21 is too small"):
        network_plan("10.0.0.0/21", ZONES, nat_per_zone=True)
    with pytest.raises(ValueError, match="in three zones, not in 2"):
        network_plan("10.0.0.0/16", ZONES[:2], nat_per_zone=True)


def test_endpoints_of_messages_come_with_messages() -> None:
    more = set(interface_endpoints(messages=True, wanted=True)) - set(interface_endpoints(messages=False, wanted=True))
    assert more == {"sqs", "sns"}
    assert interface_endpoints(messages=True, wanted=False) == ()


@pytest.mark.parametrize(
    ("kind", "name", "fits"),
    [
        ("database", "shop-commerce", True),
        ("database", "1shop-commerce", False),
        ("database", "my--shop", False),
        ("database", "a" * 64, False),
        ("queue", "shop-cache-events-dlq.fifo", True),
        ("queue", "shop.orders", False),
        ("repository", "shop/shop", True),
        ("repository", "my--shop/shop", False),
        ("alias", "alias/shop-data", True),
        ("alias", "alias/aws/sqs", False),
        ("security group", "sg-shop", False),
        ("role", "r" * 65, False),
    ],
)
def test_names_are_held_against_the_rules_of_aws(kind: str, name: str, fits: bool) -> None:
    assert (not name_problems(kind, name)) == fits


def test_a_deployment_whose_name_no_database_could_have_is_told_with_the_remedy() -> None:
    (problem,) = deployment_name_problems(options({**RAW, "stage": "sync", "name": "1shop"}, "s"))
    assert problem.startswith("name is '1shop', but on AWS database name '1shop-database'")
    assert problem.endswith("`pulumi config set name ...`")


def test_every_rule_names_its_source() -> None:
    assert all(rule.source for rule in RULES.values())


def test_tags_name_the_owner_that_the_model_has() -> None:
    shared = tags(options({**RAW, "stage": "sync"}, "s"), "payments")
    owned = tags(options({**RAW, "stage": "mesh"}, "s"), "payments")

    assert shared == {
        "stage": "sync",
        "owner": "platform",
        "system": "payments",
        "deployment": "shop",
        "managed-by": "pulumi",
    }
    assert (owned["owner"], owned["stage"]) == ("team-money", "mesh")


def test_orders_may_send_to_its_queues_publish_to_its_topic_and_receive_from_its_own() -> None:
    assert permissions.permissions(ASYNC, "orders") == (
        Permission(sid="Connect", actions=("rds-db:connect",), targets=(Target(kind="database user", name="orders"),)),
        Permission(
            sid="Receive",
            actions=("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
            targets=queues("orders-replies"),
        ),
        Permission(
            sid="Send",
            actions=("sqs:SendMessage",),
            targets=queues("inventory-commands", "payments-commands", "shipping-commands", "orders-replies-dlq"),
        ),
        Permission(sid="Publish", actions=("sns:Publish",), targets=(Target(kind="topic", name="orders-events.fifo"),)),
        Permission(
            sid="Encrypt",
            actions=("kms:Decrypt", "kms:GenerateDataKey"),
            targets=(Target(kind="key", name="messages"),),
        ),
    )


def test_a_service_that_only_answers_commands_replies_and_nothing_more() -> None:
    sends = [p.targets for p in permissions.permissions(ASYNC, "payments") if p.sid == "Send"]
    assert sends == [queues("orders-replies", "payments-commands-dlq")]


def test_who_keeps_and_sends_nothing_may_do_nothing() -> None:
    assert permissions.permissions(ASYNC, "storefront") == ()
    assert permissions.permissions(SYNC, "storefront") == ()


def test_without_messages_a_service_may_only_sign_in_to_its_database() -> None:
    assert [p.sid for p in permissions.permissions(SYNC, "orders")] == ["Connect"]


def test_every_queue_is_sent_to_by_somebody_and_read_by_its_consumer_alone() -> None:
    for queue in messaging(ASYNC).queues:
        readers = [
            s.name
            for s in ASYNC.services
            for p in permissions.permissions(ASYNC, s.name)
            if p.sid == "Receive" and queues(queue.name)[0] in p.targets
        ]
        assert readers == [queue.consumer]


def test_on_kafka_orders_reads_replies_and_writes_commands_events_and_its_dead_letters() -> None:
    found = {p.sid: [t.name for t in p.targets] for p in permissions.permissions(ASYNC, "orders", "kafka")}
    assert found == {
        "Connect": ["orders"],
        "Cluster": ["messages"],
        "Read": ["orders-replies"],
        "Group": ["orders"],
        "Write": [
            "inventory-commands",
            "payments-commands",
            "shipping-commands",
            "orders-events",
            "orders-dead-letters",
        ],
    }


def test_every_kafka_topic_is_written_by_somebody() -> None:
    written = {name for s in ASYNC.services for name in kafka_writes(ASYNC, s.name)}
    assert written == set(kafka_topics(ASYNC))


@pytest.mark.parametrize("stage", [SYNC, ASYNC, MESH], ids=lambda s: str(s.name))
@pytest.mark.parametrize("broker", ["sqs", "kafka"])
def test_no_service_may_do_more_than_is_named(stage: Stage, broker: str) -> None:
    for service in stage.services:
        granted = permissions.permissions(stage, service.name, broker)
        arns = {target: f"arn:{target.name}" for p in granted for target in p.targets}
        assert wildcards(document(*permissions.statements(granted, arns))) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (Statement(sid="A", actions=("sqs:*",), resources=("arn:q",)), "statement 'A' allows action 'sqs:*'"),
        (Statement(sid="B", actions=("*",), resources=("arn:q",)), "statement 'B' allows action '*'"),
        (Statement(sid="C", actions=("sqs:SendMessage",), resources=("*",)), "statement 'C' allows resource '*'"),
        (Statement(sid="D", actions=("a:B",), resources=("arn:shop-*",)), "statement 'D' allows resource 'arn:shop-*'"),
        (Statement(sid="E", actions=("a:B",), resources=("arn:*:x",)), "statement 'E' allows resource 'arn:*:x'"),
    ],
)
def test_a_statement_that_allows_too_much_is_caught(statement: Statement, said: str) -> None:
    assert wildcards(document(statement)) == [said]


def test_a_statement_without_action_or_resource_is_caught_and_a_text_is_a_list_of_one() -> None:
    assert len(wildcards({"Statement": [{"Sid": "N"}]})) == 2
    assert wildcards({"Statement": [{"Action": "sqs:*", "Resource": "arn:q"}]}) == [
        "statement '?' allows action 'sqs:*'"
    ]


def test_the_streams_of_a_log_group_may_be_named_by_a_star() -> None:
    statement = Statement(sid="Logs", actions=("logs:PutLogEvents",), resources=("arn:aws:logs:r:1:log-group:g:*",))
    assert wildcards(document(statement)) == []


def test_a_queue_is_made_as_the_model_has_it() -> None:
    queue = next(q for q in messaging(ASYNC).queues if q.name == "cache-events.fifo")

    assert messaging_plan.queue_args(queue, "shop-cache-events.fifo") == {
        "name": "shop-cache-events.fifo",
        "fifo_queue": True,
        "content_based_deduplication": False,
        "deduplication_scope": "messageGroup",
        "fifo_throughput_limit": "perMessageGroupId",
        "visibility_timeout_seconds": 5,
        "message_retention_seconds": 345_600,
        "receive_wait_time_seconds": 20,
    }
    assert messaging_plan.dead_letter_args(queue, "d.fifo")["fifo_queue"] is True
    assert json.loads(messaging_plan.redrive("arn:d", queue)) == {"deadLetterTargetArn": "arn:d", "maxReceiveCount": 5}


def test_dead_letters_are_kept_longer_than_messages() -> None:
    """SQS counts from the first sending: with equal times a letter that died late would be gone at once."""
    assert messaging_plan.DEAD_RETENTION_S > messaging_plan.RETENTION_S


def test_only_topics_that_feed_a_queue_may_send_to_it() -> None:
    needed = messaging(ASYNC)
    fed = {queue.name: messaging_plan.feeding(needed, queue) for queue in needed.queues}

    assert fed["email-events"] == ("accounts-events.fifo", "orders-events.fifo")
    assert fed["payments-commands"] == ()
    assert json.loads(messaging_plan.queue_policy("arn:q", ["arn:t"]))["Statement"] == [
        {
            "Sid": "SubscribedTopics",
            "Effect": "Allow",
            "Principal": {"Service": ["sns.amazonaws.com"]},
            "Action": ["sqs:SendMessage"],
            "Resource": ["arn:q"],
            "Condition": {"ArnEquals": {"aws:SourceArn": ["arn:t"]}},
        }
    ]


def test_users_answers_are_held_against_the_loosest_latency_and_the_strictest_share() -> None:
    latency, availability = alarms(SYNC)

    assert (latency.name, latency.threshold) == ("storefront-latency", 1.5)
    assert latency.metrics[0][1].statistic == "p99"
    assert (availability.name, availability.threshold) == ("storefront-availability", 1.0)
    assert {name for name, _ in availability.metrics} == {"all", "bad", "none"}


def test_every_queue_has_an_alarm_on_its_age_and_one_on_its_dead_letters() -> None:
    found = {alarm.name: alarm.threshold for alarm in alarms(ASYNC)} | {}
    for queue in messaging(ASYNC).queues:
        plain = queue.name.removesuffix(".fifo")
        assert found[f"{plain}-age"] == 3
        assert found[f"{plain}-dlq-depth"] == 0


def test_one_dead_letter_is_enough_to_wake_somebody() -> None:
    dead = [a for broker in ("sqs", "kafka") for a in alarms(ASYNC, broker) if a.name.endswith("-depth")]
    assert len(dead) == 14
    assert {(a.threshold, a.periods, a.bad_periods) for a in dead} == {(0, 1, 1)}


def test_who_waits_for_replies_has_the_deadline_of_what_was_ordered() -> None:
    assert deadline_ms(ASYNC, "orders") == 3000
    assert deadline_ms(SYNC, "orders") is None


def test_every_system_with_records_has_a_server_and_every_service_of_it_a_database() -> None:
    found = {system: services_with_records(SYNC, system) for system in systems_with_records(SYNC)}
    assert found == {
        "commerce": ("accounts", "orders"),
        "fulfilment": ("inventory", "shipping"),
        "payments": ("payments",),
        "engagement": ("email", "analytics", "cache"),
    }


class Server:
    """A PostgreSQL server as far as the script asks it."""

    def __init__(self, roles: tuple[str, ...] = (), databases: tuple[str, ...] = ()) -> None:
        self.known = {"pg_roles": roles, "pg_database": databases}
        self.told: list[str] = []

    def __call__(self, statement: str) -> list[tuple[str]]:
        for table, names in self.known.items():
            if table in statement:
                return [(name,) for name in names]
        self.told.append(statement)
        return []


def test_the_job_makes_a_user_without_a_password_and_a_database_of_its_own() -> None:
    server = Server()
    setup(["orders"], server)
    assert server.told == [
        'CREATE ROLE "orders" LOGIN',
        'GRANT rds_iam TO "orders"',
        'GRANT "orders" TO CURRENT_USER',
        'CREATE DATABASE "orders" OWNER "orders"',
        'REVOKE CONNECT ON DATABASE "orders" FROM PUBLIC',
    ]


def test_the_job_makes_nothing_again() -> None:
    server = Server(roles=("orders",), databases=("orders",))
    setup(["orders"], server)
    assert not [told for told in server.told if told.startswith("CREATE")]


def test_the_job_signs_in_with_the_secret_that_rds_keeps_and_never_in_the_clear() -> None:
    plan = {"host": "h", "port": 5432}
    found = login(plan, '{"username": "master", "password": "p"}')
    assert (found["user"], found["password"]) == ("master", "p")
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", CA_BUNDLE)
