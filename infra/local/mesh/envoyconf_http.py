"""What does an Envoy do with a request? Listeners, filters, what it answers itself, and what it writes down. (pure)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.local.mesh.envoyconf_base import Doc, Paths, address, named

MEDIA_TYPE = "application/problem+json"
NEVER_SENT = ("UF", "UH", "UO", "NR", "UAEX", "LH")
"""Response flags of requests that surely no service saw: no connection, nobody healthy, too many, no route, refused."""

_TITLE = "Another service is needed and does not answer"
_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def listener(name: str, port: int, chains: Sequence[Doc], *, inspects: bool = False) -> Doc:
    """A port on loopback. `inspects`: whether the chain depends on the TLS greeting."""
    inspector = named(
        "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    )
    return {
        "name": name,
        "address": address(port),
        "enable_reuse_port": True,
        **({"listener_filters": [inspector]} if inspects else {}),
        "filter_chains": list(chains),
    }


def manager(
    name: str, routing: Doc, *, filters: Sequence[Doc] = (), replies: Doc, log: Doc | None, identifies: bool = False
) -> Doc:
    """The HTTP filter of a listener.

    `routing`: 'rds' or 'route_config'. `log`: None where nothing is written down. `identifies`: whether the service is
    told who called, by a header that nobody else can set.
    """
    forwarding: Doc = (
        {"forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"uri": True}}
        if identifies
        else {"forward_client_cert_details": "SANITIZE"}
    )
    router = named(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        suppress_envoy_headers=True,
    )
    return named(
        "envoy.filters.network.http_connection_manager",
        _HCM,
        stat_prefix=name,
        **routing,
        **forwarding,
        http_filters=[*filters, router],
        local_reply_config=replies,
        access_log=[] if log is None else [log],
        generate_request_id=False,
        skip_xff_append=True,
        server_header_transformation="PASS_THROUGH",
        stream_idle_timeout="0s",  # routes have their own limits; a broker's long poll has none
        http2_protocol_options={"max_concurrent_streams": 1000},
    )


def everything_to(cluster: str) -> Doc:
    """Routing without choice: no timeout and no retry, these are the caller's."""
    host = {
        "name": cluster,
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}],
    }
    # clusters come later, from a file
    return {"route_config": {"name": cluster, "virtual_hosts": [host], "validate_clusters": False}}


def allow(callers: Sequence[str]) -> Doc:
    """Role-based access: these identities may call, nobody else; none may if there are none."""
    principals = [{"authenticated": {"principal_name": {"exact": caller}}} for caller in callers]
    policies: Doc = {"callers": {"permissions": [{"any": True}], "principals": principals}} if callers else {}
    return named(
        "envoy.filters.http.rbac",
        "envoy.extensions.filters.http.rbac.v3.RBAC",
        rules={"action": "ALLOW", "policies": policies},
    )


def replies(*, inbound: bool) -> Doc:
    """What Envoy answers itself, as the problem documents that services answer.

    `inbound`: it speaks for a service that does not answer (502), not for a callee (503).
    """
    gone = 502 if inbound else None
    mappers = [
        *([_mapper(_status("EQ", 403), _not_allowed())] if inbound else []),
        _mapper(_flags("NR"), _unavailable(definite=True), status=503),
        _mapper(_all(_flags(*NEVER_SENT), _first_attempt()), _unavailable(definite=True), status=gone),
        _mapper(_status("GE", 500), _unavailable(definite=False), status=gone),
    ]
    return {"mappers": mappers, "body_format": _refused()}


def access_log(path: str, fields: Mapping[str, str | None]) -> Doc:
    """A JSON line per request: what is known beforehand, and what the request was like."""
    return named(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=path,
        log_format={
            "json_format": {
                "start": "%START_TIME(%s.%6f)%",
                **{k: v for k, v in fields.items() if v is not None},
                "method": "%REQ(:METHOD)%",
                "path": "%REQ(:PATH)%",
                "status": "%RESPONSE_CODE%",
                "flags": "%RESPONSE_FLAGS%",
                "duration_ms": "%DURATION%",
                "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
                "upstream_ms": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:ms)%",
                "bytes": "%BYTES_SENT%",
                "traceparent": "%REQ(TRACEPARENT)%",
                "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            }
        },
    )


def log_path(paths: Paths, part: str) -> str:
    """Where a part writes its access log."""
    return f"{paths.traces}/{part}.access.jsonl"


def _mapper(matches: Doc, body: Doc, *, status: int | None = None) -> Doc:
    return {"filter": matches, "body_format_override": body, **({} if status is None else {"status_code": status})}


def _flags(*flags: str) -> Doc:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(comparison: str, code: int) -> Doc:
    value = {"default_value": code, "runtime_key": "unused.local_reply"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _first_attempt() -> Doc:
    """What an earlier attempt did is not known here, so only a first one can surely not have been sent."""
    name = "x-envoy-attempt-count"
    absent = {"header_filter": {"header": {"name": name, "present_match": False}}}
    first = {"header_filter": {"header": {"name": name, "string_match": {"exact": "1"}}}}
    return {"or_filter": {"filters": [absent, first]}}


def _all(*filters: Doc) -> Doc:
    return {"and_filter": {"filters": list(filters)}}


def _problem(name: str, title: str, detail: str, *, definite: bool) -> Doc:
    document = {
        "type": f"urn:shop:problem:{name}",
        "title": title,
        "status": "%RESPONSE_CODE%",
        "detail": detail,
        "definite": definite,
    }
    return {"json_format": document, "content_type": MEDIA_TYPE}


def _unavailable(*, definite: bool) -> Doc:
    return _problem("dependency-unavailable", _TITLE, "mesh: %RESPONSE_FLAGS%", definite=definite)


def _not_allowed() -> Doc:
    title = "The caller may not call this service"
    return _problem("not-allowed", title, "mesh: %DOWNSTREAM_PEER_URI_SAN%", definite=True)


def _refused() -> Doc:
    """Not for the services: Envoy could not even read the request."""
    return _problem("http-refused", "The request was refused", "mesh: %LOCAL_REPLY_BODY%", definite=True)
