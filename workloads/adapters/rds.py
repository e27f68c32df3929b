"""How does a service sign in to a database on Amazon RDS without a password? With a token that its role signs.

A URL that names a host of RDS and no password means this:

    postgresql+psycopg://orders@shop-commerce.abc.us-east-1.rds.amazonaws.com:5432/orders?sslmode=verify-full&...

What follows the `?` reaches the driver as it is: which server to believe is the URL's business. A token is a signed
request (no call is made for it) and counts for 15 minutes; connections that are open stay so. Whose role signs, is the
SDK's business: on EKS it is the one of the pod's service account (RDS User Guide, 'IAM database authentication').
"""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import Any

import sqlalchemy as sa

_HOST = re.compile(r"[^.]+\.[^.]+\.(?P<region>[a-z0-9-]+)\.rds\.amazonaws\.com(\.cn)?")
PORT = 5432

Token = Callable[[], str]
"""Gives what stands in for the password of the next connection."""


def region_of(url: sa.URL) -> str | None:
    """The region of RDS that a URL without a password leads to; None for every other URL.

    >>> region_of(sa.make_url("postgresql+psycopg://orders@shop.abc.eu-west-1.rds.amazonaws.com/orders"))
    'eu-west-1'
    """
    found = _HOST.fullmatch(url.host or "")
    return found["region"] if found and url.password is None else None


def use_tokens(engine: sa.Engine, token: Token | None = None) -> None:
    """Let every new connection of an engine bring a token, if its URL asks for it. `token` stands in for the SDK."""
    region = region_of(engine.url)
    if region is None:
        return
    made = token or signer(engine.url, region)

    def with_token(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["password"] = made()

    sa.event.listen(engine, "do_connect", with_token)


def signer(url: sa.URL, region: str) -> Token:
    """Tokens by the SDK. Raise its BotoCoreError where no credentials are found."""
    lock = Lock()
    clients: list[Any] = []

    def sign() -> str:
        with lock:  # connections are made by several threads, and the client takes a while the first time
            if not clients:
                from botocore.session import get_session

                clients.append(get_session().create_client("rds", region_name=region))
        token: str = clients[0].generate_db_auth_token(
            DBHostname=url.host, Port=url.port or PORT, DBUsername=url.username
        )
        return token

    return sign
