"""Which Pulumi resources does target k8s make? The program under mocks, without a cluster."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from functools import cache
from typing import Any

import pulumi
import pulumi_kubernetes
import pytest

from infra.config import Options, options
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.objects import objects
from infra.k8s.program import broker_at, deploy, option_problems, site_of
from infra.k8s.pulumi import name_of, register, token_of
from infra.policy import judge
from infra.policy import rows as policy_rows
from infra.testing_pulumi import Row, record, rows
from stages.catalogue import ASYNC, MESH, STAGES, SYNC
from stages.model import Stage

PROVIDER = "pulumi:providers:kubernetes"
EVERY_STAGE = pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))


def options_of(stage: Stage, **more: str) -> Options:
    raw = {"stage": stage.name, "target": "k8s", "image": "shop:1", "kubeconfig_context": "kind", **more}
    return options(raw, "shop")


def made(stage: Stage, **more: str) -> list[Row]:
    """The rows of a program, which runs once for all who ask; change nothing of them."""
    return _made(stage.name, tuple(more.items()))


@cache
def _made(name: str, more: tuple[tuple[str, str], ...]) -> list[Row]:
    stage = STAGES[name]
    return rows(lambda: deploy(options_of(stage, **dict(more)), stage))


def secrets_of(found: list[Row]) -> dict[str, dict[str, str]]:
    return {
        f"{row.inputs['metadata']['namespace']}/{row.inputs['metadata']['name']}": {
            key: b64decode(value).decode() for key, value in row.inputs["data"].items()
        }
        for row in found
        if row.type == "kubernetes:core/v1:Secret"
    }


@EVERY_STAGE
def test_every_manifest_is_one_resource_as_it_is(stage: Stage) -> None:
    asked = options_of(stage)
    site = site_of(asked, stage, None)
    manifests = [*objects(stage, site), *(mesh_objects(stage, None, site) if stage.mesh else ())]
    found = {row.name: (row.type, row.inputs) for row in made(stage)}
    assert len({name_of(m) for m in manifests}) == len(manifests)
    for manifest in manifests:
        assert found.pop(name_of(manifest)) == (token_of(manifest), manifest)
    assert {type_ for type_, _ in found.values()} == {PROVIDER, "kubernetes:core/v1:Secret"}


def test_every_resource_goes_to_the_cluster_that_the_context_names() -> None:
    found = made(SYNC)
    (provider,) = (row for row in found if row.type == PROVIDER)
    assert provider.inputs["context"] == "kind"
    assert {row.provider.rpartition("::")[0].rpartition("$")[2] for row in found if row.type != PROVIDER} == {
        f"{PROVIDER}::cluster"
    }


def test_what_lives_in_a_namespace_waits_for_it() -> None:
    found = {row.name: row for row in made(MESH)}
    for name, row in found.items():
        namespace = row.inputs.get("metadata", {}).get("namespace")
        if namespace is not None:
            assert any(d.endswith(f"Namespace::{namespace}-namespace") for d in row.dependencies), name


@pytest.mark.parametrize("more", [{}, {"broker_url": "http://broker.example.com"}], ids=["emulator", "job"])
def test_services_wait_for_queues_and_subscriptions(more: dict[str, str]) -> None:
    found = made(ASYNC, **more)
    services = [row for row in found if _is_service(row)]
    assert len(services) == len(ASYNC.services)
    for row in services:
        waited = [d for d in row.dependencies if d.endswith(("::shop/broker-deployment", "-job"))]
        assert len(waited) == 1, row.name


@EVERY_STAGE
@pytest.mark.parametrize("domain", [{}, {"domain": "shop.example.com"}], ids=["inside", "public"])
def test_no_rule_of_the_policy_pack_is_broken(stage: Stage, domain: dict[str, str]) -> None:
    assert list(judge(policy_rows(made(stage, **domain)))) == []


@pytest.mark.parametrize(
    ("module", "kind", "api_version", "needs"),
    [
        ("core.v1", "Service", "v1", "spec"),
        ("apps.v1", "Deployment", "apps/v1", "spec"),
        ("batch.v1", "Job", "batch/v1", "spec"),
        ("autoscaling.v2", "HorizontalPodAutoscaler", "autoscaling/v2", "spec"),
        ("policy.v1", "PodDisruptionBudget", "policy/v1", "spec"),
        ("rbac.v1", "RoleBinding", "rbac.authorization.k8s.io/v1", "role_ref"),
        ("networking.v1", "NetworkPolicy", "networking.k8s.io/v1", "spec"),
    ],
)
def test_a_token_is_that_of_the_sdks_class(module: str, kind: str, api_version: str, needs: str) -> None:
    package: Any = pulumi_kubernetes
    for part in module.split("."):
        package = getattr(package, part)
    (row,) = rows(lambda: getattr(package, kind)("it", **{needs: {}}))
    assert row.type == token_of({"apiVersion": api_version, "kind": kind})


def test_two_of_one_name_are_refused() -> None:
    twice = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders", "namespace": "shop"}}] * 2

    def program() -> None:
        register(twice, pulumi_kubernetes.Provider("cluster"))

    with pytest.raises(ValueError, match="there are two of shop/orders-service"):
        rows(program)


def test_databases_in_the_cluster_have_passwords_that_nobody_chose() -> None:
    found = made(ASYNC)
    keepers = {s.name for s in ASYNC.services if s.database}
    passwords = secrets_of(found)
    assert set(passwords) == {f"shop/{name}-database" for name in keepers} | {"shop/postgres-admin"}
    for name in keepers:
        content = passwords[f"shop/{name}-database"]
        server = "postgres.shop.svc.cluster.local:5432"
        assert content["url"] == f"postgresql+psycopg://{name}:{content['password']}@{server}/{name}"
    assert len({content["password"] for content in passwords.values()}) == len(passwords)
    again = rows(lambda: deploy(options_of(ASYNC), ASYNC))
    assert secrets_of(again).values() != passwords.values()
    for row in found:
        if row.type == "kubernetes:core/v1:Secret":
            assert row.secrets == {"data"}


def test_passwords_stay_as_they_were_first_drawn() -> None:
    kept: dict[str, Any] = {}

    def note(args: pulumi.ResourceTransformationArgs) -> None:
        kept[args.name] = (args.opts.ignore_changes, args.type_)

    def program() -> None:
        pulumi.runtime.register_stack_transformation(note)
        deploy(options_of(SYNC, broker="sqs"), SYNC)

    rows(program)
    drawn = {name for name, (ignored, _) in kept.items() if ignored}
    assert drawn == {name for name, (_, type_) in kept.items() if type_ == "kubernetes:core/v1:Secret"}
    assert all(ignored in ([], ["data"], None) for ignored, _ in kept.values())


GIVEN = {
    "broker_url": "https://key:se%2Fcret@broker.example.com:8443/123456789012",
    "database_url": "postgresql://shop:pw@10.1.2.3/{service}",
}


def test_given_databases_and_brokers_are_used_with_their_secrets() -> None:
    found = made(ASYNC, **GIVEN)
    secrets = secrets_of(found)
    assert secrets["shop/orders-database"] == {"url": "postgresql+psycopg://shop:pw@10.1.2.3/orders"}
    assert secrets["shop/broker-credentials"] == {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "se/cret"}
    names = {row.name for row in found}
    assert "shop/postgres-statefulset" not in names
    assert "shop/broker-deployment" not in names
    orders = next(row for row in found if row.name == "shop/orders-deployment").inputs
    env = {e["name"]: e.get("value", e.get("valueFrom")) for e in _container(orders)["env"]}
    assert '"https://broker.example.com:8443/123456789012/shop-orders-replies"' in env["SHOP_BROKER"]
    assert env["AWS_SECRET_ACCESS_KEY"] == {
        "secretKeyRef": {"name": "broker-credentials", "key": "AWS_SECRET_ACCESS_KEY"}
    }
    shown = str([row.inputs for row in found if row.type != "kubernetes:core/v1:Secret"])
    assert "se/cret" not in shown
    assert "se%2Fcret" not in shown
    assert "shop:pw" not in shown


def test_a_given_database_by_number_is_the_only_one_that_may_be_reached() -> None:
    site = site_of(options_of(ASYNC, **GIVEN), ASYNC, broker_at(options_of(ASYNC, **GIVEN)))
    assert site.database is not None
    assert (site.database.cidrs, site.database.ports) == (("10.1.2.3/32",), (5432,))


def test_outputs_say_where_users_go() -> None:
    local = record(lambda: _export(deploy(options_of(SYNC), SYNC))).outputs
    assert local == {
        "stage": "sync",
        "namespaces": ["shop"],
        "forward": "kubectl --namespace shop port-forward service/storefront 8080:8080",
    }
    public = record(lambda: _export(deploy(options_of(MESH, domain="shop.example.com"), MESH))).outputs
    assert public["url"] == "https://shop.example.com"
    assert public["namespaces"] == ["shop-commerce", "shop-fulfilment", "shop-payments", "shop-engagement"]


def test_no_cluster_is_guessed() -> None:
    raw = {"stage": "sync", "target": "k8s", "image": "shop:1"}
    with pytest.raises(pulumi.RunError, match="kubeconfig_context is not set, and no cluster is guessed"):
        rows(lambda: deploy(options(raw, "shop"), SYNC))


@pytest.mark.parametrize(
    ("stage", "more", "said"),
    [
        (ASYNC, {"broker": "kafka"}, "broker is 'kafka', but target 'k8s' makes queues of SQS and topics of SNS only"),
        (ASYNC, {"broker_url": "kafka://h:1"}, "broker_url (not shown) must be http(s)://"),
        (SYNC, {"broker_url": "http://h:1"}, "broker_url is set, but stage 'sync' sends no messages"),
        (SYNC, {"database_url": "postgresql://u:p@h/shop"}, "every service has a database of its own"),
        (SYNC, {"database_url": "mysql://u:p@h/{service}"}, "database_url (not shown) must be postgresql://"),
    ],
)
def test_what_the_target_cannot_do_is_said_with_the_remedy(stage: Stage, more: dict[str, str], said: str) -> None:
    (problem,) = option_problems(options_of(stage, **more), stage)
    assert said in problem
    assert "u:p@" not in problem


def _is_service(row: Row) -> bool:
    labels = row.inputs.get("metadata", {}).get("labels", {})
    return row.type == "kubernetes:apps/v1:Deployment" and labels["app.kubernetes.io/component"] == "service"


def _container(deployment: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def _export(outputs: Mapping[str, Any]) -> None:
    for name, value in outputs.items():
        pulumi.export(name, value)
