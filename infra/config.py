"""What does a stack's configuration ask for? Raw values in, a frozen record or all problems at once out. (pure)

This file knows nothing of Pulumi: `infra.program` reads the configuration, tests and other drivers give a dict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network

from infra.naming import deployment_problems
from stages.catalogue import STAGES, VARIANTS

TARGETS = ("local", "aws", "k8s")
BROKERS = ("sqs", "kafka")
REGION = "us-east-1"
OWNER = "platform"
SIZES = ("production", "trial")
FLAGS = ("false", "true")
ANYWHERE = "0.0.0.0/0"
NOBODY = ("none",)
BACKBONE = "backbone"
"""The stack that holds what no system owns: networks, their peering, the namespace, the root of trust."""
FLEET = "fleet"
"""Key under which a stack keeps what all of its deployment share; its own keys overrule it (infra/aws/fleet.py)."""

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[1-9]")
_IMAGE = re.compile(r"[^\s@]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})")
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_CERTIFICATE = re.compile(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[0-9a-f-]+")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/=+@-]{0,255}")
_OTLP = re.compile(r"https?://[^\s/@:]+(:\d{1,5})?(/\S*)?")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://\S+")

_ONLY: Mapping[str, tuple[str, ...]] = {
    "variant": ("local",),
    "region": ("aws",),
    "image": ("aws", "k8s"),
    "domain": ("aws", "k8s"),
    "certificate": ("aws",),
    "system": ("aws",),
    "kubeconfig_context": ("k8s",),
    "broker_url": ("local", "k8s"),
    "database_url": ("k8s",),
    "otlp_endpoint": ("k8s",),
    "availability_zones": ("aws",),
    "size": ("aws",),
    "api_cidrs": ("aws",),
    "network_faults": ("aws",),
    FLEET: ("aws",),
}
"""Keys that mean something on some targets only; elsewhere they are refused, so that nobody waits for their effect."""


class ConfigError(Exception):
    """The configuration cannot be used; `problems` has one sentence per finding."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a stack is to be; every field is a configuration key of the same name."""

    stage: str
    """'sync', 'async' or 'mesh'."""
    target: str
    """'local', 'aws' or 'k8s'."""
    name: str
    """Of the deployment; the stack's name unless configured."""
    variant: str | None
    """A deliberately broken shop; local only."""
    broker: str
    """'sqs' or 'kafka'."""
    region: str
    image: str | None
    """Of the workloads: repository@sha256:... or repository:tag; never None on aws and k8s."""
    domain: str | None
    """Host name of the ingress."""
    certificate: str | None
    """ARN of the ACM certificate for `domain`."""
    system: str | None
    """Which part of a mesh's split state this stack is: 'backbone' or a system's name; None: whatever is not split."""
    kubeconfig_context: str | None
    broker_url: str | None
    """A secret: the address of a broker of the user's own. None: one is run for the stage."""
    database_url: str | None
    """A secret: the address of a database server of the user's own. None: one is run for the stage."""
    availability_zones: tuple[str, ...]
    """Exactly three, of `region`."""
    owner: str
    """Whom the tag `owner` names."""
    otlp_endpoint: str | None = None
    """Base URL of what takes traces and metrics by OTLP/HTTP; None: the collector prints. k8s only."""
    size: str = SIZES[0]
    """'production' or 'trial': how much a deployment on AWS costs, and survives."""
    api_cidrs: tuple[str, ...] = (ANYWHERE,)
    """Who may reach the API of an EKS cluster from outside its VPC, and then has to be somebody to IAM; ('none',):
    nobody."""
    network_faults: bool = False
    """Whether callers' pods let AWS's Fault Injection Service work beside them as root; stage mesh on aws only."""


KEYS = (*Options.__dataclass_fields__, FLEET)


def options(raw: Mapping[str, object], stack: str) -> Options:
    """Read a stack's configuration, keys without their project. Raise ConfigError with every problem at once.

    A key with an empty value is as good as none: Pulumi.yaml has to give every key that may be left out a default.
    What stands under `fleet` counts where the stack says nothing of its own.

    >>> options({"stage": "sync"}, "mine").name
    'mine'
    """
    raw, unreadable = merged(raw)
    reader = _Reader(raw)
    stage = reader.one_of("stage", tuple(STAGES), None)
    target = reader.one_of("target", TARGETS, "local")
    region = reader.matching("region", _REGION, "a region such as us-east-1") or REGION
    found = Options(
        stage=stage,
        target=target,
        name=reader.text("name") or stack,
        variant=reader.text("variant"),
        broker=reader.one_of("broker", BROKERS, "sqs"),
        region=region,
        image=reader.matching("image", _IMAGE, "repository@sha256:<64 hexadecimal digits> or repository:tag"),
        domain=reader.matching("domain", _DOMAIN, "a host name such as shop.example.com"),
        certificate=reader.matching("certificate", _CERTIFICATE, "the ARN of an ACM certificate"),
        system=reader.text("system"),
        kubeconfig_context=reader.text("kubeconfig_context"),
        broker_url=reader.secret("broker_url", _ADDRESS, "scheme://host[:port]"),
        database_url=reader.secret("database_url", _ADDRESS, "scheme://host[:port]/..."),
        availability_zones=reader.texts("availability_zones") or tuple(f"{region}{letter}" for letter in "abc"),
        owner=reader.matching("owner", _OWNER, "1 to 256 letters, digits, spaces and ._:/=+@-") or OWNER,
        otlp_endpoint=reader.matching("otlp_endpoint", _OTLP, "http(s)://host[:port][/path]"),
        size=reader.one_of("size", SIZES, SIZES[0]),
        api_cidrs=reader.texts("api_cidrs") or (ANYWHERE,),
        network_faults=reader.one_of("network_faults", FLAGS, FLAGS[0]) == FLAGS[1],
    )
    problems = (*unreadable, *reader.problems(), *(problem for rule in _RULES for problem in rule(found, raw)))
    if problems:
        raise ConfigError(problems)
    return found


def merged(raw: Mapping[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """What is set, a stack's own keys before those of its fleet; and what is wrong with `fleet`.

    >>> merged({"image": "shop:1", "size": "", "fleet": '{"image": "shop:2", "size": "trial"}'})[0]["size"]
    'trial'
    """
    own = {key: value for key, value in raw.items() if value not in ("", "[]", "{}", [], {})}
    fleet = own.get(FLEET, {})
    if isinstance(fleet, str):  # that is how Pulumi hands over structured values
        with suppress(ValueError):
            fleet = json.loads(fleet)
    if not isinstance(fleet, Mapping):
        said = f"{FLEET} is {fleet!r}, must be keys and values; `pulumi config rm {FLEET}`, `stages up` writes it"
        return own, (said,)
    # the CLI makes a number or a truth value of what looks like one
    texts = {key: v if isinstance(v, str | list) else json.dumps(v) for key, v in fleet.items() if v not in ("", None)}
    return {**texts, **own}, ()


class _Reader:
    """Reads typed values and gathers what is wrong with them."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self._raw = raw
        self._found: list[str] = []

    def text(self, key: str) -> str | None:
        value = self._raw.get(key)
        if value is None or (isinstance(value, str) and value):
            return value
        self._found.append(f"{key} is {value!r}, must be a text; `pulumi config set {key} ...` or `rm {key}`")
        return None

    def one_of(self, key: str, known: tuple[str, ...], default: str | None) -> str:
        value = self.text(key)
        if value in known:
            return value
        if value is None and default is not None:
            return default
        if key not in self._raw:
            self._found.append(f"{key} is not set; `pulumi config set {key} {known[0]}` ({_either(known)})")
        elif value is not None:
            self._found.append(f"{key} is {value!r}, must be {_either(known)}; `pulumi config set {key} {known[0]}`")
        return default or ""

    def matching(self, key: str, pattern: re.Pattern[str], wanted: str) -> str | None:
        value = self.text(key)
        if value is not None and not pattern.fullmatch(value):
            self._found.append(f"{key} is {value!r}, must be {wanted}; `pulumi config set {key} ...`")
        return value

    def secret(self, key: str, pattern: re.Pattern[str], wanted: str) -> str | None:
        """As `matching`, but the value is not repeated: messages end up in logs."""
        value = self._raw.get(key)
        if value is None or (isinstance(value, str) and pattern.fullmatch(value)):
            return value
        self._found.append(f"{key} (not shown) must be {wanted}; `pulumi config set --secret {key} ...`")
        return None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list, or its JSON: that is how Pulumi hands over structured values."""
        value = self._raw.get(key)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if key not in self._raw:
            return ()
        if isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self._found.append(
            f"{key} is {self._raw[key]!r}, must be a list of texts; `pulumi config set --path '{key}[0]' ...`"
        )
        return ()

    def problems(self) -> tuple[str, ...]:
        unknown = sorted(self._raw.keys() - set(KEYS))
        return (
            *self._found,
            *(
                f"{key} is no key of this project; `pulumi config rm {key}` (known: {', '.join(KEYS)})"
                for key in unknown
            ),
        )


_Rule = Callable[[Options, Mapping[str, object]], list[str]]


def _named(found: Options, raw: Mapping[str, object]) -> list[str]:
    return [f"{problem}; `pulumi config set name ...`" for problem in deployment_problems(found.name)]


def _used_here(found: Options, raw: Mapping[str, object]) -> list[str]:
    return [
        f"{key} means nothing on target {found.target!r}, only on {_either(targets)}; `pulumi config rm {key}`"
        for key, targets in _ONLY.items()
        if key in raw and found.target not in targets
    ]


def _variant(found: Options, raw: Mapping[str, object]) -> list[str]:
    if found.variant is None or found.variant in VARIANTS:
        return []
    return [f"variant is {found.variant!r}, must be {_either(tuple(VARIANTS))}; `pulumi config rm variant` for none"]


def _broker(found: Options, raw: Mapping[str, object]) -> list[str]:
    if found.broker == "kafka" and found.target == "local":
        return ["broker is 'kafka', which target 'local' does not have; `pulumi config set broker sqs`"]
    return []


def _image(found: Options, raw: Mapping[str, object]) -> list[str]:
    if found.image is None and found.target in ("aws", "k8s") and "image" not in raw:
        return [f"image is not set, target {found.target!r} needs it; `pulumi config set image repository@sha256:...`"]
    return []


def _system(found: Options, raw: Mapping[str, object]) -> list[str]:
    if found.system is None or found.stage not in STAGES:
        return []
    stage = STAGES[found.stage]
    if stage.mesh is None:
        return [f"system is {found.system!r}, but only stage mesh has split state; `pulumi config rm system`"]
    known = (BACKBONE, *(system.name for system in stage.systems))
    return [] if found.system in known else [f"system is {found.system!r}, must be {_either(known)}"]


def _network_faults(found: Options, raw: Mapping[str, object]) -> list[str]:
    if not found.network_faults or found.stage not in STAGES or STAGES[found.stage].mesh is not None:
        return []
    return ["network_faults is 'true', but only stage mesh has experiments; `pulumi config rm network_faults`"]


def _zones(found: Options, raw: Mapping[str, object]) -> list[str]:
    zones = found.availability_zones
    problems = []
    if len(set(zones)) != 3 or len(zones) != 3:
        problems.append(f"availability_zones is {list(zones)!r}, must be three different ones")
    if wrong := [zone for zone in zones if not re.fullmatch(re.escape(found.region) + "[a-z]", zone)]:
        problems.append(f"availability_zones has {', '.join(wrong)}, not of region {found.region}")
    return problems


def _domain(found: Options, raw: Mapping[str, object]) -> list[str]:
    """On AWS users come in by TLS only, and a certificate is for a name."""
    if found.target != "aws" or found.domain is not None or "domain" in raw or found.stage not in STAGES:
        return []
    stage = STAGES[found.stage]
    entries = {stage.service(operation.entry).system for operation in stage.operations}
    if found.system is not None and found.system not in entries:
        return []
    return ["domain is not set, target 'aws' needs it; `pulumi config set domain shop.example.com`"]


def _certificate(found: Options, raw: Mapping[str, object]) -> list[str]:
    if found.certificate is None or found.domain is not None or "domain" in raw:
        return []
    return ["certificate is set, but not the domain that it is for; `pulumi config set domain shop.example.com`"]


def _api_cidrs(found: Options, raw: Mapping[str, object]) -> list[str]:
    problems = []
    for cidr in () if found.api_cidrs == NOBODY else found.api_cidrs:
        try:
            IPv4Network(cidr)
        except ValueError as error:
            problems.append(f"api_cidrs has {cidr!r}, which is no IPv4 network ({error})")
    return problems


_RULES: tuple[_Rule, ...] = (
    _named,
    _used_here,
    _variant,
    _broker,
    _image,
    _system,
    _zones,
    _domain,
    _certificate,
    _api_cidrs,
    _network_faults,
)


def _either(known: tuple[str, ...]) -> str:
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} or {known[-1]}"
