"""What may a request body say? JSON in, a frozen spec out, or Invalid with every problem at once. (pure)"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from infra.local.errors import Invalid
from infra.local.faultspec import KINDS
from infra.local.state import (
    SERVICE,
    AuthoritySpec,
    BrokerSpec,
    Canary,
    ClusterSpec,
    QueueSpec,
    ServiceSpec,
    SubscriptionSpec,
    TopicSpec,
    WireSpec,
)
from infra.naming import deployment_problems, queue_problems, resource_problems, word_problems
from stages.mesh import CANARY, STABLE

TTL_MAX_S = 3600.0
"""A lease that nobody renews must not outlive an afternoon."""

VISIBILITY_MAX_S = 43_200
"""What SQS allows."""

ROLES = (SERVICE, "sidecar", "gateway", "control")

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PORT = re.compile(r"[a-z_]+")
_PORT_USED = re.compile(r"\{port:([^}]*)\}")


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    stage: str
    run_id: str
    variant: str | None
    owner_pid: int | None
    preload: tuple[str, ...] = ()
    """Modules that its nursery is to import, at once: its clusters are asked for later."""


class Body:
    """Reads typed fields and gathers what is wrong with them."""

    def __init__(self, what: str, raw: object) -> None:
        self._what = what
        self.found: list[str] = []
        self._raw: dict[str, Any] = raw if isinstance(raw, dict) else {}
        self._seen: set[str] = set()
        if not isinstance(raw, dict):
            self.found.append(f"the body must be a JSON object, not {type(raw).__name__}")

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str) or not value:
            self.found.append(f"{name} is {value!r}, must be a text")
            return ""
        return value

    def maybe_text(self, name: str) -> str | None:
        value = self._get(name, None)
        if value is not None and (not isinstance(value, str) or not value):
            self.found.append(f"{name} is {value!r}, must be a text or null")
            return None
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.found.append(f"{name} is {value!r}, must be a list of texts")
            return ()
        return tuple(value)

    def mapping(self, name: str) -> dict[str, str]:
        value = self._get(name, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            self.found.append(f"{name} must be an object whose values are texts")
            return {}
        found = [key for key, item in value.items() if not key or "=" in key or "\0" in key + item]
        if found:
            self.found.append(f"{name} has {found!r}, which an environment cannot hold")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self._get(name, None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.found.append(f"{name} is {value!r}, must be a number from {low:g} to {high:g}")
            return low
        return value

    def maybe_whole(self, name: str, low: int, high: int) -> int | None:
        value = self._get(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.found.append(f"{name} is {value!r}, must be a whole number from {low} to {high}, or null")
            return None
        return value

    def yes_or_no(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            self.found.append(f"{name} is {value!r}, must be true or false")
        return value is True

    def maybe_pid(self, name: str) -> int | None:
        value = self._get(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            self.found.append(f"{name} is {value!r}, must be a process id or null")
            return None
        return value

    def raw(self, name: str) -> object:
        return self._get(name, None)

    def done(self) -> None:
        """Raise Invalid if anything was wrong, unknown fields included."""
        self.found += [f"unknown field {name!r}" for name in sorted(self._raw.keys() - self._seen)]
        if self.found:
            raise Invalid.of(self._what, self.found)

    def _get(self, name: str, default: object) -> Any:
        self._seen.add(name)
        return self._raw.get(name, default)


def check_names(deployment: str, kind: str | None = None, name: str | None = None) -> None:
    """Names of the address; a wrong one could leave its directory. Raise Invalid."""
    found = deployment_problems(deployment)
    if kind is not None and name is not None:
        rule = {"lease": word_problems, "queue": queue_problems, "topic": queue_problems}.get(kind, resource_problems)
        found += rule(kind, name)
    if found:
        raise Invalid.of("address", found)


def read_deployment(raw: object) -> DeploymentRequest:
    body = Body("deployment", raw)
    request = DeploymentRequest(
        body.text("stage"),
        body.text("run_id"),
        body.maybe_text("variant"),
        body.maybe_pid("owner_pid"),
        body.texts("preload"),
    )
    body.found += _no_modules(request.preload)
    if request.run_id:
        body.found += word_problems("run id", request.run_id)
    body.done()
    return request


def _no_modules(preload: Sequence[str]) -> list[str]:
    return [f"preload names {name!r}, which is no module" for name in preload if not _MODULE.fullmatch(name)]


def read_cluster(raw: object) -> ClusterSpec:
    body = Body("cluster", raw)
    spec = ClusterSpec(body.text("network"), body.texts("preload"), body.yes_or_no("nursery"))
    try:
        ipaddress.ip_network(spec.network)
    except ValueError as error:
        body.found.append(f"network is {spec.network!r}: {error}")
    body.found += _no_modules(spec.preload)
    body.done()
    return spec


def read_wire(raw: object) -> WireSpec:
    body = Body("wire", raw)
    spec = WireSpec(body.text("caller"), body.text("callee"), body.maybe_text("to"), body.maybe_text("port"))
    if (spec.to is None) != (spec.port is None):
        body.found.append("to and port must be given together")
    body.done()
    return spec


def read_ports(raw: object) -> tuple[str, ...]:
    body = Body("port", raw)
    names = body.texts("names")
    body.found += _port_problems(names)
    body.done()
    return names


def read_registry(raw: object) -> BrokerSpec:
    Body("registry", raw).done()
    return BrokerSpec()


def read_authority(raw: object) -> AuthoritySpec:
    body = Body("authority", raw)
    spec = AuthoritySpec(body.text("trust_domain"), body.texts("clusters"))
    if not spec.clusters:
        body.found.append("clusters is empty, must name some")
    body.found += [problem for name in spec.clusters for problem in resource_problems("cluster", name)]
    body.done()
    return spec


def read_canary(raw: object) -> Canary:
    body = Body("canary", raw)
    canary = Canary(int(body.number("share_percent", 0, 100)), body.text("defect", "none"))
    (defects,) = KINDS["canary"].words
    if canary.defect not in defects.known:
        body.found.append(f"defect is {canary.defect!r}, not one of {', '.join(defects.known)}")
    body.done()
    return canary


def _port_problems(names: tuple[str, ...]) -> list[str]:
    return [f"port name {n!r} may hold only lower-case letters and '_'" for n in names if not _PORT.fullmatch(n)]


def read_database(raw: object) -> None:
    Body("database", raw).done()


def read_broker(raw: object) -> BrokerSpec:
    body = Body("broker", raw)
    spec = BrokerSpec(body.maybe_text("url"), body.text("region", "us-east-1"), body.mapping("env"))
    if spec.url is not None:
        body.found += broker_url_problems("url", spec.url)
    body.done()
    return spec


def broker_url_problems(what: str, url: str) -> list[str]:
    """Why this cannot be the address of a user's own broker."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        good = good and not parts.query and parts.port != 0
    except ValueError:
        good = False
    return [] if good or url == "aws" else [f"{what} is {url!r}; give http://host:port, https://host or 'aws'"]


def read_queue(name: str, raw: object) -> QueueSpec:
    body = Body("queue", raw)
    spec = QueueSpec(
        broker=body.text("broker"),
        visibility_timeout_s=int(body.number("visibility_timeout_s", 1, VISIBILITY_MAX_S)),
        fifo=body.yes_or_no("fifo"),
        dead_letters=body.maybe_text("dead_letters"),
        max_receives=body.maybe_whole("max_receives", 1, 1000),
    )
    if spec.dead_letters is not None and spec.dead_letters.endswith(".fifo") != spec.fifo:
        body.found.append(f"dead_letters is {spec.dead_letters!r}, must be of the same type as the queue")
    if spec.dead_letters == name:
        body.found.append(f"dead_letters is {name!r}, the queue itself")
    if (spec.dead_letters is None) != (spec.max_receives is None):
        body.found.append("dead_letters and max_receives must be given together")
    body.found += _fifo_problems(name, spec.fifo)
    body.done()
    return spec


def read_topic(name: str, raw: object) -> TopicSpec:
    body = Body("topic", raw)
    spec = TopicSpec(body.text("broker"), body.yes_or_no("fifo"))
    body.found += _fifo_problems(name, spec.fifo)
    body.done()
    return spec


def _fifo_problems(name: str, fifo: bool) -> list[str]:
    return [] if name.endswith(".fifo") == fifo else [f"fifo is {fifo}, but the name is {name!r}"]


def read_subscription(raw: object) -> SubscriptionSpec:
    body = Body("subscription", raw)
    spec = SubscriptionSpec(body.text("broker"), body.text("topic"), body.text("queue"), body.texts("messages"))
    if spec.queue.endswith(".fifo") and not spec.topic.endswith(".fifo"):
        body.found.append(f"queue {spec.queue!r} can only be fed by a FIFO topic, not by {spec.topic!r}")
    body.done()
    return spec


def read_service(raw: object) -> ServiceSpec:
    body = Body("service", raw)
    spec = ServiceSpec(
        cluster=body.text("cluster"),
        module=body.text("module"),
        args=body.texts("args"),
        env=body.mapping("env"),
        ready_path=body.text("ready_path", "/ready"),
        database=body.maybe_text("database"),
        role=body.text("role", SERVICE),
        of=body.maybe_text("of"),
        version=body.text("version", STABLE),
        ports=body.texts("ports"),
    )
    if spec.role not in ROLES:
        body.found.append(f"role is {spec.role!r}, not one of {', '.join(ROLES)}")
    if spec.version not in (STABLE, CANARY):
        body.found.append(f"version is {spec.version!r}, not {STABLE!r} or {CANARY!r}")
    body.found += _port_problems(spec.ports)
    used = {name for text in (*spec.args, *spec.env.values()) for name in _PORT_USED.findall(text)}
    body.found += [f"'{{port:{name}}}' is used, but there is no port {name!r}" for name in sorted(used - {*spec.ports})]
    if spec.module and not _MODULE.fullmatch(spec.module):
        body.found.append(f"module is {spec.module!r}, not a module's name")
    if not spec.ready_path.startswith("/"):
        body.found.append(f"ready_path is {spec.ready_path!r}, must begin with '/'")
    body.done()
    return spec


def read_fault(raw: object) -> tuple[object, float]:
    """The fault's object, to be read by infra.local.faultspec, and the time to live, seconds."""
    body = Body("fault lease", raw)
    fault, ttl_s = body.raw("fault"), body.number("ttl_s", 0.1, TTL_MAX_S)
    body.done()
    return fault, ttl_s


def read_renewal(raw: object) -> float:
    body = Body("renewal", raw)
    ttl_s = body.number("ttl_s", 0.1, TTL_MAX_S)
    body.done()
    return ttl_s
