"""Which class does a fault belong to, and in which order are its rows shown?

A document may say the class of a fault; where it does not, the name does: fault names end or begin with
a word of the catalogue ('payments-killed', 'orders-payments-latency', 'cluster-shop-outage').
"""

from __future__ import annotations

CLASSES = ("process", "wire", "dependency", "broker", "cluster", "mesh", "other")
"""From the smallest victim to the largest."""

TITLES = {
    "process": "one process dies or hangs",
    "wire": "one network path is bad",
    "dependency": "one database is slow or locked",
    "broker": "the broker or a message is bad",
    "cluster": "a whole cluster is lost, frozen or cut off",
    "mesh": "discovery, gateways, identity or a new version fail",
    "other": "other faults",
}

# Looked up in this order: 'broker-outage' is the broker's fault, 'payments-database-slow' a database's.
_WORDS: tuple[tuple[str, frozenset[str]], ...] = (
    (
        "broker",
        frozenset(
            {"broker", "queue", "topic", "throttle", "throttled", "duplicate", "duplicated", "duplicates", "poison"}
            | {"poisoned"}
        ),
    ),
    (
        "mesh",
        frozenset(
            {"discovery", "registry", "gateway", "certificate", "identity", "mesh"}
            | {"sidecar", "control", "garbage", "root", "canary"}
        ),
    ),
    ("cluster", frozenset({"cluster", "outage", "partition", "partitioned"})),
    ("dependency", frozenset({"database", "db", "locked"})),
    ("process", frozenset({"kill", "killed", "pause", "paused", "starve", "starved", "cpu"})),
    (
        "wire",
        frozenset({"latency", "slow", "blackhole", "blackholed", "reset", "refuse", "refused", "bandwidth", "narrow"}),
    ),
)


def fault_class(name: str) -> str:
    """The class a fault's name speaks of, 'other' if it speaks of none.

    >>> fault_class("payments-killed"), fault_class("orders-payments-latency"), fault_class("broker-outage")
    ('process', 'wire', 'broker')
    """
    words = set(name.lower().replace("_", "-").split("-"))
    return next((group for group, known in _WORDS if words & known), "other")
