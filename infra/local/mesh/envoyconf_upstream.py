"""How does an Envoy treat those it calls? Clusters: endpoints, identity, limits, ejection. (pure)"""

from __future__ import annotations

from collections.abc import Sequence

from infra.local.mesh.envoyconf_base import Doc, Paths, assignment, metadata, seconds, tls_common, typed
from stages.mesh import Edge, server_name
from stages.model import Mesh

APP, BROKER = "app", "broker"
"""Clusters of a sidecar that are no callees."""

CONNECT_SHARE = 0.75
"""Of an attempt's time, for connecting: what could not connect is known before the time is up."""
APP_CONNECT_MS = 1000
APP_IDLE_MS = 10_000
"""Shorter than the services' keep-alive: it is the sidecar who closes, so no request meets a closing connection."""
EJECTION_INTERVAL_MS = 500
CALLEE_DEAD = r"50[24]"
"""Answers that count against a callee. A service's own 503 says that it lives; sidecars say 502 for a dead service."""
NEVER = 1_000_000
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def outbound(callee: str, version: str) -> str:
    """Name of the cluster of a version of a service.

    >>> outbound("inventory", "v1")
    'inventory_v1'
    """
    return f"{callee}_{version}"


def app(at: Sequence[str]) -> Doc:
    """The service beside this sidecar; it may not be there yet."""
    return {
        **_cluster(APP, at, APP_CONNECT_MS),
        "typed_extension_protocol_options": _http1(APP_IDLE_MS),
        "circuit_breakers": _unlimited(),
    }


def broker(at: Sequence[str]) -> Doc:
    """The broker; its clients keep their own timeouts and retries."""
    return {
        **_cluster(BROKER, at, APP_CONNECT_MS),
        "typed_extension_protocol_options": _http1(APP_IDLE_MS),
        "circuit_breakers": _unlimited(),
    }


def callee(edge: Edge, version: str, at: Sequence[str], mesh: Mesh, paths: Paths, *, ejects: bool) -> Doc:
    """A version of a callee: HTTP/2 over TLS to who can prove to be it."""
    name = outbound(edge.callee, version)
    return {
        **_cluster(name, at, int(edge.timeout_ms * CONNECT_SHARE)),
        "metadata": metadata(version=version),
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                sni=server_name(edge.callee, version, edge.callee_cluster),
                max_session_keys=0,  # resuming would skip the look at the certificates
                common_tls_context=tls_common(paths, ("h2",), edge.identity),
            ),
        },
        "typed_extension_protocol_options": {
            _OPTIONS: typed(
                _OPTIONS,
                common_http_protocol_options={"max_connection_duration": seconds(mesh.connection_age_ms)},
                explicit_http_config={"http2_protocol_options": {}},
                outlier_detection={
                    "error_matcher": {
                        "http_response_headers_match": {
                            "headers": [{"name": ":status", "string_match": {"safe_regex": {"regex": CALLEE_DEAD}}}]
                        }
                    }
                },
            )
        },
        "circuit_breakers": _limits(mesh),
        **({"outlier_detection": _ejection(mesh)} if ejects else {}),
    }


def passed_through(service: str, version: str, at: Sequence[str]) -> Doc:
    """What a gateway forwards to: TCP, no look inside."""
    name = outbound(service, version)
    return {**_cluster(name, at, APP_CONNECT_MS), "metadata": metadata(version=version)}


def _cluster(name: str, at: Sequence[str], connect_ms: int) -> Doc:
    return {
        **typed("envoy.config.cluster.v3.Cluster", name=name, type="STATIC"),
        "load_assignment": assignment(name, at),
        "connect_timeout": seconds(connect_ms),
        # without it, Envoy would ask the ejected ones once half of the endpoints are out
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }


def _http1(idle_ms: int) -> Doc:
    options = typed(
        _OPTIONS,
        common_http_protocol_options={"idle_timeout": seconds(idle_ms)},
        explicit_http_config={"http_protocol_options": {}},
    )
    return {_OPTIONS: options}


def _limits(mesh: Mesh) -> Doc:
    return {
        "thresholds": [
            {
                "priority": "DEFAULT",
                "max_requests": mesh.requests_max,
                "max_pending_requests": mesh.requests_max,
                "retry_budget": {
                    "budget_percent": {"value": mesh.retry_budget_percent},
                    "min_retry_concurrency": mesh.retries_min,
                },
                "track_remaining": True,
            }
        ]
    }


def _unlimited() -> Doc:
    """The service has its own bulkhead, and a broker's consumers wait as many at a time as they like."""
    most = {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}
    return {"thresholds": [{"priority": "DEFAULT", **most}]}


def _ejection(mesh: Mesh) -> Doc:
    """Local failures (refused, reset, timed out) and CALLEE_DEAD are counted together, as 5xx.

    Kept apart (`split_external_local_origin_errors`), timeouts would never come in a row: connecting ends the row.
    """
    return {
        "consecutive_5xx": mesh.ejected_after,
        "enforcing_consecutive_5xx": 100,
        "consecutive_gateway_failure": NEVER,  # its events would only repeat the other ones
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "interval": seconds(EJECTION_INTERVAL_MS),
        "base_ejection_time": seconds(mesh.ejection_ms),
        "max_ejection_time": seconds(mesh.ejection_ms_max),
        "max_ejection_time_jitter": "0s",
        "max_ejection_percent": 100,
    }
