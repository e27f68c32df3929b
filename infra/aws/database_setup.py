"""How does a server come to have its databases and users? This file runs in a pod, with the SDK and a driver only.

    python database_setup.py plan.json

The plan says {"region", "secret", "host", "port", "services"}. Each service gets a database and a user of its name,
which signs in by IAM and owns that database alone. Making what is there already changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

CA_BUNDLE = "/etc/ssl/rds/global-bundle.pem"
"""In the image (Containerfile): who may vouch for a server of RDS."""

Execute = Callable[[str], Iterable[Any]]
"""Runs one statement outside of a transaction; the rows it gives."""


def setup(services: Iterable[str], execute: Execute) -> None:
    """Make what is missing. Raise what the driver raises."""
    users = {row[0] for row in execute("SELECT rolname FROM pg_roles")}
    databases = {row[0] for row in execute("SELECT datname FROM pg_database")}
    for service in services:
        name = quoted(service)
        if service not in users:
            execute(f"CREATE ROLE {name} LOGIN")
        execute(f"GRANT rds_iam TO {name}")
        if service not in databases:
            # the master is no superuser: to make somebody an owner it has to be a member
            execute(f"GRANT {name} TO CURRENT_USER")
            execute(f"CREATE DATABASE {name} OWNER {name}")
        execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")


def quoted(name: str) -> str:
    """A name as SQL has it.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def login(plan: Mapping[str, Any], secret: str) -> dict[str, Any]:
    """What the driver needs to connect as the master, from the secret that RDS keeps."""
    known = json.loads(secret)
    return {
        "host": plan["host"],
        "port": plan["port"],
        "user": known["username"],
        "password": known["password"],
        "dbname": "postgres",
        "sslmode": "verify-full",
        "sslrootcert": CA_BUNDLE,
        "connect_timeout": 10,
        "autocommit": True,
    }


def main(path: str) -> None:
    import psycopg  # type: ignore[import-not-found,unused-ignore]  # an extra, in the image
    from botocore.session import get_session

    plan = json.loads(Path(path).read_text(encoding="utf-8"))
    secrets = get_session().create_client("secretsmanager", region_name=plan["region"])
    with psycopg.connect(
        **login(plan, secrets.get_secret_value(SecretId=plan["secret"])["SecretString"])
    ) as connection:

        def execute(statement: str) -> list[Any]:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

        setup(plan["services"], execute)
    print(f"databases and users are there: {', '.join(plan['services'])}")


if __name__ == "__main__":
    main(sys.argv[1])
