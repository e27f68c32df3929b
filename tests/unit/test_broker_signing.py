"""Our signature is the SDK's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from workloads.broker.signing import Signer

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


class Known:
    """Credentials as the SDK hands them out."""

    def __init__(self, token: str | None) -> None:
        self.secret = "secret"
        self._token = token

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return ReadOnlyCredentials("AKID", self.secret, self._token)


def request(body: str | bytes, headers: dict[str, str], url: str) -> AWSRequest:
    made = AWSRequest("POST", url, dict(headers), body)
    made.context["timestamp"] = AT.strftime("%Y%m%dT%H%M%SZ")
    return made


async def ours(body: str | bytes, headers: dict[str, str], url: str, token: str | None) -> Any:
    signed = request(body, headers, url)
    await Signer(Known(token), "eu-central-1", "sqs", lambda: AT)(signed)
    return signed


def theirs(body: bytes, headers: dict[str, str], url: str, token: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: AT)
    signed = request(body, headers, url)
    SigV4Auth(Credentials("AKID", "secret", token), "sqs", "eu-central-1").add_auth(signed)
    return signed


SQS = {"X-Amz-Target": "AmazonSQS.SendMessageBatch", "Content-Type": "application/x-amz-json-1.0"}
SNS = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.mark.parametrize("token", [None, "a-token"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:4566/", "http://broker.local/"])
@pytest.mark.parametrize("headers", [SQS, SNS])
async def test_the_signature_is_the_sdks(
    headers: dict[str, str], url: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = '{"a":"ä€"}'.encode()
    expected = theirs(body, headers, url, token, monkeypatch)
    for given_body in (body, body.decode()):
        found = await ours(given_body, headers, url, token)
        assert dict(found.headers) == dict(expected.headers)


async def test_a_repeated_request_is_signed_anew() -> None:
    signed = request(b"x", SQS, "http://h/")
    signer = Signer(Known("t"), "r", "sqs", lambda: AT)
    await signer(signed)
    first = dict(signed.headers)
    await signer(signed)
    assert (dict(signed.headers), len(signed.headers)) == (first, len(first))


@given(secret=st.text(min_size=1, max_size=8))
async def test_new_credentials_are_used_at_once(secret: str) -> None:
    known = Known(None)
    signer = Signer(known, "r", "sqs", lambda: AT)
    await signer(request(b"", SQS, "http://h/"))
    known.secret = secret
    signed, fresh = request(b"", SQS, "http://h/"), request(b"", SQS, "http://h/")
    await signer(signed)
    await Signer(known, "r", "sqs", lambda: AT)(fresh)
    assert signed.headers["Authorization"] == fresh.headers["Authorization"]
