"""Which words does every Envoy's configuration share? Addresses, sources of what changes, TLS, statistics. (pure)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Doc = dict[str, Any]
"""What becomes a JSON object."""

TYPE = "type.googleapis.com/"
LOOPBACK = "127.0.0.1"
TARGETS = "cds/clusters.json"
FETCH_S = 2
"""Longest wait at a start for a file that can be read but says nothing useful; then Envoy goes on without."""

DOWNSTREAM_MAX = 5000
"""Connections that an Envoy accepts: far beyond any load here, and below what its file descriptors allow."""

_CALLEE = r"cluster\.[a-z_0-9]+\."
_INCOMING = r"http\.(inbound|ingress|broker|egress_[a-z_]+)\."

STATS = (
    # what a file that changed led to: clusters, routes, secrets
    r"cluster_manager\.cds\.update_(success|failure|rejected)",
    _INCOMING + r"rds\.[a-z_]+\.update_(success|failure|rejected)",
    r"sds\..*update_(success|failure|rejected)",
    # how callees fare
    _CALLEE + r"outlier_detection\.ejections_(active|enforced_total|overflow)",
    _CALLEE + r"circuit_breakers\.default\.(rq|rq_pending|rq_retry)_open",
    _CALLEE + r"circuit_breakers\.default\.remaining_(rq|pending|retries)",
    _CALLEE + r"membership_(healthy|total)",
    _CALLEE + r"upstream_rq_([1-5]xx|total|active|timeout|per_try_timeout|active_overflow|pending_overflow)",
    _CALLEE + r"upstream_rq_retry(|_success|_overflow|_limit_exceeded)",
    _CALLEE + r"upstream_cx_(total|active|connect_fail|connect_timeout|max_duration_reached)",
    _CALLEE + r"ssl\.(handshake|connection_error|fail_.*)",
    # what comes in
    _INCOMING + r"(downstream_rq_([1-5]xx|total|active)|downstream_cx_(total|active)|rbac\.(allowed|denied))",
    r"listener\.[0-9._]+\.(downstream_cx_(total|active)|no_filter_chain_match|ssl\.(handshake|connection_error|fail_.*))",
    r"tcp\.[a-z_0-9]+\.downstream_cx_(total|no_route|rx_bytes_total|tx_bytes_total)",
    r"server\.(live|state|uptime|total_connections|memory_allocated|memory_heap_size)",
)
"""The statistics that an Envoy keeps, by name; the other nine tenths would only cost memory and time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where an Envoy's files are. Absolute; the configuration names them."""

    directory: str
    """Of bootstrap.json, cds/, rds/ and sds/."""
    traces: str
    """Of the logs of access and of outliers."""


def typed(kind: str, **fields: Any) -> Doc:
    """A value of a protobuf type: typed('envoy.config.listener.v3.Listener', ...)."""
    return {"@type": TYPE + kind, **fields}


def named(name: str, kind: str, **fields: Any) -> Doc:
    """An extension with its configuration."""
    return {"name": name, "typed_config": typed(kind, **fields)}


def address(port: int, host: str = LOOPBACK) -> Doc:
    """Where to listen or connect."""
    return {"socket_address": {"address": host, "port_value": port}}


def seconds(ms: int) -> str:
    """A duration as protobuf writes it.

    >>> seconds(2500)
    '2.5s'
    """
    return f"{ms / 1000:g}s"


def source(paths: Paths, file: str) -> Doc:
    """A file that is read again whenever another one is renamed onto it."""
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": f"{FETCH_S}s",
        "path_config_source": {"path": f"{paths.directory}/{file}"},
    }


def resources(*found: Doc) -> Doc:
    """The content of such a file."""
    return {"resources": list(found)}


def tls_common(paths: Paths, alpn: Sequence[str], peer: str | None = None) -> Doc:
    """Own certificate, the roots trusted now, and whom the other side has to be (None: anybody with a certificate)."""
    roots: Doc = {"name": "trust", "sds_config": source(paths, "sds/trust.json")}
    validation: Doc = (
        {"validation_context_sds_secret_config": roots}
        if peer is None
        else {
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}]
                },
                "validation_context_sds_secret_config": roots,
            }
        }
    )
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": list(alpn),
        "tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": source(paths, "sds/own.json")}],
        **validation,
    }


def frame(part: str, cluster: str, admin: int, paths: Paths, listeners: Sequence[Doc]) -> Doc:
    """A whole bootstrap: what stands around the listeners."""
    return {
        "node": {"id": part, "cluster": cluster},
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": list(listeners)},
        "dynamic_resources": {"cds_config": source(paths, TARGETS)},
        "cluster_manager": {"outlier_detection": {"event_log_path": f"{paths.traces}/{part}.outliers.jsonl"}},
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": r}} for r in STATS]}}
        },
        "overload_manager": {
            "resource_monitors": [
                named(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=DOWNSTREAM_MAX,
                )
            ]
        },
    }


def assignment(name: str, addresses: Sequence[str]) -> Doc:
    """The endpoints of a cluster; no addresses are endpoints, too.

    Raise ValueError for an address that is not host:port.
    """
    endpoints = [{"lb_endpoints": [_endpoint(a) for a in addresses]}] if addresses else []
    return {"cluster_name": name, "endpoints": endpoints}


def _endpoint(text: str) -> Doc:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return {"endpoint": {"address": address(int(port), host)}}


def metadata(**fields: str) -> Mapping[str, Any]:
    """What access logs may say of a cluster."""
    return {"filter_metadata": {"shop": dict(fields)}}
