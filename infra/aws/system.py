"""What does the stack of one system hold? Its network and cluster, its records, its services, its place in the mesh.

    Foundation (network, keys, cluster, database) -> Member (the way to others, Istio) -> workloads -> Entry
                                                  -> Identity..                           Alarms -> Experiments

The same parts as before stage mesh (`infra.aws.one_cluster`), once per system, and nothing of any other: what systems
have to know of each other is in the model, what they have to get from each other lies in the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pulumi
from pulumi_kubernetes import Provider

from infra.aws import fis, in_cluster
from infra.aws.alarm_plan import alarms
from infra.aws.alarms import Alarms
from infra.aws.backbone import Shared
from infra.aws.discovery import namespace_of
from infra.aws.entry import Entry
from infra.aws.fis_templates import Experiments, log_group
from infra.aws.foundation import Foundation, log_groups, store_log_groups
from infra.aws.istio import enters
from infra.aws.member import Member
from infra.aws.naming import SHARED, called, tags
from infra.aws.network_plan import PUBLIC
from infra.aws.workloads import PATIENT, database_urls, setup_job
from infra.config import Options
from infra.k8s.ingress import entries
from infra.k8s.mesh_objects import mesh_objects
from infra.k8s.names import system_namespace
from infra.k8s.objects import objects
from infra.k8s.pulumi import register
from infra.k8s.site import Site
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
        self._place = stage.system(system).cluster
        self._below = pulumi.ResourceOptions(parent=self)
        self._foundation = self._founded()
        self._site = self._site_of()
        self._identified = self._foundation.identities(self._site, shared.targets())
        cluster = self._foundation.cluster
        self._inside = Provider(
            f"{self._place}-cluster", kubeconfig=cluster.kubeconfig, enable_server_side_apply=True, opts=self._below
        )
        basics = register([in_cluster.network_policies_on()], self._inside, self, prefix=f"{self._place}/")
        self._member = Member(system, stage, options, shared, self._foundation, provider=self._inside, parent=self)
        self._spaces = self._workloads(list(basics.values()))
        self._entry = self._entered()
        self._watch()
        self.register_outputs({})

    def outputs(self) -> dict[str, Any]:
        """What people ask the stack for."""
        found: dict[str, Any] = {
            "stage": self._stage.name,
            "system": self._system,
            "owner": self._stage.system(self._system).owner,
            "cluster": self._foundation.cluster.name,
            "cluster_endpoint": self._foundation.cluster.endpoint,
            "kubeconfig": self._foundation.cluster.kubeconfig,
            "gateway": self._member.istio.gateway_host,
            "gateway_name": f"{self._place}.{namespace_of(self._options.name)}",
            "databases": {system: database.address for system, database in self._foundation.databases.items()},
            "dashboard": self._alarms.dashboard,
            "alarms": self._alarms.topic,
            "experiments": {name: template.id for name, template in self._experiments.templates.items()},
        }
        if self._entry is not None:
            found["endpoints"] = {"users": f"https://{self._options.domain}"}
            found["load_balancer"] = self._hosts()
            if self._entry.certificate.proof is not None:
                found["certificate_proof"] = self._entry.certificate.proof
        return found

    def _founded(self) -> Foundation:
        stage, options, place = self._stage, self._options, self._place
        return Foundation(
            stage,
            options,
            place,
            logs=(
                *log_groups(options, place),
                log_group(options, self._system),
                *store_log_groups(stage, options, place),
            ),
            messages=True,
            system=self._system,
            opts=self._below,
        )

    def _site_of(self) -> Site:
        """The backbone's queues and topics are what only the cloud knows."""
        queues = {name: pulumi.Output.from_input(arn).apply(queue_url) for name, arn in self._shared.queues.items()}
        site = self._foundation.site(self._foundation.told_of(queues, self._shared.topics))
        return replace(site, let_in=fis.let_in(self._stage)) if self._options.network_faults else site

    def _workloads(self, basics: list[pulumi.Resource]) -> list[pulumi.Resource]:
        """Everything inside the cluster, in waves: what pods find has to be there before them. Returns the first.

        `basics`: what is there before the first pod.
        """
        stage, site, prefix = self._stage, self._site, f"{self._place}/"
        stores = self._foundation.databases.items()
        manifests = objects(stage, site, self._place)
        spaces = register([m for m in manifests if m["kind"] == "Namespace"], self._inside, self, prefix=prefix)
        there = [*spaces.values(), *basics]
        rules = register(
            mesh_objects(stage, self._place, site),
            self._inside,
            self,
            prefix=prefix,
            depends_on=[*there, *self._member.istio.parts],
        )
        urls = [m for name, server in stores for m in database_urls(stage, site, name, server)]
        secrets = register(urls, self._inside, self, prefix=prefix, depends_on=there)
        jobs = [m for name, server in stores for m in setup_job(stage, site, self._options, name, server)]
        made = register(jobs, self._inside, self, prefix=prefix, depends_on=[*there, *self._identified])
        rest = [m for m in manifests if m["kind"] != "Namespace"]
        plain, patient = ([m for m in rest if (m["kind"] in PATIENT) is waits] for waits in (False, True))
        register(plain, self._inside, self, prefix=prefix, depends_on=there)
        ready = [*there, *self._identified, *rules.values(), *secrets.values(), *made.values()]
        register(patient, self._inside, self, prefix=prefix, depends_on=ready)
        return there

    def _entered(self) -> Entry | None:
        """How users come in, where they do."""
        if not enters(self._stage, self._place) or not self._options.domain:
            return None
        return Entry(
            self._place,
            self._options,
            tags(self._options, self._system),
            subnet_ids=self._foundation.network.ids(PUBLIC),
            provider=self._inside,
            after=self._member.istio.parts,
            parent=self,
        )

    def _hosts(self) -> dict[str, pulumi.Output[str]]:
        """Entry service -> address of its load balancer."""
        if self._entry is None:
            return {}
        here = self._stage.services_in(self._place)
        return {entry: self._entry.host for entry in entries(self._stage) if entry in here}

    def _watch(self) -> None:
        """Alarms on what the system promises; they also stop experiments."""
        scoped = replace(self._options, name=called(self._options, self._system))  # names are one account's
        things: dict[str, pulumi.Input[str]] = {
            f"queue:{name}": called(self._options, name) for name in self._shared.queues
        }
        hosts = self._hosts()
        things |= self._foundation.load_balancers(hosts)
        planned = [
            alarm
            for alarm in alarms(self._stage)
            if alarm.system == self._system and (hosts or "{load balancer" not in str(alarm.metrics))
        ]
        self._alarms = Alarms(planned, things, scoped, key=self._foundation.platform, opts=self._below)
        self._experiments = Experiments(
            self._system,
            self._stage,
            [
                drill
                for drill in fis.drills(self._stage, network_faults=self._options.network_faults)
                if drill.cluster == self._place
            ],
            self._options,
            account=self._foundation.account,
            cluster_name=self._foundation.cluster.name,
            vpc_id=self._foundation.network.vpc_id,
            namespace=system_namespace(self._stage, self._site, self._system),
            alarms=[
                pulumi.Output.format(
                    "arn:aws:cloudwatch:{0}:{1}:alarm:{2}",
                    self._options.region,
                    self._foundation.account,
                    called(scoped, alarm.name),
                )
                for alarm in planned
            ],
            log_key=self._foundation.platform,
            provider=self._inside,
            after=self._spaces,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._alarms]),
        )
