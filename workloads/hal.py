"""What does a hypermedia document look like? HAL links and HAL-FORMS templates as plain dictionaries.

Formats: HAL (draft-kelly-json-hal) and HAL-FORMS (rwcbook.github.io/hal-forms), media type
application/prs.hal-forms+json, which every HAL client can read. Links are relative to the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "application/prs.hal-forms+json"

Document = dict[str, Any]


def document(
    self_href: str,
    fields: Mapping[str, Any] | None = None,
    *,
    links: Mapping[str, str] | None = None,
    templates: Mapping[str, Document] | None = None,
    embedded: Mapping[str, Any] | None = None,
) -> Document:
    """A HAL document; parts that are empty are left out.

    >>> document("/", {"name": "shop"}, links={"products": "/products"})
    {'name': 'shop', '_links': {'self': {'href': '/'}, 'products': {'href': '/products'}}}
    """
    hrefs = {"self": self_href, **(links or {})}
    found: Document = {**(fields or {}), "_links": {name: {"href": href} for name, href in hrefs.items()}}
    if embedded:
        found["_embedded"] = dict(embedded)
    if templates:
        found["_templates"] = dict(templates)
    return found


def template(method: str, target: str, title: str, *properties: Document) -> Document:
    """What can be done: send the properties as a JSON object."""
    return {
        "title": title,
        "method": method,
        "target": target,
        "contentType": "application/json",
        "properties": list(properties),
    }


def field(name: str, prompt: str, **rules: Any) -> Document:
    """One required property of a template; `rules` are HAL-FORMS attributes such as type, min, max, maxLength."""
    return {"name": name, "prompt": prompt, "required": True, **rules}
