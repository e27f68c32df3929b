"""The five stacks of stage mesh on AWS, as rows: whose is what, who reaches whom, and what stops an experiment."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pulumi
import pytest

from infra.aws.discovery import ANCHOR
from infra.aws.fis import drills
from infra.aws.mesh_program import deploy
from infra.aws.permissions import wildcards
from infra.aws.sizing import SIZES
from infra.config import options
from infra.k8s.environment import COLLECTOR
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.pulumi import name_of, token_of
from infra.k8s.site import IngressAt, Site
from infra.k8s.testing import manifest_problems
from infra.testing_pulumi import Recorded, Row, of_type, record, recorded
from stages.catalogue import MESH
from stages.mesh import calls, crosses

# the SDK warns of one of its own classes when it is loaded, which nobody uses
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:aws.ec2/encryptioncontrol:DeprecationWarning"),
]

SYSTEMS = tuple(system.name for system in MESH.systems)
STACKS = ("backbone", *SYSTEMS)
DEFAULTS = {
    "image": "repository:1",
    "domain": "shop.example.com",
    "certificate": "arn:aws:acm:us-east-1:123456789012:certificate/0a",
}


def _stack(system: str, size: str = "production") -> Recorded:
    return recorded(f"aws-mesh-{system}" + ("" if size == "production" else f"-{size}"))


def _inputs(system: str, type_: str) -> dict[str, dict[str, Any]]:
    return of_type(_stack(system).rows, type_)


def test_every_system_has_one_cluster_and_the_backbone_has_none() -> None:
    clusters = {s: list(_inputs(s, "aws:eks/cluster:Cluster")) for s in STACKS}
    assert clusters == {"backbone": [], **{s: [s] for s in SYSTEMS}}
    assert not [row for row in _stack("backbone").rows if row.type.startswith("kubernetes:")]
    assert not [row for row in _stack("backbone").rows if "rds" in row.type]


def test_networks_are_the_models_and_disjoint() -> None:
    vpcs = [inputs["cidrBlock"] for s in STACKS for inputs in _inputs(s, "aws:ec2/vpc:Vpc").values()]
    assert sorted(vpcs) == sorted([ANCHOR, *(c.network for c in MESH.clusters)])
    networks = [ip_network(cidr) for cidr in vpcs]
    assert not [(a, b) for a in networks for b in networks if a is not b and a.overlaps(b)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_systems_stack_holds_nothing_of_another_system(system: str) -> None:
    tagged = {row.name: row.inputs["tags"] for row in _stack(system).rows if "managed-by" in row.inputs.get("tags", {})}
    assert tagged
    assert {(t["system"], t["deployment"], t["owner"]) for t in tagged.values()} == {
        (system, "shop", MESH.system(system).owner)
    }
    deployments = _inputs(system, "kubernetes:apps/v1:Deployment")
    running = {d["metadata"]["labels"]["app.kubernetes.io/name"] for d in deployments.values()} - {"otel-collector"}
    assert running == set(MESH.services_in(system))


def test_the_backbones_tags_name_no_system_but_for_what_is_kept_for_one() -> None:
    for row in _stack("backbone").rows:
        system = row.inputs.get("tags", {}).get("system", "shared")
        assert system == "shared" or row.type.startswith(("aws:sqs", "aws:sns", "aws:secretsmanager")), row


def test_no_two_stacks_make_one_thing_of_one_name() -> None:
    named: dict[tuple[str, str], str] = {}
    for stack in STACKS:
        for row in _stack(stack).rows:
            name = row.inputs.get("name") or row.inputs.get("identifier")
            if row.type.startswith("aws:") and isinstance(name, str):
                assert (row.type, name) not in named, f"{row.type} {name} is in {named[row.type, name]} and {stack}"
                named[row.type, name] = stack


def test_a_system_refers_to_the_backbone_alone() -> None:
    for system in SYSTEMS:
        assert set(_stack(system).references) == {"organization/staged-decoupling/shop-backbone"}
    assert _stack("backbone").references == []


def test_every_network_is_attached_and_has_a_route_to_every_other() -> None:
    for cluster in MESH.clusters:
        assert len(_inputs(cluster.name, "aws:ec2transitgateway/vpcAttachment:VpcAttachment")) == 1
        routes = [r for r in _inputs(cluster.name, "aws:ec2/route:Route").values() if "transitGatewayId" in r]
        others = {c.network for c in MESH.clusters if c is not cluster}
        tables = {r["routeTableId"] for r in routes}
        assert len(tables) == 3
        assert {(r["routeTableId"], r["destinationCidrBlock"]) for r in routes} == {
            (t, o) for t in tables for o in others
        }


def test_only_callers_networks_may_speak_and_only_to_the_gateway_and_the_api_server() -> None:
    """15012 and 15017 stay closed: they serve clusters without a control plane of their own."""
    networks = {c.name: c.network for c in MESH.clusters}
    edges = {(MESH.cluster_of(c.caller), MESH.cluster_of(c.callee)) for c in calls(MESH) if crosses(MESH, c)}
    assert edges == {("commerce", "fulfilment"), ("commerce", "engagement")}, "the model changed: look at this test"
    for system in SYSTEMS:
        rules = _inputs(system, "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule").values()
        opened = {(r["cidrIpv4"], r["fromPort"], r["toPort"], r["ipProtocol"]) for r in rules}
        assert opened == {
            (networks[caller], port, port, "tcp")
            for caller, callee in edges
            if callee == system
            for port in (15443, 443)
        }


@pytest.mark.parametrize("system", SYSTEMS)
def test_istio_is_installed_before_workloads_with_visible_values(system: str) -> None:
    releases = _inputs(system, "kubernetes:helm.sh/v3:Release")
    istio = {name: r for name, r in releases.items() if r["repositoryOpts"]["repo"].startswith("https://istio-release")}
    wanted = {"base", "istiod", "istio-eastwestgateway"} | ({"istio-ingress"} if system == "commerce" else set())
    assert {r["name"] for r in istio.values()} == wanted
    assert {r["version"] for r in istio.values()} == {"1.31.1"}
    istiod = istio[f"{system}-istiod"]["values"]
    assert istiod["global"] == {
        "meshID": "shop",
        "multiCluster": {"clusterName": system},
        "network": f"{system}-network",
    }
    assert istiod["meshConfig"]["trustDomain"] == "shop"
    assert istio[f"{system}-istio-eastwestgateway"]["values"]["networkGateway"] == f"{system}-network"
    namespaces = {n["metadata"]["name"]: n for n in _inputs(system, "kubernetes:core/v1:Namespace").values()}
    assert namespaces["istio-system"]["metadata"]["labels"] == {"topology.istio.io/network": f"{system}-network"}


def test_pods_wait_for_sidecars_roles_and_databases_and_names_of_others_wait_for_nobody() -> None:
    rows = _stack("commerce").rows
    (orders,) = [r for r in rows if r.type == "kubernetes:apps/v1:Deployment" and r.name.endswith("/orders-deployment")]
    needed = {urn.rpartition("::")[2] for urn in orders.dependencies}
    assert {"orders", "commerce/shop-commerce/orders-database-secret", "commerce/shop-commerce-namespace"} <= needed
    assert [name for name in needed if name.endswith("-job")]
    (policy,) = [r for r in rows if r.type.endswith(":PeerAuthentication") and "shop-commerce" in r.name]
    assert policy.name in needed
    assert {"commerce-istiod", "commerce-istio-eastwestgateway"} <= {u.rpartition("::")[2] for u in policy.dependencies}
    (istiod,) = [r for r in rows if r.name == "commerce-istiod"]
    assert "commerce-cacerts" in {u.rpartition("::")[2] for u in istiod.dependencies}
    services = [r for r in rows if r.type == "kubernetes:core/v1:Service" and r.custom and r.inputs.get("metadata")]
    for service in services:
        meta = service.inputs["metadata"]
        foreign = meta["namespace"] not in ("shop-commerce", "istio-system", "istio-ingress")
        assert (meta.get("annotations", {}).get("pulumi.com/skipAwait") == "true") == foreign


def test_users_come_in_by_the_gateway_that_rules_and_doors_name() -> None:
    release = _inputs("commerce", "kubernetes:helm.sh/v3:Release")["commerce-istio-ingress"]
    assert (release["name"], release["namespace"]) == ("istio-ingress", "istio-ingress")
    gateways = _inputs("commerce", "kubernetes:networking.istio.io/v1:Gateway").values()
    (door,) = [g for g in gateways if g["metadata"]["namespace"] == "istio-ingress"]
    assert door["spec"]["selector"] == {"istio": "ingress"}, "what the chart makes of the release's name"
    policies = _inputs("commerce", "kubernetes:security.istio.io/v1:AuthorizationPolicy").values()
    (users,) = [p for p in policies if p["metadata"]["name"] == "storefront-users"]
    principals = users["spec"]["rules"][0]["from"][0]["source"]["principals"]
    assert principals == ["shop/ns/istio-ingress/sa/istio-ingress"]
    (ingress,) = _inputs("commerce", "kubernetes:networking.k8s.io/v1:Ingress").values()
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert ingress["metadata"]["namespace"] == "istio-ingress"
    assert path["backend"] == {"service": {"name": "istio-ingress", "port": {"number": 80}}}
    for system in set(SYSTEMS) - {"commerce"}:
        assert not _inputs(system, "kubernetes:networking.k8s.io/v1:Ingress")


def test_istios_selector_finds_the_east_west_gateway() -> None:
    for system in SYSTEMS:
        gateways = _inputs(system, "kubernetes:networking.istio.io/v1:Gateway").values()
        (crossing,) = [g for g in gateways if g["metadata"]["namespace"] == "istio-system"]
        assert crossing["spec"]["selector"] == {"istio": "eastwestgateway"}
        (server,) = crossing["spec"]["servers"]
        assert (server["port"]["number"], server["tls"]["mode"]) == (15443, "AUTO_PASSTHROUGH")


def test_every_object_of_the_mesh_is_there_in_its_cluster_and_valid() -> None:
    site = Site(deployment="shop", image="repository:1", ingress=IngressAt(host="shop.example.com"))
    kinds = set()
    for system in SYSTEMS:
        there = {(row.type, row.name): row for row in _stack(system).rows}
        for manifest in mesh_objects(MESH, system, site):
            row = there[token_of(manifest), f"{system}/{name_of(manifest)}"]
            assert (
                manifest_problems({"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **row.inputs}) == []
            )
            kinds.add(manifest["kind"])
    assert {"PeerAuthentication", "AuthorizationPolicy", "DestinationRule", "VirtualService", "Gateway"} <= kinds


def test_mutual_tls_is_strict_and_everything_denied_wherever_services_are() -> None:
    for system in SYSTEMS:
        modes = _inputs(system, "kubernetes:security.istio.io/v1:PeerAuthentication").values()
        assert {m["metadata"]["namespace"] for m in modes} == {"istio-system", f"shop-{system}"}
        assert {m["spec"]["mtls"]["mode"] for m in modes} == {"STRICT"}
        policies = _inputs(system, "kubernetes:security.istio.io/v1:AuthorizationPolicy").values()
        assert [p for p in policies if p["spec"] == {} and p["metadata"]["namespace"] == f"shop-{system}"]


def test_one_root_and_an_intermediate_per_cluster_without_a_key_in_any_state() -> None:
    (root,) = _inputs("backbone", "aws:acmpca/certificateAuthority:CertificateAuthority").values()
    assert root["type"] == "ROOT"
    arn = _stack("backbone").outputs["root"]
    for system in SYSTEMS:
        (issuer,) = _inputs(system, "kubernetes:awspca.cert-manager.io/v1beta1:AWSPCAClusterIssuer").values()
        assert issuer["spec"]["arn"] == arn
        (made,) = _inputs(system, "kubernetes:cert-manager.io/v1:Certificate").values()
        assert (made["metadata"]["namespace"], made["spec"]["secretName"]) == ("istio-system", "cacerts")
        assert made["spec"]["isCA"]
        policy = json.loads(_inputs(system, "aws:iam/rolePolicy:RolePolicy")[f"{system}-issuer"]["policy"])
        issue = next(s for s in policy["Statement"] if "acm-pca:IssueCertificate" in s["Action"])
        assert issue["Condition"]["StringEquals"]["acm-pca:TemplateArn"].endswith(
            "SubordinateCACertificate_PathLen0/V1"
        )
    for stack in STACKS:
        assert "PRIVATE KEY" not in str([row.inputs for row in _stack(stack).rows])


def test_credentials_are_published_by_whoever_is_called_and_read_by_callers_only() -> None:
    letters = {s["name"] for s in _inputs("backbone", "aws:secretsmanager/secret:Secret").values()}
    assert letters == {"shop/remote/fulfilment", "shop/remote/engagement"}
    for system in SYSTEMS:
        written = _inputs(system, "aws:secretsmanager/secretVersion:SecretVersion")
        assert len(written) == (system in ("fulfilment", "engagement"))
        fetched = _inputs(system, "kubernetes:external-secrets.io/v1:ExternalSecret").values()
        remote = {e["spec"]["data"][0]["remoteRef"]["key"] for e in fetched}
        assert remote == (letters if system == "commerce" else set())
        for external in fetched:
            made = external["spec"]["target"]["template"]["metadata"]
            assert made["labels"] == {"istio/multiCluster": "true"}
            assert made["annotations"]["networking.istio.io/cluster"] in ("fulfilment", "engagement")


def test_a_published_credential_is_a_kubeconfig_and_a_secret_of_the_state() -> None:
    rows = [r for r in _stack("fulfilment").rows if r.type == "aws:secretsmanager/secretVersion:SecretVersion"]
    assert rows[0].secrets >= {"secretString"}
    config = json.loads(rows[0].inputs["secretString"])
    assert config["users"] == [{"name": "fulfilment", "user": {"token": "token"}}]
    assert config["clusters"][0]["cluster"]["server"] == "https://shop-fulfilment.eks.us-east-1.amazonaws.com"


def test_messages_are_the_backbones_and_services_are_told_where() -> None:
    queues = _inputs("backbone", "aws:sqs/queue:Queue")
    assert not [row for s in SYSTEMS for row in _stack(s).rows if row.type.startswith("aws:sqs")]
    (deployment,) = [
        inputs
        for inputs in _inputs("payments", "kubernetes:apps/v1:Deployment").values()
        if inputs["metadata"]["labels"]["app.kubernetes.io/name"] == "payments"
    ]
    env = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "https://sqs.us-east-1.amazonaws.com/123456789012/shop-payments-commands" in env["SHOP_BROKER"]
    assert "payments-commands" in queues


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_template_stops_by_an_alarm_of_its_own_system_and_touches_only_what_is_ours(system: str) -> None:
    templates = _inputs(system, "aws:fis/experimentTemplate:ExperimentTemplate")
    assert set(templates) == {d.name for d in drills(MESH, network_faults=False) if d.cluster == system}
    alarms = {a["name"] for a in _inputs(system, "aws:cloudwatch/metricAlarm:MetricAlarm").values()}
    for template in templates.values():
        assert template["stopConditions"]
        for condition in template["stopConditions"]:
            assert condition["source"] == "aws:cloudwatch:alarm"
            assert condition["value"].rpartition(":")[2] in alarms
        assert template["experimentOptions"]["emptyTargetResolutionMode"] == "fail"
        (target,) = template["targets"]
        if target["resourceType"] == "aws:eks:pod":
            assert target["parameters"]["clusterIdentifier"].endswith(f":cluster/shop-{system}")
            assert target["parameters"]["namespace"] in (f"shop-{system}", "istio-system")
        else:
            its = {tag["key"]: tag["value"] for tag in target["resourceTags"]}
            assert (its["deployment"], its["system"]) == ("shop", system)
            assert {"path": "VpcId", "values": [f"{system}-id"]} in target["filters"]


def test_what_fis_may_do_in_a_cluster_is_said_in_valid_objects_of_its_namespaces() -> None:
    for system in SYSTEMS:
        for kind in (
            "rbac.authorization.k8s.io/v1:Role",
            "networking.k8s.io/v1:NetworkPolicy",
            "core/v1:ServiceAccount",
        ):
            rows = [
                r
                for r in _stack(system).rows
                if r.type == f"kubernetes:{kind}" and r.inputs["metadata"]["name"] == "fis"
            ]
            places = {r.inputs["metadata"]["namespace"] for r in rows}
            assert places == ({f"shop-{system}"} if "Network" in kind else {f"shop-{system}", "istio-system"})
            for row in rows:
                group = kind.partition(":")[0].removeprefix("core/")
                assert manifest_problems({"apiVersion": group, "kind": kind.rpartition(":")[2], **row.inputs}) == []
        (entry,) = _inputs(system, "aws:eks/accessEntry:AccessEntry").values()
        assert entry["userName"] == "fis"


def test_pods_are_selected_by_labels_that_their_templates_bear() -> None:
    for system in SYSTEMS:
        deployments = _inputs(system, "kubernetes:apps/v1:Deployment").values()
        borne = [d["spec"]["template"]["metadata"]["labels"].items() for d in deployments]
        for name, template in _inputs(system, "aws:fis/experimentTemplate:ExperimentTemplate").items():
            (target,) = template["targets"]
            if target["resourceType"] == "aws:eks:pod" and target["parameters"]["namespace"] != "istio-system":
                key, _, value = target["parameters"]["selectorValue"].partition("=")
                assert [labels for labels in borne if (key, value) in labels], name


def test_subnets_that_experiments_select_bear_the_tags() -> None:
    for system in SYSTEMS:
        ours = {
            name
            for name, subnet in _inputs(system, "aws:ec2/subnet:Subnet").items()
            if subnet["tags"].get("kubernetes.io/role/internal-elb") == "1"
            and (subnet["tags"]["deployment"], subnet["tags"]["system"]) == ("shop", system)
        }
        assert len(ours) == 3


@pytest.mark.parametrize("stack", STACKS)
def test_policies_of_roles_name_actions_and_resources(stack: str) -> None:
    """What is left: traces and the lists of EC2 and Logs, which know no resource, and FIS's own ACLs, known by tag."""
    for name, role_policy in _inputs(stack, "aws:iam/rolePolicy:RolePolicy").items():
        document = json.loads(role_policy["policy"])
        for statement in document["Statement"]:
            if wildcards({"Statement": [statement]}):
                if name == f"{stack}-{COLLECTOR}":
                    assert statement["Action"] == ["xray:PutTraceSegments"], statement
                    continue
                assert name.endswith("-fis"), statement
                assert statement["Sid"] in ("Look", "Log") or "Condition" in statement, statement


def test_every_cluster_has_a_collector_with_a_role_and_a_log_group_of_its_own() -> None:
    for system in SYSTEMS:
        place = MESH.system(system).cluster
        (association,) = (
            each
            for name, each in _inputs(system, "aws:eks/podIdentityAssociation:PodIdentityAssociation").items()
            if name == f"{system}-{COLLECTOR}"
        )
        assert (association["namespace"], association["serviceAccount"]) == (f"shop-{system}", COLLECTOR)
        group = _inputs(system, "aws:cloudwatch/logGroup:LogGroup")[f"{place}-metrics"]
        assert group["name"] == f"/stages/shop-{place}/metrics"
        policy = _inputs(system, "aws:iam/rolePolicy:RolePolicy")[f"{system}-{COLLECTOR}"]["policy"]
        assert [s["Sid"] for s in json.loads(policy)["Statement"]] == ["Traces", "Metrics"]
        config = _inputs(system, "kubernetes:core/v1:ConfigMap")[f"{place}/shop-{system}/{COLLECTOR}-configmap"]
        assert group["name"] in config["data"]["config.yaml"]


@pytest.mark.parametrize("system", ["backbone", "commerce"])
def test_a_preview_needs_no_account(system: str) -> None:
    found = recorded(f"aws-mesh-{system}", preview=True)
    assert [(r.type, r.name) for r in found.rows] == [(r.type, r.name) for r in _stack(system).rows]


@pytest.mark.parametrize("size", SIZES)
def test_both_sizes_are_deployed_whole(size: str) -> None:
    assert _count(_stack("backbone", size).rows, "aws:ec2transitgateway/transitGateway:TransitGateway") == 1
    assert _count(_stack("payments", size).rows, "aws:eks/cluster:Cluster") == 1


def _count(rows: list[Row], type_: str) -> int:
    return sum(row.type == type_ for row in rows)


def test_a_stack_that_is_no_part_is_refused_with_the_way_out() -> None:
    whole = options({**DEFAULTS, "stage": "mesh", "target": "aws"}, "shop")
    with pytest.raises(pulumi.RunError, match=r"system is not set.*stages up mesh --target aws"):
        record(lambda: deploy(whole, MESH))
    kafka = options({**DEFAULTS, "stage": "mesh", "target": "aws", "system": "payments", "broker": "kafka"}, "shop")
    with pytest.raises(pulumi.RunError, match="pulumi config set broker sqs"):
        record(lambda: deploy(kafka, MESH))
    office = {**DEFAULTS, "stage": "mesh", "target": "aws", "system": "payments", "api_cidrs": ["198.51.100.0/24"]}
    with pytest.raises(pulumi.RunError, match="shuts out the control planes"):
        record(lambda: deploy(options(office, "shop"), MESH))
