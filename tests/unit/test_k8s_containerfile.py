"""Does the image hold what services need, and nothing else? The Containerfile, read as a builder would."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from infra.aws.database_setup import CA_BUNDLE
from infra.k8s.names import PORT
from infra.k8s.pods import USER
from infra.k8s.workload import MODULE

ROOT = Path(__file__).parents[2]
AWS_BUNDLE = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
BY_NAME_ONLY = {"opentelemetry-exporter-otlp-proto-http", "psycopg", "httptools"}
"""Asked for by name at run time: spans go to a collector, records to PostgreSQL; uvicorn's parser is a class of it."""


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def installed() -> set[str]:
    (run,) = (rest for rest in of("RUN") if "install" in rest)
    command = run.partition(" install ")[2].split()
    names = [w.strip('"') for n, w in enumerate(command) if not w.startswith("--") and command[n - 1] != "--constraint"]
    return {re.sub(r"\[.*\]", "", name) for name in names}


def ignored() -> list[str]:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def shipped() -> list[Path]:
    patterns = [p for p in ignored() if p.startswith("workloads/")]
    files = sorted((ROOT / "workloads").rglob("*.py"))
    return [f for f in files if not any(fnmatch(str(f.relative_to(ROOT)), p) for p in patterns)]


def imports(files: list[Path]) -> Iterator[str]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_file_that_is_copied_is_there_and_not_left_out() -> None:
    sources = [rest.split()[0] for rest in of("COPY") if not rest.startswith("--from=")]
    assert sources == ["constraints.txt", "workloads", "LICENSE"]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored(), source
    assert ignored()[0] == "*"


def test_the_base_is_an_argument_without_default() -> None:
    assert of("ARG")[0] == "BASE"
    assert {rest.split()[0] for rest in of("FROM")} == {"${BASE}"}
    assert instructions()[0] == ("ARG", "BASE")


def test_the_entry_is_the_one_that_deployments_start() -> None:
    assert of("ENTRYPOINT") == [f'["python", "-m", "{MODULE}"]']
    assert (ROOT / MODULE.replace(".", "/") / "__main__.py") in shipped()
    assert of("EXPOSE") == [str(PORT)]


def test_it_runs_as_nobody_and_writes_nothing() -> None:
    assert of("USER") == [f"{USER}:{USER}"]
    environment = " ".join(of("ENV"))
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    (compiling,) = (rest for rest in of("RUN") if "compileall" in rest)
    assert "unchecked-hash" in compiling
    assert {"/opt/shop/lib", "/srv/workloads"} <= set(compiling.split())


def test_its_packages_are_all_that_services_import() -> None:
    distributions = packages_distributions()
    top = {name.split(".")[0] for name in imports(shipped())} - set(sys.stdlib_module_names) - {"workloads"}
    provided = {name: {d.lower().replace("_", "-") for d in distributions[name]} for name in top}
    needed_by = {"starlette": "fastapi", "pydantic": "fastapi", "yarl": "aiohttp", "botocore": "aiobotocore"}
    missing = {n for n, d in provided.items() if not d & installed() and needed_by.get(n) not in installed()}
    assert missing == set()
    used = {d for ds in provided.values() for d in ds}
    assert installed() - used == BY_NAME_ONLY - used


def test_nothing_that_is_shipped_needs_what_is_left_out() -> None:
    there = {str(f.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__") for f in shipped()}
    all_modules = {
        str(f.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for f in (ROOT / "workloads").rglob("*.py")
    }
    left_out = all_modules - there
    assert left_out >= {"workloads.testing", "workloads.broker.testing", "workloads.broker.conformance"}
    for name in imports(shipped()):
        assert not any(name == m or name.startswith(f"{m}.") for m in left_out), name


@pytest.mark.parametrize("name", sorted(installed() | {"psycopg-binary"}))
def test_every_package_has_one_version(name: str) -> None:
    assert constraints().get(name), f"{name} is not in constraints.txt"


def test_nothing_names_a_registry() -> None:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace(AWS_BUNDLE, "")
    assert not re.search(r"\w+\.\w+/|https?:|--index", re.sub(r"org\.\S+", "", text))


def test_what_vouches_for_databases_of_rds_is_where_services_look_for_it() -> None:
    """From an argument, so that it can be replaced; readable to everybody, and a certificate, or there is no image."""
    assert f"RDS_CA={AWS_BUNDLE}" in of("ARG")
    assert of("ADD") == ["${RDS_CA} /build/rds/global-bundle.pem"]
    (checking,) = (rest for rest in of("RUN") if "rds" in rest)
    assert checking.split(" && ")[0].strip() == "chmod 0444 /build/rds/global-bundle.pem"
    assert "cafile='/build/rds/global-bundle.pem'" in checking
    assert "--from=build /build/rds /etc/ssl/rds" in of("COPY")
    assert CA_BUNDLE == "/etc/ssl/rds/global-bundle.pem"
