"""Which version does a call go to, how long may it take, and may it be tried again? Routes of one edge. (pure)"""

from __future__ import annotations

from collections.abc import Mapping

from infra.local.mesh.envoyconf_base import Doc, seconds, typed
from infra.local.mesh.envoyconf_upstream import outbound
from stages.mesh import STABLE, Edge
from stages.model import BACKOFF_MS_MAX

RETRY_ON = "connect-failure,refused-stream,reset,gateway-error"
IDEMPOTENT = "GET|HEAD|PUT|DELETE"


def route_configuration(name: str, edge: Edge, shares: Mapping[str, int]) -> Doc:
    """Routes of one egress listener.

    What may be repeated is told by its method, or by the key that its receiver knows it again by; everything else gets
    one attempt and its time.
    """
    target = _target(edge, shares)
    once = {**target, "timeout": seconds(edge.timeout_ms)}
    found = [{"match": {"prefix": "/"}, "route": once}]
    if edge.attempts > 1:
        again = {**target, "timeout": seconds(edge.reaction_ms), "retry_policy": _retries(edge)}
        method = {"name": ":method", "string_match": {"safe_regex": {"regex": IDEMPOTENT}}}
        key = {"name": "idempotency-key", "present_match": True}
        found = [{"match": {"prefix": "/", "headers": [h]}, "route": again} for h in (method, key)] + found
    host = {
        "name": edge.callee,
        "domains": ["*"],
        "include_request_attempt_count": True,
        "include_attempt_count_in_response": True,
        "routes": found,
    }
    return typed("envoy.config.route.v3.RouteConfiguration", name=name, virtual_hosts=[host])


def _target(edge: Edge, shares: Mapping[str, int]) -> Doc:
    others = {v: share for v, share in sorted(shares.items()) if v != STABLE and share}
    rest = 100 - sum(others.values())
    if rest < 0 or any(share < 0 for share in others.values()):
        raise ValueError(f"{edge.callee}: shares {dict(shares)} are not 0 to 100 percent in all")
    if not others:
        return {"cluster": outbound(edge.callee, STABLE)}
    weights = [(STABLE, rest), *others.items()]
    return {"weighted_clusters": {"clusters": [{"name": outbound(edge.callee, v), "weight": w} for v, w in weights]}}


def _retries(edge: Edge) -> Doc:
    return {
        "retry_on": RETRY_ON,
        "num_retries": edge.attempts - 1,
        "per_try_timeout": seconds(edge.timeout_ms),
        "retry_back_off": {"base_interval": seconds(BACKOFF_MS_MAX // 2), "max_interval": seconds(BACKOFF_MS_MAX)},
    }
