"""Every rule takes a good row set and refuses a broken one; nothing unknown, secret or odd makes one fail."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.policy import RULES, UNKNOWN, Finding, Row, Rule, Scope, judge, plain
from infra.policy.permissions import WITHOUT_RESOURCE

Inputs = dict[str, Any]
Break = Callable[[dict[str, Row]], None]

TAGS = {"owner": "team-money", "stage": "async"}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    ],
}


def _allow(actions: object, resource: object, **more: object) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _deployment(name: str, namespace: str, env: list[Inputs]) -> Inputs:
    probe = {"httpGet": {"path": "/health", "port": 8080}}
    container = {"name": name, "env": env, "readinessProbe": probe, "livenessProbe": probe}
    labels = {"app.kubernetes.io/name": name, "system": namespace}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    }


def good() -> dict[str, Row]:
    """A stack that breaks no rule, with something for each of them; by name."""
    arn = "arn:aws:sqs:us-east-1:123456789012"
    host = "inventory.fulfilment.svc.cluster.local"
    taggable: list[tuple[str, str, Inputs]] = [
        (
            "aws:sqs/queue:Queue",
            "orders",
            {
                "name": "shop-orders",
                "sqsManagedSseEnabled": True,
                "redrivePolicy": json.dumps({"deadLetterTargetArn": f"{arn}:shop-orders-dlq", "maxReceiveCount": 5}),
            },
        ),
        (
            "aws:sqs/queue:Queue",
            "orders-dlq",
            {
                "name": "shop-orders-dlq",
                "kmsMasterKeyId": "alias/shop",
                "redriveAllowPolicy": json.dumps({"redrivePermission": "byQueue"}),
            },
        ),
        ("aws:sns/topic:Topic", "events", {"kmsMasterKeyId": "alias/shop"}),
        ("aws:rds/instance:Instance", "db", {"storageEncrypted": True, "publiclyAccessible": False}),
        (
            "aws:eks/cluster:Cluster",
            "eks",
            {"encryptionConfig": {"provider": {"keyArn": "arn:aws:kms:::key/k"}, "resources": ["secrets"]}},
        ),
        ("aws:ecr/repository:Repository", "image", {"encryptionConfigurations": [{"encryptionType": "KMS"}]}),
        (
            "aws:msk/cluster:Cluster",
            "kafka",
            {
                "encryptionInfo": {
                    "encryptionAtRestKmsKeyArn": "arn:aws:kms:::key/k",
                    "encryptionInTransit": {"inCluster": True, "clientBroker": "TLS"},
                }
            },
        ),
        ("aws:cloudwatch/logGroup:LogGroup", "logs", {"kmsKeyId": "arn:aws:kms:::key/k"}),
        ("aws:s3/bucket:Bucket", "reports", {"bucket": "shop-reports"}),
        (
            "aws:ec2/securityGroup:SecurityGroup",
            "edge",
            {"ingress": [{"cidrBlocks": ["0.0.0.0/0"], "fromPort": 443, "toPort": 443, "protocol": "tcp"}]},
        ),
        (
            "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
            "db-in",
            {"cidrIpv4": "10.0.0.0/16", "fromPort": 5432, "toPort": 5432, "ipProtocol": "tcp"},
        ),
        ("aws:iam/role:Role", "role", {"assumeRolePolicy": json.dumps(TRUST)}),
        ("aws:iam/policy:Policy", "policy", {"policy": _allow("sqs:SendMessage", f"{arn}:shop-orders")}),
    ]
    others: list[tuple[str, str, Inputs]] = [
        ("aws:iam/rolePolicy:RolePolicy", "login", {"policy": _allow("ecr:GetAuthorizationToken", "*")}),
        (
            "aws:sqs/queuePolicy:QueuePolicy",
            "orders-in",
            {"policy": _allow("sqs:SendMessage", arn, Principal="*", Condition={"ArnEquals": {"aws:SourceArn": "x"}})},
        ),
        (
            "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            "reports-key",
            {"bucket": "shop-reports"},
        ),
        (
            "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
            "reports-block",
            {
                "bucket": "shop-reports",
                "blockPublicAcls": True,
                "blockPublicPolicy": True,
                "ignorePublicAcls": True,
                "restrictPublicBuckets": True,
            },
        ),
        (
            "kubernetes:core/v1:Namespace",
            "commerce",
            {"metadata": {"name": "commerce", "labels": {"istio-injection": "enabled"}}},
        ),
        (
            "kubernetes:apps/v1:Deployment",
            "storefront",
            _deployment("storefront", "commerce", [{"name": "INVENTORY", "value": f"http://{host}:8080"}]),
        ),
        (
            "kubernetes:policy/v1:PodDisruptionBudget",
            "budget",
            {
                "metadata": {"name": "storefront", "namespace": "commerce"},
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "storefront"}}},
            },
        ),
        (
            "kubernetes:security.istio.io/v1:PeerAuthentication",
            "mtls",
            {"metadata": {"name": "default", "namespace": "commerce"}, "spec": {"mtls": {"mode": "STRICT"}}},
        ),
        ("kubernetes:networking.istio.io/v1:DestinationRule", "rule", {"spec": {"host": host}}),
        (
            "kubernetes:networking.istio.io/v1:VirtualService",
            "route",
            {"spec": {"hosts": [host], "http": [{"timeout": "2s"}]}},
        ),
    ]
    made = [Row(type=t, name=n, inputs={**i, "tags": TAGS}) for t, n, i in taggable]
    made += [Row(type=t, name=n, inputs=i) for t, n, i in others]
    return {row.name: row for row in copy.deepcopy(made)}


def put(name: str, *path: str | int, value: Any) -> Break:
    """Break a row by a value at a path."""

    def act(rows: dict[str, Row]) -> None:
        place: Any = rows[name].inputs
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return act


def without(name: str) -> Break:
    """Break a stack by leaving a row out."""
    return lambda rows: rows.pop(name) and None


def add(type_: str, **inputs: Any) -> Break:
    """Break a stack by one more row, called 'new'."""

    def act(rows: dict[str, Row]) -> None:
        rows["new"] = Row(type=type_, name="new", inputs={**inputs, "tags": TAGS})

    return act


CONTAINER = ("spec", "template", "spec", "containers", 0)
ANYWHERE_TO_KAFKA = [{"ipv6CidrBlocks": ["::/0"], "fromPort": 9000, "toPort": 9100, "protocol": "tcp"}]

BROKEN: list[tuple[str, str, str, Break]] = [
    # rule, where it is found, what is wrong, how
    ("encrypted-at-rest", "orders", "messages are stored", put("orders", "sqsManagedSseEnabled", value=False)),
    ("encrypted-at-rest", "events", "messages are stored", put("events", "kmsMasterKeyId", value=None)),
    ("encrypted-at-rest", "db", "storage is unencrypted", put("db", "storageEncrypted", value=False)),
    ("encrypted-at-rest", "eks", "Secrets", put("eks", "encryptionConfig", value=None)),
    ("encrypted-at-rest", "eks", "Secrets", put("eks", "encryptionConfig", "resources", value=[])),
    ("encrypted-at-rest", "image", "how images", put("image", "encryptionConfigurations", value=[])),
    ("encrypted-at-rest", "kafka", "no key", put("kafka", "encryptionInfo", "encryptionAtRestKmsKeyArn", value=None)),
    (
        "encrypted-at-rest",
        "kafka",
        "plaintext",
        put("kafka", "encryptionInfo", "encryptionInTransit", "clientBroker", value="TLS_PLAINTEXT"),
    ),
    (
        "encrypted-at-rest",
        "kafka",
        "plaintext",
        put("kafka", "encryptionInfo", "encryptionInTransit", "inCluster", value=False),
    ),
    ("encrypted-at-rest", "logs", "no key", put("logs", "kmsKeyId", value=None)),
    ("no-public-data", "db", "public address", put("db", "publiclyAccessible", value=True)),
    ("no-public-data", "db-in", "port 5432", put("db-in", "cidrIpv4", value="0.0.0.0/0")),
    ("no-public-data", "edge", "port 9092", put("edge", "ingress", value=ANYWHERE_TO_KAFKA)),
    ("no-public-data", "edge", "and others", put("edge", "ingress", 0, "protocol", value="-1")),
    (
        "no-public-data",
        "new",
        "port 3306",
        add(
            "aws:ec2/securityGroupRule:SecurityGroupRule",
            type="ingress",
            cidrBlocks=["0.0.0.0/0"],
            fromPort=3306,
            toPort=3306,
            protocol="tcp",
        ),
    ),
    (
        "no-public-data",
        "kafka",
        "public addresses",
        put(
            "kafka",
            "brokerNodeGroupInfo",
            value={"connectivityInfo": {"publicAccess": {"type": "SERVICE_PROVIDED_EIPS"}}},
        ),
    ),
    ("no-public-data", "reports", "anybody may read", put("reports", "acl", value="public-read")),
    (
        "no-public-data",
        "orders-in",
        "everybody",
        put("orders-in", "policy", value=_allow("sqs:SendMessage", "arn", Principal={"AWS": "*"})),
    ),
    ("closed-buckets", "reports", "no encryption setting", without("reports-key")),
    ("closed-buckets", "reports", "no public access block", without("reports-block")),
    ("closed-buckets", "reports-block", "blockPublicAcls is off", put("reports-block", "blockPublicAcls", value=False)),
    ("no-wildcard-permissions", "policy", "'*'", put("policy", "policy", value=_allow("*", "arn:aws:sqs:r:1:q"))),
    (
        "no-wildcard-permissions",
        "policy",
        "'sqs:*'",
        put("policy", "policy", value=_allow(["sqs:*"], "arn:aws:sqs:r:1:q")),
    ),
    ("no-wildcard-permissions", "policy", "on '*'", put("policy", "policy", value=_allow("sqs:SendMessage", "*"))),
    (
        "no-wildcard-permissions",
        "policy",
        "on 'arn:aws:sqs:us-east-1:1:*'",
        put("policy", "policy", value=_allow("sqs:SendMessage", "arn:aws:sqs:us-east-1:1:*")),
    ),
    (
        "no-wildcard-permissions",
        "policy",
        "subnet/*",
        put("policy", "policy", value=_allow("ec2:DeleteSubnet", "arn:aws:ec2:us-east-1:1:subnet/*")),
    ),
    (
        "no-wildcard-permissions",
        "login",
        "sqs:SendMessage on '*'",  # one action that needs no resource does not excuse another
        put("login", "policy", value=_allow(["ecr:GetAuthorizationToken", "sqs:SendMessage"], "*")),
    ),
    (
        "no-wildcard-permissions",
        "policy",
        "NotAction",
        put("policy", "policy", value=_allow(None, "arn:aws:sqs:r:1:q", NotAction="iam:*")),
    ),
    (
        "no-wildcard-permissions",
        "role",
        "everybody may assume",
        put(
            "role",
            "assumeRolePolicy",
            value=json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}),
        ),
    ),
    (
        "no-wildcard-permissions",
        "role",
        "inline policy",
        put("role", "inlinePolicies", value=[{"name": "p", "policy": _allow("s3:*", "arn:aws:s3:::b")}]),
    ),
    (
        "no-wildcard-permissions",
        "new",
        "AdministratorAccess",
        add(
            "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
            policyArn="arn:aws:iam::aws:policy/AdministratorAccess",
        ),
    ),
    ("dead-letter-queues", "orders", "nobody can handle", put("orders", "redrivePolicy", value=None)),
    (
        "dead-letter-queues",
        "orders",
        "maxReceiveCount is 0",
        put("orders", "redrivePolicy", value={"deadLetterTargetArn": "arn:x", "maxReceiveCount": 0}),
    ),
    ("dead-letter-queues", "orders", "names no queue", put("orders", "redrivePolicy", value='{"maxReceiveCount": 5}')),
    (
        "dead-letter-queues",
        "new",  # its name alone makes nothing a dead-letter queue
        "nobody can handle",
        add("aws:sqs/queue:Queue", name="other-dlq", sqsManagedSseEnabled=True),
    ),
    ("owner-and-stage", "db", "no tag 'owner'", put("db", "tags", value={"stage": "async", "owner": " "})),
    ("owner-and-stage", "events", "no tag 'stage'", put("events", "tags", value={"owner": "team-money"})),
    ("probes", "storefront", "no readinessProbe", put("storefront", *CONTAINER, "readinessProbe", value=None)),
    ("probes", "storefront", "no livenessProbe", put("storefront", *CONTAINER, "livenessProbe", value=None)),
    ("disruption-budgets", "storefront", "no PodDisruptionBudget", without("budget")),
    (
        "disruption-budgets",
        "storefront",
        "no PodDisruptionBudget",
        put("budget", "spec", "selector", "matchLabels", value={"app.kubernetes.io/name": "orders"}),
    ),
    (
        "disruption-budgets",
        "storefront",
        "no PodDisruptionBudget",
        put("budget", "metadata", "namespace", value="payments"),
    ),
    ("disruption-budgets", "budget", "no node can be drained", put("budget", "spec", "maxUnavailable", value=0)),
    ("strict-mtls", "mtls", "PERMISSIVE", put("mtls", "spec", "mtls", "mode", value="PERMISSIVE")),
    ("strict-mtls", "mtls", "on port 8080", put("mtls", "spec", "portLevelMtls", value={"8080": {"mode": "DISABLE"}})),
    ("strict-mtls", "commerce", "no PeerAuthentication", without("mtls")),
    ("strict-mtls", "commerce", "no PeerAuthentication", put("mtls", "spec", "selector", value={"matchLabels": {}})),
    ("strict-mtls", "rule", "plaintext", put("rule", "spec", "trafficPolicy", value={"tls": {"mode": "DISABLE"}})),
    ("bounded-edges", "storefront", "no DestinationRule", without("rule")),
    ("bounded-edges", "storefront", "no VirtualService", without("route")),
    ("bounded-edges", "route", "without limit", put("route", "spec", "http", value=[{"route": []}])),
]


def test_a_good_stack_breaks_no_rule_and_leaves_nothing_unjudged() -> None:
    assert judge(good().values()) == ()


@pytest.mark.parametrize(("rule", "where", "what", "breaking"), BROKEN, ids=[f"{r}-{w}-{t}" for r, w, t, _ in BROKEN])
def test_a_broken_stack_breaks_exactly_the_rule_that_it_breaks(
    rule: str, where: str, what: str, breaking: Break
) -> None:
    rows = good()
    breaking(rows)
    found = judge(rows.values())
    assert [(f.rule, f.resource, what in f.wrong, f.judged) for f in found] == [(rule, where, True, True)] * len(found)
    assert found
    assert all(f.remedy for f in found), "a finding says what to do"


def test_every_rule_is_broken_by_one_of_the_broken_stacks() -> None:
    assert {r.name for r in RULES} == {rule for rule, *_ in BROKEN}


UNKNOWNS: list[tuple[str, str, Break]] = [
    ("encrypted-at-rest", "db", put("db", "storageEncrypted", value=UNKNOWN)),
    ("encrypted-at-rest", "image", put("image", "encryptionConfigurations", 0, "encryptionType", value=UNKNOWN)),
    ("no-public-data", "db", put("db", "publiclyAccessible", value=UNKNOWN)),
    ("no-public-data", "db-in", put("db-in", "cidrIpv4", value=UNKNOWN)),
    ("no-public-data", "orders-in", put("orders-in", "policy", value=UNKNOWN)),
    ("closed-buckets", "reports", put("reports-key", "bucket", value=UNKNOWN)),
    ("no-wildcard-permissions", "policy", put("policy", "policy", value=UNKNOWN)),
    ("no-wildcard-permissions", "role", put("role", "assumeRolePolicy", value=UNKNOWN)),
    ("dead-letter-queues", "orders", put("orders", "redrivePolicy", value=UNKNOWN)),
    ("owner-and-stage", "db", put("db", "tags", value=UNKNOWN)),
    ("probes", "storefront", put("storefront", *CONTAINER[:-1], value=UNKNOWN)),
    ("disruption-budgets", "storefront", put("budget", "spec", "selector", value=UNKNOWN)),
    ("strict-mtls", "mtls", put("mtls", "spec", "mtls", "mode", value=UNKNOWN)),
    ("strict-mtls", "commerce", put("mtls", "metadata", "namespace", value=UNKNOWN)),
    ("bounded-edges", "storefront", put("storefront", *CONTAINER, "env", 0, "value", value=UNKNOWN)),
    ("bounded-edges", "storefront", put("rule", "spec", "host", value=UNKNOWN)),
    ("bounded-edges", "storefront", put("route", "spec", "hosts", value=UNKNOWN)),
]


@pytest.mark.parametrize(("rule", "where", "breaking"), UNKNOWNS, ids=[f"{r}-{w}" for r, w, _ in UNKNOWNS])
def test_what_is_not_known_is_not_judged_and_said_so(rule: str, where: str, breaking: Break) -> None:
    rows = good()
    breaking(rows)
    found = judge(rows.values())
    assert (rule, where) in {(f.rule, f.resource) for f in found}
    assert [f for f in found if f.judged] == []
    assert all("not known" in str(f) and "is not judged" in str(f) for f in found)


def test_every_rule_says_what_it_cannot_judge() -> None:
    assert {r.name for r in RULES} == {rule for rule, *_ in UNKNOWNS}


def test_a_key_that_another_resource_will_have_is_a_key() -> None:
    rows = good()
    put("events", "kmsMasterKeyId", value=UNKNOWN)(rows)
    put("logs", "kmsKeyId", value=UNKNOWN)(rows)
    assert judge(rows.values()) == ()


def test_a_container_that_nobody_calls_is_asked_for_no_probes_unless_it_is_alone() -> None:
    rows = good()
    containers = rows["storefront"].inputs["spec"]["template"]["spec"]["containers"]
    containers[0]["ports"] = [{"containerPort": 8080}]
    containers.append({"name": "beside"})
    assert judge(rows.values()) == ()
    containers.pop(0)
    assert {f.rule for f in judge(rows.values())} == {"probes"}


def test_a_dead_letter_queue_is_one_because_another_queue_points_to_it() -> None:
    rows = good()
    put("orders-dlq", "redriveAllowPolicy", value=None)(rows)
    assert judge(rows.values()) == ()
    put("orders", "redrivePolicy", value=UNKNOWN)(rows)
    assert [(f.resource, f.judged) for f in judge(rows.values())] == [("orders", False), ("orders-dlq", False)]
    put("orders", "redrivePolicy", value={"deadLetterTargetArn": "arn:elsewhere", "maxReceiveCount": 5})(rows)
    assert [(f.resource, f.judged) for f in judge(rows.values())] == [("orders-dlq", True)]


def test_what_the_provider_answers_for_a_policy_that_is_not_set_is_none() -> None:
    rows = good()
    put("orders", "redrivePolicy", value="")(rows)
    put("orders", "redriveAllowPolicy", value="")(rows)
    assert [(f.rule, f.resource, f.judged) for f in judge(rows.values())] == [("dead-letter-queues", "orders", True)]


def test_a_resource_of_its_own_may_say_what_a_dead_letter_queue_is_for() -> None:
    rows = good()
    allow = "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy"
    add("aws:sqs/queue:Queue", name="spare", sqsManagedSseEnabled=True)(rows)
    rows["allow"] = Row(type=allow, name="allow", inputs={"queueUrl": "https://sqs.us-east-1.amazonaws.com/1/spare"})
    assert judge(rows.values()) == ()


def test_without_a_mesh_nothing_is_asked_of_one() -> None:
    rows = good()
    for name in ("mtls", "rule", "route"):
        without(name)(rows)
    put("commerce", "metadata", "labels", value={})(rows)
    assert judge(rows.values()) == ()


def test_the_broker_is_no_other_system() -> None:
    rows = good()
    url = "http://broker.shop-shared.svc.cluster.local:4566"
    put("storefront", *CONTAINER, "env", value=[{"name": "BROKER", "value": url}])(rows)
    assert judge(rows.values()) == ()


def test_a_secret_is_read_and_the_engines_unknowns_are_known_as_such() -> None:
    signature = "4dabf18193072939515e22adb298388d"
    secret = {signature: "1b47061264138c4ac30d75fd1eb44270", "value": "10.0.0.0/8"}
    output = {signature: "d0e6a833031e9bbcd3f4e8bde6ca49a4", "secret": True}
    assert plain({"a": secret, "b": output, "c": ["04da6b54-80e4-46f7-96ec-b56ff0331ba9"]}) == {
        "a": "10.0.0.0/8",
        "b": UNKNOWN,
        "c": [UNKNOWN],
    }


def test_a_document_around_an_unknown_arn_is_unknown() -> None:
    policy = _allow("sqs:SendMessage", "arn:aws:sqs:us-east-1:1:04da6b54-80e4-46f7-96ec-b56ff0331ba9")
    row = Row(type="aws:iam/policy:Policy", name="p", inputs={**plain({"policy": policy}), "tags": TAGS})
    assert [(f.rule, f.judged) for f in judge([row])] == [("no-wildcard-permissions", False)]


ODD = st.sampled_from([None, UNKNOWN, "", "*", 0, -1, 1.5, True, [], [[]], {}, {"*": {}}, [UNKNOWN], [{}], "{", "[1]"])


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in steps:
        yield from _places(item, (*path, step))


PLACES = [(name, path) for name, row in good().items() for path in _places(row.inputs)]


@given(where=st.lists(st.sampled_from(PLACES), min_size=1, max_size=3), odd=ODD)
def test_no_value_anywhere_makes_a_rule_fail(where: list[tuple[str, tuple[str | int, ...]]], odd: Any) -> None:
    rows = good()
    for name, path in sorted(where, key=lambda w: -len(w[1])):
        put(name, *path, value=odd)(rows)
    assert all(isinstance(f, Finding) for f in judge(rows.values()))


def test_a_rule_of_one_resource_needs_no_other() -> None:
    alone = [r for r in RULES if r.scope is Scope.RESOURCE]
    for row in good().values():
        assert judge([row], alone) == ()


def test_rules_are_named_once_and_summed_up_in_a_sentence() -> None:
    assert len({r.name for r in RULES}) == len(RULES)
    assert all(isinstance(r, Rule) and r.summary.endswith(".") for r in RULES)


def test_every_exception_of_the_wildcard_rule_has_its_reason() -> None:
    assert all("*" not in action and reason for action, reason in WITHOUT_RESOURCE.items())


def test_rules_need_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, infra.policy; print([m for m in sys.modules if m.split('.')[0] in ('pulumi', 'grpc', 'google')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
