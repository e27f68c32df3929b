"""How is a cluster's network cut up? Subnets over three zones, and what each may reach. (pure)

    10.0.0.0/16    private  3 x /19   10.0.0.0   .32.0   .64.0     nodes and pods; out by NAT
                   public   3 x /24   10.0.96.0  .97.0   .98.0     load balancers and NAT gateways
                   intra    3 x /24   10.0.100.0 .101.0  .102.0    databases, brokers, endpoints; no way out
                   the rest is free

Pods have addresses of the subnet (the VPC's own CNI): 8,187 per zone. The cuts are relative, other sizes scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

PUBLIC, PRIVATE, INTRA = "public", "private", "intra"
TIERS = (PUBLIC, PRIVATE, INTRA)

_CUT = {PRIVATE: (3, 0), PUBLIC: (8, 96), INTRA: (8, 100)}
"""Tier -> bits by which its subnets are longer than the network, number of the first one among such."""

LONGEST_PREFIX = 20
"""AWS's smallest subnet is a /28: 20 + 8."""

ROLE = {PUBLIC: "kubernetes.io/role/elb", PRIVATE: "kubernetes.io/role/internal-elb"}
"""Tier -> tag by which EKS finds the subnets of a load balancer (EKS User Guide, 'Subnet tags')."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One subnet."""

    name: str
    """Tier and the zone's letter: 'private-a'."""
    tier: str
    zone: str
    cidr: str
    public: bool
    """Whether what starts in it gets a public address; never: load balancers and NAT bring their own."""
    tags: tuple[tuple[str, str], ...]
    """Besides everything's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """A VPC."""

    cidr: str
    subnets: tuple[Subnet, ...]
    """By tier, then zone."""
    nat: tuple[tuple[str, str], ...]
    """Private subnet -> the public one whose NAT gateway it uses."""

    def tier(self, tier: str) -> tuple[Subnet, ...]:
        return tuple(subnet for subnet in self.subnets if subnet.tier == tier)

    @property
    def gateways(self) -> tuple[str, ...]:
        """Public subnets with a NAT gateway."""
        return tuple(dict.fromkeys(public for _, public in self.nat))


def network_plan(cidr: str, zones: tuple[str, ...], *, nat_per_zone: bool) -> NetworkPlan:
    """Cut a network up. Raise ValueError for one that is too small, or not three zones.

    >>> [s.cidr for s in network_plan("10.0.0.0/16", ("x-1a", "x-1b", "x-1c"), nat_per_zone=True).tier("private")]
    ['10.0.0.0/19', '10.0.32.0/19', '10.0.64.0/19']
    """
    network = IPv4Network(cidr)
    if len(zones) != 3:
        raise ValueError(f"a network lies in three zones, not in {len(zones)}: {', '.join(zones)}")
    if network.prefixlen > LONGEST_PREFIX:
        raise ValueError(f"network {cidr} is too small: a /{LONGEST_PREFIX} or larger is needed")
    subnets = tuple(_subnet(network, tier, zone, n) for tier in TIERS for n, zone in enumerate(zones))
    public = [s.name for s in subnets if s.tier == PUBLIC]
    private = [s.name for s in subnets if s.tier == PRIVATE]
    ways = tuple((name, public[n if nat_per_zone else 0]) for n, name in enumerate(private))
    return NetworkPlan(cidr=cidr, subnets=subnets, nat=ways)


def _subnet(network: IPv4Network, tier: str, zone: str, number: int) -> Subnet:
    longer, first = _CUT[tier]
    size = 2 ** (network.max_prefixlen - network.prefixlen - longer)
    start = network.network_address + (first + number) * size
    return Subnet(
        name=f"{tier}-{zone[-1]}",
        tier=tier,
        zone=zone,
        cidr=f"{start}/{network.prefixlen + longer}",
        public=False,
        tags=((ROLE[tier], "1"),) if tier in ROLE else (),
    )


GATEWAY_ENDPOINTS = ("s3",)
"""Free, and every layer of an image comes from S3."""

STARTING = ("ecr.api", "ecr.dkr", "eks-auth", "sts", "logs")
"""What a pod needs to start and to be somebody (image, Pod Identity), and to tell of it."""

MESSAGING = ("sqs", "sns")
"""What a service needs to send and receive; with it a message never leaves the VPC."""


def interface_endpoints(*, messages: bool, wanted: bool) -> tuple[str, ...]:
    """APIs of AWS with an address in the VPC. Each costs by the hour and zone, so only where traffic or safety pays."""
    return (*STARTING, *(MESSAGING if messages else ())) if wanted else ()
