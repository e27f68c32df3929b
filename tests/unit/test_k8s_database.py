"""Does every service get a database that nobody else can use? The script of the pod, run with a psql that notes all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.k8s.database import ADMIN, CONNECTIONS, SCRIPT, database_objects
from infra.k8s.site import Site
from stages.catalogue import SYNC
from workloads.adapters.sql import POOL_THREADS

SITE = Site(deployment="shop", image="shop:1")
KEEPERS = [s.name for s in SYNC.services if s.database]
PSQL = """#!/bin/sh
for argument in "$@"; do echo "<$argument>"; done >>"$SEEN"
cat >>"$SEEN"
exit "$RESULT"
"""


def run(folder: Path, passwords: dict[str, str], result: int = 0) -> tuple[int, str]:
    """Exit status of the script, and what psql was told."""
    (folder / "passwords").mkdir()
    for name, password in passwords.items():
        (folder / "passwords" / name).write_text(password, encoding="utf-8")
    (folder / "psql").write_text(PSQL, encoding="utf-8")
    (folder / "psql").chmod(0o755)
    (folder / "databases.sh").write_text(SCRIPT.replace("/run/passwords", f"{folder}/passwords"), encoding="utf-8")
    env = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "POSTGRES_USER": "postgres",
        "SEEN": f"{folder}/seen",
        "RESULT": str(result),
    }
    ended = subprocess.run(["sh", f"{folder}/databases.sh"], env=env, timeout=30, check=False)
    return ended.returncode, (folder / "seen").read_text(encoding="utf-8")


def test_each_service_gets_a_role_and_a_database_closed_to_others(tmp_path: Path) -> None:
    status, seen = run(tmp_path, {"orders": "o' $(x)", "payments": "p"})
    assert status == 0
    assert [line for line in seen.splitlines() if line.startswith(("<name=", "<password="))] == [
        "<name=orders>",
        "<password=o' $(x)>",
        "<name=payments>",
        "<password=p>",
    ]
    assert seen.count('CREATE DATABASE :"name" OWNER :"name";') == 2
    assert seen.count('REVOKE ALL ON DATABASE :"name" FROM PUBLIC;') == 2


def test_a_database_that_cannot_be_made_is_no_success(tmp_path: Path) -> None:
    status, _ = run(tmp_path, {"orders": "o"}, result=3)
    assert status == 3


def test_the_server_takes_the_connections_of_all_pods() -> None:
    most = SITE.replicas[1]
    assert len(KEEPERS) * most * (POOL_THREADS + 1) < CONNECTIONS


def test_the_servers_own_password_is_a_secret_and_its_script_is_a_program() -> None:
    made = {m["kind"]: m for m in database_objects(SYNC, SITE, "shop", None, KEEPERS)}
    spec = made["StatefulSet"]["spec"]["template"]["spec"]
    env = {e["name"]: e.get("valueFrom") for e in spec["containers"][0]["env"]}
    assert env["POSTGRES_PASSWORD"] == {"secretKeyRef": {"name": ADMIN.name, "key": ADMIN.key}}
    (scripts,) = (v for v in spec["volumes"] if v["name"] == "scripts")
    assert scripts["configMap"]["defaultMode"] == 0o755
    assert made["ConfigMap"]["data"] == {"databases.sh": SCRIPT}


@pytest.mark.parametrize(("asked", "written"), [(None, None), ("fast", "fast")])
def test_its_volume_is_of_the_class_that_the_site_names(asked: str | None, written: str | None) -> None:
    site = Site(deployment="shop", image="shop:1", storage_class=asked)
    made = next(m for m in database_objects(SYNC, site, "shop", None, KEEPERS) if m["kind"] == "StatefulSet")
    assert made["spec"]["volumeClaimTemplates"][0]["spec"].get("storageClassName") == written
