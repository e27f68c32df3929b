"""What does the stack of one system hold? Its network and cluster, its records, its services, its place in the mesh.

    Vpc -> keys -> Network, Cluster -> Database -> Identity.. -> istio-system -> Intermediate -> Istio -> workloads
                     |                                              |                              |
                   Spoke (to the hub)                       Fetched, Published              Registration
                                                                                    Alarms -> Experiments

The same parts as before stage mesh (`infra.aws.program`), once per system, and nothing of any other: what systems have
to know of each other is in the model, what they have to get from each other lies in the backbone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi_kubernetes import Provider

from infra.aws import database_job, fis, in_cluster
from infra.aws.alarm_plan import alarms
from infra.aws.alarms import Alarms
from infra.aws.backbone import Shared
from infra.aws.certificate import certificate
from infra.aws.cluster import Cluster, control_plane_log_group
from infra.aws.database import Database, database_log_groups, services_with_records, setup_statements
from infra.aws.discovery import Registration, namespace_of
from infra.aws.fis_templates import Experiments, log_group
from infra.aws.identity import Identity, policy_of
from infra.aws.istio import INGRESS, Istio, enters, system_namespace
from infra.aws.keys import Key, key_policy, platform_policy
from infra.aws.naming import SHARED, called, tags
from infra.aws.network import Network, Vpc, flow_log_group
from infra.aws.network_plan import INTRA, PRIVATE, PUBLIC, interface_endpoints, network_plan
from infra.aws.peering import Spoke, callees
from infra.aws.permissions import Target, permissions, text
from infra.aws.remote import Fetched, Published
from infra.aws.sizing import SIZES
from infra.aws.telemetry import Telemetry, metrics_log_group
from infra.aws.trust import Intermediate
from infra.aws.workloads import PATIENT
from infra.config import Options
from infra.k8s.environment import COLLECTOR, broker_variable
from infra.k8s.ingress import entries
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.names import LABEL, database_secret, metadata, service_labels
from infra.k8s.names import system_namespace as workload_namespace
from infra.k8s.objects import objects
from infra.k8s.pulumi import register
from infra.k8s.site import BrokerAt, Manifest, Site
from stages.messaging import talkers
from stages.model import Stage


def queue_url(arn: str) -> str:
    """Where a queue is asked.

    >>> queue_url("arn:aws:sqs:us-east-1:123456789012:shop-orders-replies")
    'https://sqs.us-east-1.amazonaws.com/123456789012/shop-orders-replies'
    """
    _, _, _, region, account, name = arn.split(":")
    return f"https://sqs.{region}.amazonaws.com/{account}/{name}"


def owned(
    stage: Stage, system: str, options: Options
) -> Callable[[pulumi.ResourceTransformationArgs], pulumi.ResourceTransformationResult | None]:
    """Whatever is in a system's stack bears its tags, also what would be nobody's in a stack for all."""
    own = tags(options, system)

    def transform(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        props = dict(args.props)
        borne = props.get("tags")
        if not isinstance(borne, Mapping) or "managed-by" not in borne:
            return None
        its = {**borne, "deployment": options.name}
        if its.get("system") == SHARED:
            its |= {"system": system, "owner": own["owner"]}
        return pulumi.ResourceTransformationResult(props={**props, "tags": its}, opts=args.opts)

    return transform


class System(pulumi.ComponentResource):
    """Everything of one system's stack."""

    def __init__(
        self, system: str, stage: Stage, options: Options, shared: Shared, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        ours = pulumi.ResourceOptions(transformations=[owned(stage, system, options)])
        super().__init__("stages:aws:System", system, None, pulumi.ResourceOptions.merge(opts, ours))
        self._system, self._stage, self._options, self._shared = system, stage, options, shared
        self._sizing = SIZES[options.size]
        self._place = stage.system(system).cluster
        self._tags = tags(options, system)
        self._below = pulumi.ResourceOptions(parent=self)
        self._grounds()
        self._stores()
        self._site = self._site_of()
        self._identified = self._identities()
        self._mesh()
        self._workloads()
        self._ways()
        self._watch()
        self.register_outputs({})

    def outputs(self) -> dict[str, Any]:
        """What people ask the stack for."""
        found: dict[str, Any] = {
            "stage": self._stage.name,
            "system": self._system,
            "owner": self._stage.system(self._system).owner,
            "cluster": self._cluster.name,
            "cluster_endpoint": self._cluster.endpoint,
            "kubeconfig": self._cluster.kubeconfig,
            "gateway": self._istio.gateway_host,
            "gateway_name": f"{self._place}.{namespace_of(self._options.name)}",
            "databases": {self._system: self._database.address} if self._database else {},
            "dashboard": self._alarms.dashboard,
            "alarms": self._alarms.topic,
            "experiments": {name: template.id for name, template in self._experiments.templates.items()},
        }
        if self._certificate is not None:
            found["endpoints"] = {"users": f"https://{self._options.domain}"}
            found["load_balancer"] = self._hosts
            if self._certificate.proof is not None:
                found["certificate_proof"] = self._certificate.proof
        return found

    def _grounds(self) -> None:
        """Network, keys, cluster, and the way to other networks."""
        options, sizing, name = self._options, self._sizing, self._place
        cidr = next(c.network for c in self._stage.clusters if c.name == name)
        plan = network_plan(cidr, options.availability_zones, nat_per_zone=sizing.nat_per_zone)
        vpc = Vpc(name, plan, options, opts=self._below)
        self._account = vpc.account
        groups = (
            flow_log_group(options, name),
            control_plane_log_group(options, name),
            metrics_log_group(options, name),
            log_group(options, self._system),
            *(database_log_groups(options, self._system) if services_with_records(self._stage, self._system) else ()),
        )
        self._platform = self._key(
            "platform",
            lambda account: platform_policy(options.region, account, groups),
        )
        self._network = Network(
            name,
            vpc,
            plan,
            options,
            sizing,
            endpoints=interface_endpoints(messages=True, wanted=sizing.interface_endpoints),
            log_key=self._platform.arn,
            opts=self._below,
        )
        self._cluster = Cluster(name, self._network, options, sizing, key=self._platform.arn, opts=self._below)
        self._spoke = Spoke(
            called(options, name, "spoke"),
            stage=self._stage,
            cluster=name,
            gateway_id=self._shared.transit_gateway,
            vpc_id=self._network.vpc_id,
            subnet_ids=self._network.ids(PRIVATE),
            route_table_ids=[table.id for key, table in self._network.route_tables.items() if key.startswith(PRIVATE)],
            api_group_id=self._cluster.security_group,
            tags=self._tags,
            opts=self._below,
        )

    def _stores(self) -> None:
        """The system's own server, if its services keep records."""
        self._recorded = services_with_records(self._stage, self._system)
        self._database: Database | None = None
        if not self._recorded:
            return
        self._data_key = self._key("data", key_policy)
        self._database = Database(
            self._system,
            self._network,
            self._options,
            self._sizing,
            clients=self._cluster.security_group,
            key=self._data_key.arn,
            log_key=self._platform.arn,
            opts=self._below,
        )

    def _site_of(self) -> Site:
        site = in_cluster.site(
            self._options,
            self._sizing,
            self._place,
            env=self._env(),
            public_cidrs=self._network.cidrs(PUBLIC),
            intra_cidrs=self._network.cidrs(INTRA),
            network=self._network.cidr,
        )
        return replace(site, let_in=fis.let_in(self._stage)) if self._options.network_faults else site

    def _env(self) -> dict[str, dict[str, Any]]:
        """What only the cloud knows of a service's environment: where the backbone's queues and topics are."""
        known = pulumi.Output.all(
            queues={name: pulumi.Output.from_input(arn).apply(queue_url) for name, arn in self._shared.queues.items()},
            topics=dict(self._shared.topics),
        )
        here = self._stage.services_in(self._place)
        return {
            service: {"SHOP_BROKER": known.apply(self._broker_of(service))}
            for service in talkers(self._stage)
            if service in here
        }

    def _broker_of(self, service: str) -> Callable[[Any], str]:
        at = BrokerAt(region=self._options.region)
        return lambda known: broker_variable(self._stage, service, at, known["queues"], known["topics"])["SHOP_BROKER"]

    def _identities(self) -> list[pulumi.Resource]:
        """A role for each service that may do something, and one for the Job that makes databases."""
        arns = self._shared.targets()
        if self._database:
            for name in self._recorded:
                arns[Target(kind="database user", name=name)] = self._database.user(name)
        found = [
            self._identity(service, policy_of(granted, arns))
            for service in self._stage.services_in(self._place)
            if (granted := permissions(self._stage, service))
        ]
        if self._database:
            policy = pulumi.Output.all(self._database.secret, self._data_key.arn).apply(
                lambda known: text(*setup_statements(known[0], known[1]))
            )
            found.append(self._identity(database_job.setup_name(self._system), policy))
        telemetry = Telemetry(
            self._place,
            self._options,
            self._sizing,
            who=f"{self._system}-{COLLECTOR}",
            namespace=workload_namespace(self._stage, self._site, self._system),
            cluster_name=self._cluster.name,
            log_key=self._platform.arn,
            system=self._system,
            opts=self._below,
        )
        return [*found, telemetry.association]

    def _identity(self, who: str, policy: pulumi.Input[str]) -> pulumi.Resource:
        identity = Identity(
            who,
            self._options,
            policy,
            cluster=self._cluster.name,
            namespace=workload_namespace(self._stage, self._site, self._system),
            system=self._system,
            opts=self._below,
        )
        association: pulumi.Resource = identity.association
        return association

    def _mesh(self) -> None:
        """istio-system, the intermediate, Istio, and the credentials of those who are called."""
        assert self._stage.mesh is not None, "infra.aws.mesh_program is asked for a mesh"
        options, name = self._options, self._place
        self._inside = Provider(
            f"{name}-cluster", kubeconfig=self._cluster.kubeconfig, enable_server_side_apply=True, opts=self._below
        )
        self._basics = register(
            [in_cluster.network_policies_on()], self._inside, self, prefix=f"{name}/"
        )  # before the first pod
        namespace = system_namespace(name, self._inside, self)
        intermediate = Intermediate(
            name,
            options,
            cluster_name=self._cluster.name,
            root=self._shared.root,
            trust_domain=self._stage.mesh.trust_domain,
            namespace=namespace,
            provider=self._inside,
            opts=self._below,
        )
        self._istio = Istio(
            name,
            self._stage,
            namespace=namespace,
            trust=intermediate,
            gateway_group=self._spoke.gateway_group_id,
            provider=self._inside,
            opts=self._below,
        )
        if name in self._shared.letterboxes:
            Published(
                name,
                letterbox=self._shared.letterboxes[name],
                server=self._cluster.endpoint,
                authority=self._cluster.kubeconfig.apply(authority_of),
                reader=self._istio.istiod,
                provider=self._inside,
                opts=self._below,
            )
        if callees(self._stage, name):
            Fetched(
                name,
                self._stage,
                options,
                cluster_name=self._cluster.name,
                letterboxes=self._shared.letterboxes,
                key=self._shared.letters_key,
                namespace=namespace,
                provider=self._inside,
                opts=self._below,
            )

    def _workloads(self) -> None:
        """Everything inside the cluster, in waves: what pods find has to be there before them."""
        stage, site, prefix = self._stage, self._site, f"{self._place}/"
        manifests = objects(stage, site, self._place)
        spaces = register([m for m in manifests if m["kind"] == "Namespace"], self._inside, self, prefix=prefix)
        there = [*spaces.values(), *self._basics.values()]
        rules = register(
            mesh_objects(stage, self._place, site),
            self._inside,
            self,
            prefix=prefix,
            depends_on=[*there, *self._istio.parts],
        )
        secrets = register(self._database_urls(), self._inside, self, prefix=prefix, depends_on=there)
        made = register(self._job(), self._inside, self, prefix=prefix, depends_on=[*there, *self._identified])
        rest = [m for m in manifests if m["kind"] != "Namespace"]
        plain, patient = ([m for m in rest if (m["kind"] in PATIENT) is waits] for waits in (False, True))
        register(plain, self._inside, self, prefix=prefix, depends_on=there)
        ready = [*there, *self._identified, *rules.values(), *secrets.values(), *made.values()]
        register(patient, self._inside, self, prefix=prefix, depends_on=ready)
        self._spaces = there

    def _job(self) -> tuple[Manifest, ...]:
        if self._database is None:
            return ()
        plan = pulumi.Output.all(self._database.address, self._database.secret).apply(
            lambda known: json.dumps(
                database_job.setup_plan(self._options.region, known[0], known[1], self._recorded), sort_keys=True
            )
        )
        return database_job.job_objects(self._stage, self._site, self._system, self._recorded, plan)

    def _database_urls(self) -> list[Manifest]:
        """Secrets for the place where services look; there is no password in them."""
        if self._database is None:
            return []
        place = workload_namespace(self._stage, self._site, self._system)
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata(database_secret(name).name, place, service_labels(self._stage, self._site, name)),
                "type": "Opaque",
                "stringData": {database_secret(name).key: self._database.url(name)},
            }
            for name in self._recorded
        ]

    def _ways(self) -> None:
        """How callers outside the mesh find the system, and how users do, where they enter."""
        Registration(
            self._place,
            namespace_id=self._shared.namespace,
            zone_id=self._shared.zone,
            vpc_id=self._network.vpc_id,
            host=self._istio.gateway_host,
            tags=self._tags,
            opts=self._below,
        )
        self._certificate = None
        self._hosts: dict[str, pulumi.Output[str]] = {}
        if not enters(self._stage, self._place) or not self._options.domain:
            return
        self._certificate = certificate(self._options, self._below)
        classes = register(
            in_cluster.ingress_class(self._certificate.arn, self._network.ids(PUBLIC)),
            self._inside,
            self,
            prefix=f"{self._place}/",
            depends_on=self._istio.parts,
        )
        made = register(
            [{**door(self._options, self._tags), "status": None}],
            self._inside,
            self,
            prefix=f"{self._place}/",
            depends_on=list(classes.values()),
        )
        (ingress,) = made.values()
        status: pulumi.Output[Any] = pulumi.Output.from_input(vars(ingress)["status"])
        host = status.apply(lambda known: str(known["loadBalancer"]["ingress"][0]["hostname"]))
        here = self._stage.services_in(self._place)
        self._hosts = {entry: host for entry in entries(self._stage) if entry in here}

    def _watch(self) -> None:
        """Alarms on what the system promises; they also stop experiments."""
        scoped = replace(self._options, name=called(self._options, self._system))  # names are one account's
        things: dict[str, pulumi.Input[str]] = {
            f"queue:{name}": called(self._options, name) for name in self._shared.queues
        }
        for entry, host in self._hosts.items():
            balancer = aws.lb.get_load_balancer_output(
                name=host.apply(in_cluster.load_balancer_name), opts=pulumi.InvokeOutputOptions(parent=self)
            )
            things[f"load balancer:{entry}"] = balancer.arn_suffix
        planned = [
            alarm
            for alarm in alarms(self._stage)
            if alarm.system == self._system and (self._hosts or "{load balancer" not in str(alarm.metrics))
        ]
        self._alarms = Alarms(planned, things, scoped, key=self._platform.arn, opts=self._below)
        self._experiments = Experiments(
            self._system,
            self._stage,
            [
                drill
                for drill in fis.drills(self._stage, network_faults=self._options.network_faults)
                if drill.cluster == self._place
            ],
            self._options,
            account=self._account,
            cluster_name=self._cluster.name,
            vpc_id=self._network.vpc_id,
            namespace=workload_namespace(self._stage, self._site, self._system),
            alarms=[
                pulumi.Output.format(
                    "arn:aws:cloudwatch:{0}:{1}:alarm:{2}",
                    self._options.region,
                    self._account,
                    called(scoped, alarm.name),
                )
                for alarm in planned
            ],
            log_key=self._platform.arn,
            provider=self._inside,
            after=self._spaces,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._alarms]),
        )

    def _key(self, purpose: str, policy: Callable[[str], str]) -> Key:
        document = pulumi.Output.from_input(self._account).apply(policy)
        return Key(purpose, self._options, self._sizing, document, system=self._system, opts=self._below)


def authority_of(kubeconfig: str) -> str:
    """Certificate of a cluster's API server, in base64."""
    return str(json.loads(kubeconfig)["clusters"][0]["cluster"]["certificate-authority-data"])


def door(options: Options, its_tags: Mapping[str, str]) -> Manifest:
    """The Ingress before the mesh's gateway for users: TLS ends at the load balancer, mTLS begins at the gateway."""
    backend = {"service": {"name": INGRESS, "port": {"number": 80}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": INGRESS,
            "namespace": INGRESS,
            "labels": {f"{LABEL}/managed-by": "pulumi", "stage": options.stage, "system": its_tags["system"]},
            "annotations": {
                **in_cluster.ANNOTATIONS,
                "alb.ingress.kubernetes.io/healthcheck-port": "15021",
                "alb.ingress.kubernetes.io/healthcheck-path": "/healthz/ready",
            },
        },
        "spec": {
            "ingressClassName": in_cluster.INGRESS_CLASS,
            "tls": [{"hosts": [options.domain]}],
            "rules": [
                {
                    "host": options.domain,
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }
            ],
        },
    }
