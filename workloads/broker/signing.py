"""How is a call signed with little work? AWS Signature Version 4 over the few headers that a broker's calls have.

The SDK's own signer derives the key and sorts and normalises all headers on each call, a fifth of what a call costs.
Here the key is kept for the day and the headers are known. The result is the same, which a test checks
against the SDK's. Source: AWS General Reference, 'Create a signed AWS API request'.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

SIGNED = ("content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target")
"""In the order in which they are signed; those that a call lacks are left out."""


def _now() -> datetime:
    return datetime.now(UTC)


class Signer:
    """A handler of the SDK's event 'request-created'."""

    def __init__(self, credentials: Any, region: str, service: str, now: Callable[[], datetime] = _now) -> None:
        """`credentials` are the SDK's; they are asked each time, because some expire."""
        self._credentials = credentials
        self._region = region
        self._service = service
        self._now = now
        self._of: tuple[str, str] = ("", "")
        self._key = b""
        self._scope = ""

    async def __call__(self, request: Any, **_: object) -> None:
        """Add the headers that prove who calls; the body must be in place."""
        frozen = await self._credentials.get_frozen_credentials()
        stamp = self._now().strftime("%Y%m%dT%H%M%SZ")
        self._derive(frozen.secret_key, stamp[:8])
        headers = request.headers
        for name in ("X-Amz-Date", "Authorization"):  # a call that is repeated has those of before
            del headers[name]
        headers["X-Amz-Date"] = stamp
        if frozen.token:
            del headers["X-Amz-Security-Token"]
            headers["X-Amz-Security-Token"] = frozen.token
        url = urlsplit(request.url)
        values = {**{name.lower(): _text(value) for name, value in headers.items()}, "host": url.netloc}
        names = [name for name in SIGNED if name in values]
        signature = self._signature(url.path or "/", names, values, _bytes(request.body), stamp)
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={frozen.access_key}/{self._scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )

    def _signature(self, path: str, names: list[str], values: Mapping[str, str], body: bytes, stamp: str) -> str:
        listed = "".join(f"{name}:{values[name].strip()}\n" for name in names)
        request = f"POST\n{path}\n\n{listed}\n{';'.join(names)}\n{sha256(body).hexdigest()}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{self._scope}\n{sha256(request.encode()).hexdigest()}"
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def _derive(self, secret: str, day: str) -> None:
        if self._of == (secret, day):
            return
        key = f"AWS4{secret}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._of, self._key = (secret, day), key
        self._scope = f"{day}/{self._region}/{self._service}/aws4_request"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(body: str | bytes | None) -> bytes:
    return body.encode() if isinstance(body, str) else body or b""
