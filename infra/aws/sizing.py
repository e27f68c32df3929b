"""How big is a deployment on AWS, and what may be lost of it? Two sizes, chosen by the configuration key `size`.

`production` survives the loss of a zone and of whoever types `pulumi destroy` too early. `trial` is for an afternoon:
the same graph, with one of everything that is paid by the hour, and nothing that outlives its stack. The way to take a
production down leads through `trial`: that lifts every protection.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Numbers of a size. What both share is written where it is used."""

    name: str
    nat_per_zone: bool
    """False: one NAT gateway in the first zone; its zone's loss takes every way out along."""
    interface_endpoints: bool
    """Whether AWS's APIs are reached without the NAT gateway: image pulls, credentials, messages."""
    multi_az: bool
    """Whether each database has a standby in another zone."""
    database_class: str
    """Graviton; must support Performance Insights."""
    database_gib: int
    database_gib_max: int
    """Storage grows by itself up to this: the same in both sizes, for it may not be less than what is there."""
    backup_days: int
    log_days: int
    """A number that CloudWatch Logs knows."""
    kafka_class: str
    """An Express broker; it cannot be changed in place."""
    protected: bool
    """Whether databases, keys and images refuse to be deleted."""
    replicas: tuple[int, int]
    """Fewest and most pods of a service."""


PRODUCTION = Sizing(
    name="production",
    nat_per_zone=True,
    interface_endpoints=True,
    multi_az=True,
    database_class="db.m7g.large",
    database_gib=50,
    database_gib_max=500,
    backup_days=14,
    log_days=90,
    kafka_class="express.m7g.large",
    protected=True,
    replicas=(3, 12),
)

TRIAL = Sizing(
    name="trial",
    nat_per_zone=False,
    interface_endpoints=False,
    multi_az=False,
    database_class="db.t4g.medium",
    database_gib=20,
    database_gib_max=500,
    backup_days=1,
    log_days=7,
    kafka_class="express.m7g.large",
    protected=False,
    replicas=(2, 4),
)

SIZES = {size.name: size for size in (PRODUCTION, TRIAL)}
"""By name."""
