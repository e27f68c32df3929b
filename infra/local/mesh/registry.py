"""How is a service's instance made known, and found, through AWS Cloud Map?

Every call is bounded: it answers, or raises Unreachable, within two seconds. Registering, reporting and taking away
may be repeated; a call that timed out may have had its effect. Importing this imports the SDK (0.2 s): it is done once,
before clusters are forked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import boto3
from botocore import UNSIGNED, handlers
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, UnknownServiceError
from botocore.loaders import Loader
from botocore.session import Session

NAMESPACE = "shop"

REGION = "us-east-1"
"""Of the embedded registry, which knows one."""

_NO_ENDPOINTS: dict[str, Any] = {"version": 3, "partitions": []}

TIMEOUT_S = 1.0
"""Longest connecting, and longest silence."""

HEALTHY, UNHEALTHY = "HEALTHY", "UNHEALTHY"

_UNKNOWN = frozenset({"NamespaceNotFound", "ServiceNotFound", "InstanceNotFound"})


class RegistryError(Exception):
    """The registry did not do what it was asked.

    RegistryError
    ├── Unreachable     no answer, or none that can be read: whether it acted is not known
    ├── Unknown         it does not know the namespace, service or instance: surely nothing happened
    └── Refused         it answered with another error: surely nothing happened
    """


class Unreachable(RegistryError):
    pass


class Unknown(RegistryError):
    pass


class Refused(RegistryError):
    pass


class Named(NamedTuple):
    """An instance by name: what Cloud Map calls the service, and the id within it."""

    service: str
    version: str

    @property
    def instance_id(self) -> str:
        return f"{self.service}-{self.version}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is registered of one instance: how its sidecar is reached and who it says it is."""

    address: str
    """'127.0.0.1:20040', where its sidecar takes calls in."""
    version: str
    cluster: str
    identity: str
    health: str = HEALTHY

    @property
    def attributes(self) -> dict[str, str]:
        """As Cloud Map keeps them; its names for address and port are AWS's."""
        host, _, port = self.address.rpartition(":")
        return {
            "AWS_INSTANCE_IPV4": host,
            "AWS_INSTANCE_PORT": port,
            "version": self.version,
            "cluster": self.cluster,
            "identity": self.identity,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """One answer to 'who is there?': entries by instance id, whatever their health."""

    entries: Mapping[str, Entry]
    revision: int
    """Grows with every change; starts anew when the registry has lost its memory."""


class CloudMap:
    """The registry behind one URL. Used by one thread at a time."""

    def __init__(self, client: Any) -> None:
        """`client`: boto3's servicediscovery; see `connect`."""
        self._client = client
        self._ids: dict[str, str] = {}

    def prepare(self, service: str) -> None:
        """Create namespace and service where they are missing. Raise RegistryError."""
        namespace = self._namespace()
        known = self._ask("list_services", Filters=[{"Name": "NAMESPACE_ID", "Values": [namespace]}])["Services"]
        self._ids = {s["Name"]: s["Id"] for s in known}
        if service not in self._ids:
            made = self._ask(
                "create_service",
                Name=service,
                NamespaceId=namespace,
                HealthCheckCustomConfig={"FailureThreshold": 1},
            )
            self._ids[service] = made["Service"]["Id"]

    def register(self, name: Named, entry: Entry) -> None:
        """Make an instance known, with its health; also one that is known. Raise RegistryError."""
        attributes = {**entry.attributes, "AWS_INIT_HEALTH_STATUS": entry.health}
        self._of_instance("register_instance", name, Attributes=attributes)
        self.report(name, entry.health)  # the first status counts only for an instance that was not known

    def report(self, name: Named, health: str) -> None:
        """Say how an instance is. Raise RegistryError, Unknown if it is not registered."""
        self._of_instance("update_instance_custom_health_status", name, Status=health)

    def deregister(self, name: Named) -> None:
        """Take an instance away; one that is not there is no error. Raise RegistryError."""
        with contextlib.suppress(Unknown):
            self._of_instance("deregister_instance", name)

    def discover(self, service: str) -> Found:
        """All instances, healthy or not; none if nobody ever registered one. Raise RegistryError."""
        try:
            said = self._ask("discover_instances", NamespaceName=NAMESPACE, ServiceName=service, HealthStatus="ALL")
        except Unknown:
            return Found({}, 0)
        try:
            return Found({i["InstanceId"]: _entry(i) for i in said["Instances"]}, int(said.get("InstancesRevision", 0)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unreachable(f"discover_instances: not an answer: {error!r}") from error

    def close(self) -> None:
        self._client.close()

    def _namespace(self) -> str:
        for _ in range(2):
            for namespace in self._ask("list_namespaces")["Namespaces"]:
                if namespace["Name"] == NAMESPACE:
                    return str(namespace["Id"])
            with contextlib.suppress(Refused):  # another plane was faster
                self._ask("create_http_namespace", Name=NAMESPACE)
        raise Refused(f"namespace {NAMESPACE!r} was created, but is not listed")

    def _of_instance(self, call: str, name: Named, **more: object) -> None:
        """Ids of services are remembered; a registry that has lost its memory has given out others since."""
        if name.service not in self._ids:
            self.prepare(name.service)
        try:
            self._ask(call, ServiceId=self._ids[name.service], InstanceId=name.instance_id, **more)
        except Unknown:
            self._ids.clear()
            raise

    def _ask(self, call: str, **parameters: object) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, call)(**parameters)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise (Unknown if code in _UNKNOWN else Refused)(f"{call}: {error}") from error
        except (BotoCoreError, OSError, ValueError) as error:
            raise Unreachable(f"{call}: {error}") from error
        return answer


class _Models(Loader):  # type: ignore[misc]  # the SDK has no types
    """The SDK's models without all that chooses an endpoint: 10 MB that would be read for a URL that is known."""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        if type_name == "endpoint-rule-set-1":
            raise UnknownServiceError(service_name=service_name, known_service_names="")
        return super().load_service_model(service_name, type_name, api_version)

    def load_data(self, name: str) -> Any:
        return _NO_ENDPOINTS if name == "endpoints" else super().load_data(name)

    def load_data_with_path(self, name: str) -> Any:
        return (_NO_ENDPOINTS, "") if name == "endpoints" else super().load_data_with_path(name)


def connect(url: str) -> CloudMap:
    """A client of the registry at a URL; nothing is asked yet.

    Trimmed of what a call needs only on AWS itself, a signature too, which nobody here looks at: half of its time.
    Discovery lives behind a host name of its own there ('data-...'), which an address cannot have.
    """
    config = Config(
        connect_timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        inject_host_prefix=False,
        parameter_validation=False,
        proxies={},
        signature_version=UNSIGNED,
        user_agent="shop",
    )
    session = Session()
    session.register_component("data_loader", _Models())
    made = boto3.session.Session(botocore_session=session).client(
        "servicediscovery", endpoint_url=url, region_name=REGION, config=config
    )
    made.meta.events.unregister("request-created", handlers.add_retry_headers)
    made.meta.events.unregister("before-call", handlers.add_recursion_detection_header)
    return CloudMap(made)


def _entry(raw: Mapping[str, Any]) -> Entry:
    """Whatever stands there, also what nobody of ours wrote: who asked has to judge it."""
    has = raw.get("Attributes", {})
    return Entry(
        address=f"{has.get('AWS_INSTANCE_IPV4', '')}:{has.get('AWS_INSTANCE_PORT', '')}",
        version=has.get("version", ""),
        cluster=has.get("cluster", ""),
        identity=has.get("identity", ""),
        health=raw.get("HealthStatus", ""),
    )
