"""How is each Envoy of the mesh configured? Everything that it reads, as dicts that become JSON files. (pure)

A sidecar has a listener per named port, all on loopback, and a cluster per row on the right:

    users   -> ingress  (HTTP) --------------------------> app         the service beside it
    callers -> inbound  (mTLS, h2 or h1) -- RBAC --------> app
    app     -> egress_inventory (HTTP) -- split, retries -> inventory_v1, inventory_v2    (mTLS, h2)
    app     -> broker   (HTTP) --------------------------> broker

A gateway has one listener, and looks only at the server name of the TLS greeting:

    other clusters -> mtls (TCP) -- 'v1.inventory.fulfilment.shop' -> inventory_v1, one per service and version

What never changes is in bootstrap.json; what does, in a file of its own that the control plane replaces by renaming
another one onto it. Envoy keeps what it knew if the new file makes no sense:

    cds/clusters.json    clusters and their endpoints, by the names on the right
    rds/<listener>.json  routes of an egress listener
    sds/own.json         certificate and key        sds/trust.json   roots

All of them must exist before Envoy starts, so bootstrap.json is written last. Endpoints have no files of their own:
Envoy opens an inotify instance per file, and Linux grants a user 128 of them (fs.inotify.max_user_instances), less than
two such shops would need. A cluster whose endpoints did not change is left as it is; one that is replaced lets its
requests end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from infra.local.mesh import envoyconf_http as http
from infra.local.mesh import envoyconf_upstream as upstream
from infra.local.mesh.envoyconf_base import TARGETS, Doc, Paths, frame, named, resources, source, tls_common, typed
from infra.local.mesh.envoyconf_routes import route_configuration
from infra.local.mesh.envoyconf_upstream import APP, BROKER, outbound
from stages.mesh import CANARY, STABLE, ClusterPlan, Edge, Member, gateway_of, server_name, sidecar_of

__all__ = [
    "APP",
    "BOOTSTRAP",
    "BROKER",
    "Doc",
    "Paths",
    "bootstrap",
    "gateway_bootstrap",
    "gateway_targets",
    "outbound",
    "port_names",
    "routes",
    "secrets",
    "targets",
]

BOOTSTRAP = "bootstrap.json"
VERSIONS = (STABLE, CANARY)
GATEWAY_PORT = "mtls"


def egress_port(callee: str) -> str:
    """Name of the port, listener and routes for a callee.

    >>> egress_port("inventory")
    'egress_inventory'
    """
    return f"egress_{callee}"


def port_names(member: Member) -> tuple[str, ...]:
    """Ports that a member's sidecar has, besides 'admin'."""
    return (
        "inbound",
        *(("ingress",) if member.ingress else ()),
        *(egress_port(e.callee) for e in member.edges),
        *((BROKER,) if member.broker else ()),
    )


def bootstrap(
    plan: ClusterPlan,
    member: Member,
    ports: Mapping[str, int],
    paths: Paths,
    *,
    disabled: Collection[str] = (),
    part: str | None = None,
    version: str = STABLE,
) -> Doc:
    """bootstrap.json of a sidecar.

    `ports` has 'admin' and every one of `port_names`; further ones are ignored. `disabled`: words of the deployment's
    variant; 'policy' and 'mtls' mean something here. `part` and `version` differ for a canary's.
    Raise KeyError for a port that is missing.
    """
    name = part or sidecar_of(member.service)
    side = _Side(name, version, plan, paths)
    listeners = [_inbound(side, member, ports["inbound"], disabled)]
    if member.ingress:
        listeners.append(_plain(side, "ingress", ports["ingress"], http.everything_to(APP), side.log("ingress")))
    listeners += [_egress(side, e, ports[egress_port(e.callee)]) for e in member.edges]
    if member.broker:
        listeners.append(_plain(side, BROKER, ports[BROKER], http.everything_to(BROKER), None))
    return frame(name, plan.cluster, ports["admin"], paths, listeners)


def gateway_bootstrap(plan: ClusterPlan, ports: Mapping[str, int], paths: Paths) -> Doc:
    """bootstrap.json of a cluster's gateway. `ports`: 'admin' and 'mtls'."""
    chains = [
        {
            "filter_chain_match": {"server_names": [server_name(m.service, version, plan.cluster)]},
            "filters": [
                named(
                    "envoy.filters.network.tcp_proxy",
                    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    stat_prefix=outbound(m.service, version),
                    cluster=outbound(m.service, version),
                )
            ],
        }
        for m in plan.members
        for version in VERSIONS
    ]
    listeners = [http.listener(GATEWAY_PORT, ports[GATEWAY_PORT], chains, inspects=True)]
    return frame(gateway_of(plan.cluster), plan.cluster, ports["admin"], paths, listeners)


def targets(
    plan: ClusterPlan,
    member: Member,
    known: Mapping[str, Sequence[str]],
    paths: Paths,
    *,
    disabled: Collection[str] = (),
) -> dict[str, Doc]:
    """The file of a member's sidecar that says whom it calls and where they are: file name -> content.

    `known`: 'host:port' of endpoints by APP, BROKER or `outbound(callee, version)`; what is not in it has none.
    `disabled`: 'outlier-detection' means something here. Raise ValueError for what is not host:port.
    """
    ejects = "outlier-detection" not in disabled
    found = [upstream.app(known.get(APP, ()))]
    for e in member.edges:
        for v in VERSIONS:
            at = known.get(outbound(e.callee, v), ())
            found.append(upstream.callee(e, v, at, plan.mesh, paths, ejects=ejects))
    if member.broker:
        found.append(upstream.broker(known.get(BROKER, ())))
    return {TARGETS: resources(*found)}


def gateway_targets(plan: ClusterPlan, known: Mapping[str, Sequence[str]]) -> dict[str, Doc]:
    """The same for a gateway. `known`: by `outbound(service, version)`."""
    names = ((m.service, v) for m in plan.members for v in VERSIONS)
    return {TARGETS: resources(*(upstream.passed_through(s, v, known.get(outbound(s, v), ())) for s, v in names))}


def routes(member: Member, splits: Mapping[str, Mapping[str, int]]) -> dict[str, Doc]:
    """Files of routes of a member's sidecar: file name -> content.

    `splits`: callee -> percent of its calls per version other than v1, such as {"inventory": {"v2": 10}}; v1 gets the
    rest. Raise ValueError for shares that are not 0 to 100 in all.
    """
    return {
        f"rds/{egress_port(e.callee)}.json": resources(
            route_configuration(egress_port(e.callee), e, splits.get(e.callee, {}))
        )
        for e in member.edges
    }


def secrets(chain: str, key: str, roots: str) -> dict[str, Doc]:
    """Files of secrets: file name -> content. PEM texts: own chain, its private key, roots trusted now."""
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    own = {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}
    return {
        "sds/own.json": resources(typed(kind, name="own", tls_certificate=own)),
        "sds/trust.json": resources(
            typed(kind, name="trust", validation_context={"trusted_ca": {"inline_string": roots}})
        ),
    }


class _Side:
    """Whose configuration is written, and what its log lines say of it."""

    def __init__(self, part: str, version: str, plan: ClusterPlan, paths: Paths) -> None:
        self.part, self.version, self.plan, self.paths = part, version, plan, paths

    def log(self, side: str, edge: Edge | None = None) -> Doc:
        crosses = edge is not None and edge.callee_cluster != self.plan.cluster
        fields = {
            "side": side,
            "part": self.part,
            "edge": None if edge is None else edge.channel,
            "version": self.version if edge is None else "%METADATA(CLUSTER:shop:version)%",
            "peer": "%DOWNSTREAM_PEER_URI_SAN%" if side == "in" else None,
            "gateway": gateway_of(edge.callee_cluster) if edge is not None and crosses else None,
        }
        return http.access_log(http.log_path(self.paths, self.part), fields)


def _inbound(side: _Side, member: Member, port: int, disabled: Collection[str]) -> Doc:
    rules = [] if "policy" in disabled else [http.allow(member.callers)]

    def served(filters: Sequence[Doc]) -> list[Doc]:
        return [
            http.manager(
                "inbound",
                http.everything_to(APP),
                filters=filters,
                replies=http.replies(inbound=True),
                log=side.log("in"),
                identifies=True,
            )
        ]

    tls = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            require_client_certificate=True,
            disable_stateless_session_resumption=True,  # resuming would skip the look at the certificates
            disable_stateful_session_resumption=True,
            common_tls_context=tls_common(side.paths, ("h2", "http/1.1")),
        ),
    }
    proven: Doc = {"filters": served(rules), "transport_socket": tls}
    if "mtls" not in disabled:
        return http.listener("inbound", port, [proven])
    encrypted = {"filter_chain_match": {"transport_protocol": "tls"}, **proven}
    plain = {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": served([])}
    return http.listener("inbound", port, [encrypted, plain], inspects=True)


def _plain(side: _Side, name: str, port: int, routing: Doc, log: Doc | None) -> Doc:
    inbound = name == "ingress"
    served = http.manager(name, routing, replies=http.replies(inbound=inbound), log=log)
    return http.listener(name, port, [{"filters": [served]}])


def _egress(side: _Side, edge: Edge, port: int) -> Doc:
    name = egress_port(edge.callee)
    dynamic = {"rds": {"route_config_name": name, "config_source": source(side.paths, f"rds/{name}.json")}}
    return _plain(side, name, port, dynamic, side.log("out", edge))
