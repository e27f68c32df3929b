"""How do Pulumi's values become plain JSON and back, and who still knows which of them are secrets? (pure)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from infra.local.pulumi.diffing import UNKNOWN

Properties = Mapping[str, PropertyValue]


def plain(value: PropertyValue) -> Any:
    """JSON, whole numbers whole, secrets in the open; UNKNOWN for what is not known yet."""
    raw = value.value
    if raw == rpc.UNKNOWN:  # what is not known has this text on the wire, which the SDK's own type does not speak of
        return UNKNOWN
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, Mapping):
        return {key: plain(item) for key, item in raw.items()}
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        return [plain(item) for item in raw]
    return raw


def plain_map(values: Properties) -> dict[str, Any]:
    """Without what is null: leaving an input out means the same."""
    found = {key: plain(value) for key, value in values.items()}
    return {key: value for key, value in found.items() if value is not None and not key.startswith("__")}


def property_value(raw: Any, like: PropertyValue | None = None) -> PropertyValue:
    """From JSON; what is a secret in `like` is one here."""
    secret = like is not None and like.is_secret
    before = like.value if like is not None else None
    if raw is UNKNOWN:
        return PropertyValue(rpc.UNKNOWN)
    if isinstance(raw, Mapping):
        known = before if isinstance(before, Mapping) else {}
        return PropertyValue({key: property_value(item, known.get(key)) for key, item in raw.items()}, secret)
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        return PropertyValue([property_value(item) for item in raw], secret)
    if isinstance(raw, int) and not isinstance(raw, bool):
        return PropertyValue(float(raw), secret)
    return PropertyValue(raw, secret)


def property_map(raw: Mapping[str, Any], like: Properties) -> dict[str, PropertyValue]:
    """From JSON; what is a secret in `like` is one here."""
    return {key: property_value(value, like.get(key)) for key, value in raw.items() if value is not None}


def supposed(raw: Any) -> Any:
    """A text in place of everything unknown, so that the rest can be checked."""
    if raw is UNKNOWN:
        return "unknown"
    if isinstance(raw, Mapping):
        return {key: supposed(item) for key, item in raw.items()}
    if isinstance(raw, list):
        return [supposed(item) for item in raw]
    return raw
