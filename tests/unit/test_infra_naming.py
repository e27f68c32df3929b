"""Which names are allowed, and can two of our modules be mistaken for somebody else's?"""

from __future__ import annotations

import doctest
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import infra.local.processes
import infra.naming
from infra.naming import deployment_problems, edge_wire, queue_problems, resource_problems, word_problems
from stages.catalogue import STAGES
from stages.messaging import messaging


@pytest.mark.parametrize("name", ["a", "sync", "my-shop-2", "x" * 40])
def test_good_deployment_names_have_no_problem(name: str) -> None:
    assert deployment_problems(name) == []


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "..", "a/b", "a.b", "ä"])
def test_names_that_could_leave_their_directory_or_label_are_refused(name: str) -> None:
    assert deployment_problems(name) == [
        f"deployment name {name!r} may hold only lower-case letters, digits and inner hyphens"
    ]


def test_all_problems_of_a_name_come_at_once() -> None:
    assert len(deployment_problems("A" * 41)) == 2


def test_every_name_of_the_catalogue_can_be_used() -> None:
    for stage in STAGES.values():
        names = [s.name for s in stage.services] + [c.name for c in stage.channels] + [c.name for c in stage.clusters]
        names += [edge_wire(operation.entry) for operation in stage.operations]
        found = messaging(stage)
        names += [subscription.name for subscription in found.subscriptions]
        assert [problem for name in names for problem in resource_problems("resource", name)] == []
        queues = [name for queue in found.queues for name in (queue.name, queue.dead_letters)]
        queues += [topic.name for topic in found.topics]
        assert [problem for name in queues for problem in queue_problems("queue", name)] == []


def test_leases_and_run_ids_may_not_begin_with_a_dot() -> None:
    assert word_problems("lease", "payments-killed.1") == []
    assert word_problems("lease", "../x") != []
    assert word_problems("lease", ".hidden") != []


def test_no_child_of_infra_hides_another_module() -> None:
    """`pulumi` puts infra/ first on sys.path, so a child named like a library would be imported in its place."""
    folder = Path(infra.naming.__file__).parent
    children = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    ours = {"infra", "stages", "workloads", "chaos", "loadtests", "suite"}
    others = (set(packages_distributions()) | sys.stdlib_module_names) - ours
    assert children & others == set()


@pytest.mark.parametrize("module", [infra.naming, infra.local.processes])
def test_examples_in_docstrings_hold(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted
    assert not results.failed
