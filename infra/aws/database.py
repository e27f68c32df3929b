"""Where do services keep their records? A PostgreSQL server per system, in it a database and a user per service.

A system shares a server because it shares an owner; two systems never do: who shares a server shares its outages. The
servers are in subnets without a way out and hear the cluster only. Users have no password: a service signs in with a
token that its role (Pod Identity) lets it make (`workloads.adapters.rds`). Databases and users are made by a Job in the
cluster (`infra.aws.database_job`) with the master password, which RDS keeps in Secrets Manager and rotates.
"""

from __future__ import annotations

import pulumi
from pulumi_aws import cloudwatch, rds

from infra.aws.database_setup import CA_BUNDLE
from infra.aws.naming import called, tags
from infra.aws.network import Network, StoreAt, store_group
from infra.aws.network_plan import INTRA
from infra.aws.permissions import Statement
from infra.aws.sizing import Sizing
from infra.config import Options
from stages.model import Stage

PORT = 5432
ENGINE_VERSION = "17"
"""Of PostgreSQL. Only the major one: minor ones come with the maintenance window and are no drift."""
FAMILY = "postgres17"
MASTER = "master"
LOGS = ("postgresql", "upgrade")

PARAMETERS = {
    "rds.force_ssl": "1",
    "idle_in_transaction_session_timeout": "60000",
    "log_lock_waits": "1",
}
"""Besides the family's own. A transaction that is idle for a minute (60,000 ms) holds its locks for nobody."""


def systems_with_records(stage: Stage) -> tuple[str, ...]:
    """Systems that need a server, in the stage's order."""
    return tuple(s.name for s in stage.systems if services_with_records(stage, s.name))


def services_with_records(stage: Stage, system: str) -> tuple[str, ...]:
    """Services of a system that have a database of their own."""
    return tuple(s.name for s in stage.services if s.system == system and s.database and s.store is None)


def database_log_groups(options: Options, system: str) -> tuple[str, ...]:
    """The names that RDS writes to."""
    return tuple(f"/aws/rds/instance/{called(options, system)}/{log}" for log in LOGS)


def url(address: str, service: str) -> str:
    """What a service is told: user and database of its own name, without a password, and to believe no server but one
    that AWS vouches for under this very name: a token must not be shown to anybody else.

    >>> url("shop-commerce.x.us-east-1.rds.amazonaws.com", "orders").partition("?")[0]
    'postgresql+psycopg://orders@shop-commerce.x.us-east-1.rds.amazonaws.com:5432/orders'
    """
    verified = f"sslmode=verify-full&sslrootcert={CA_BUNDLE}"
    return f"postgresql+psycopg://{service}@{address}:{PORT}/{service}?{verified}"


def user_arn(instance_arn: str, resource_id: str, user: str) -> str:
    """What a permission to sign in is about (RDS User Guide, 'IAM policy for IAM database access').

    >>> user_arn("arn:aws:rds:us-east-1:123456789012:db:shop-commerce", "db-X", "orders")
    'arn:aws:rds-db:us-east-1:123456789012:dbuser:db-X/orders'
    """
    _, partition, _, region, account, *_ = instance_arn.split(":")
    return f"arn:{partition}:rds-db:{region}:{account}:dbuser:{resource_id}/{user}"


def setup_statements(secret: str, key: str) -> tuple[Statement, ...]:
    """What the Job may do that makes databases and users: read one password."""
    return (
        Statement(sid="ReadPassword", actions=("secretsmanager:GetSecretValue",), resources=(secret,)),
        Statement(sid="DecryptPassword", actions=("kms:Decrypt",), resources=(key,)),
    )


class Database(pulumi.ComponentResource):
    """A system's server."""

    address: pulumi.Output[str]
    secret: pulumi.Output[str]
    """ARN of the master password's secret."""

    def __init__(
        self,
        system: str,
        at: StoreAt,
        options: Options,
        sizing: Sizing,
        *,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("stages:aws:Database", f"{system}-database", None, opts)
        self._system, self._options = system, options
        self._below = pulumi.ResourceOptions(parent=self)
        self._name = called(options, system)
        logs = [
            cloudwatch.LogGroup(
                f"{system}-{log}",
                name=group,
                retention_in_days=sizing.log_days,
                kms_key_id=at.log_key,
                tags=tags(options, system),
                opts=self._below,
            )
            for log, group in zip(LOGS, database_log_groups(options, system), strict=True)
        ]
        group = store_group(f"{system}-database", at, PORT, "PostgreSQL", options, system, self._below)
        made = rds.Instance(
            system,
            identifier=self._name,
            engine="postgres",
            engine_version=ENGINE_VERSION,
            instance_class=sizing.database_class,
            storage_type="gp3",
            allocated_storage=sizing.database_gib,
            max_allocated_storage=sizing.database_gib_max,
            storage_encrypted=True,
            kms_key_id=at.key,
            username=MASTER,
            manage_master_user_password=True,
            master_user_secret_kms_key_id=at.key,
            iam_database_authentication_enabled=True,
            multi_az=sizing.multi_az,
            publicly_accessible=False,
            port=PORT,
            db_subnet_group_name=self._subnets(at.network),
            vpc_security_group_ids=[group],
            parameter_group_name=self._parameters(),
            ca_cert_identifier="rds-ca-rsa2048-g1",
            backup_retention_period=sizing.backup_days,
            backup_window="02:00-03:00",
            maintenance_window="sun:03:30-sun:04:30",
            auto_minor_version_upgrade=True,
            copy_tags_to_snapshot=True,
            deletion_protection=sizing.protected,
            skip_final_snapshot=not sizing.protected,
            **({"final_snapshot_identifier": f"{self._name}-final"} if sizing.protected else {}),
            delete_automated_backups=not sizing.protected,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=at.key,
            performance_insights_retention_period=7,
            enabled_cloudwatch_logs_exports=list(LOGS),
            tags=tags(options, system),
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=sizing.protected,
                depends_on=logs,
                ignore_changes=["allocatedStorage"],  # it only ever grows, by itself; RDS refuses to take any back
            ),
        )
        self.address, self.arn, self._resource_id = made.address, made.arn, made.resource_id
        self.secret = made.master_user_secrets.apply(lambda secrets: secrets[0].secret_arn)
        self.register_outputs({"address": self.address})

    def user(self, service: str) -> pulumi.Output[str]:
        """ARN of a service's user."""
        return pulumi.Output.all(self.arn, self._resource_id).apply(lambda known: user_arn(known[0], known[1], service))

    def url(self, service: str) -> pulumi.Output[str]:
        return pulumi.Output.from_input(self.address).apply(lambda address: url(address, service))

    def _subnets(self, network: Network) -> pulumi.Output[str]:
        group = rds.SubnetGroup(
            self._system,
            name=self._name,
            description=f"Without a way out, for {self._name}",
            subnet_ids=network.ids(INTRA),
            tags=tags(self._options, self._system),
            opts=self._below,
        )
        name: pulumi.Output[str] = group.name
        return name

    def _parameters(self) -> pulumi.Output[str]:
        group = rds.ParameterGroup(
            self._system,
            name=self._name,
            family=FAMILY,
            description=f"TLS only, for {self._name}",
            parameters=[{"name": name, "value": value} for name, value in sorted(PARAMETERS.items())],
            tags=tags(self._options, self._system),
            opts=self._below,
        )
        name: pulumi.Output[str] = group.name
        return name
