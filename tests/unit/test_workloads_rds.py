"""A service signs in to RDS with a token of its role: for which URLs, how often, and signed for whom?"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from infra.aws.database import url
from infra.aws.database_setup import CA_BUNDLE
from workloads.adapters import rds

HOST = "shop-commerce.abc.eu-west-1.rds.amazonaws.com"
URL = url(HOST, "orders")


@pytest.mark.parametrize(
    ("address", "region"),
    [
        (URL, "eu-west-1"),
        (URL.replace("orders@", "orders:secret@"), None),
        ("postgresql+psycopg://orders@postgres:5432/orders", None),
        ("postgresql+psycopg://orders@rds.amazonaws.com.example.org/orders", None),
        ("sqlite:///shop.db", None),
    ],
)
def test_a_token_is_for_rds_without_a_password(address: str, region: str | None) -> None:
    assert rds.region_of(sa.make_url(address)) == region


def test_the_driver_is_told_to_believe_no_server_but_one_that_aws_vouches_for() -> None:
    """As SQLAlchemy hands the URL to psycopg, which is libpq's by these very names."""
    dialect: Any = PGDialect_psycopg  # untyped
    _, told = dialect().create_connect_args(sa.make_url(URL))
    libpq = {key: value for key, value in told.items() if key != "context"}

    assert libpq == {
        "host": HOST,
        "port": 5432,
        "user": "orders",
        "dbname": "orders",
        "sslmode": "verify-full",
        "sslrootcert": CA_BUNDLE,
    }


def _connects(url: str, times: int) -> list[dict[str, Any]]:
    """What an engine of SQLite's dialect, on that URL, would pass on to its driver."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.NullPool)
    engine.url = sa.make_url(url)
    asked: list[dict[str, Any]] = []
    numbers = iter(range(1, 100))
    rds.use_tokens(engine, lambda: f"token {next(numbers)}")

    @sa.event.listens_for(engine, "do_connect")
    def refuse(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        asked.append(dict(parameters))
        parameters.pop("password", None)

    for _ in range(times):
        engine.connect().close()
    return asked


def test_every_connection_brings_a_new_token() -> None:
    assert [asked["password"] for asked in _connects(URL, 2)] == ["token 1", "token 2"]


def test_another_url_is_left_alone() -> None:
    assert all("password" not in asked for asked in _connects("postgresql://orders:secret@postgres/orders", 1))


def test_a_token_is_signed_for_host_port_and_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real SDK, with made-up keys: signing needs no connection."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    url = sa.make_url(URL)

    token = urlsplit("https://" + rds.signer(url, "eu-west-1")())

    asked = parse_qs(token.query)
    assert (token.hostname, token.port) == (url.host, 5432)
    assert (asked["Action"], asked["DBUser"], asked["X-Amz-Expires"]) == (["connect"], ["orders"], ["900"])
    assert "eu-west-1/rds-db/aws4_request" in asked["X-Amz-Credential"][0]
