"""Clusters whose hosts one nursery forks: is each provably itself, and is the loss of one no other's?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.clusterhost import UNTAGGED
from infra.local.errors import CloudError
from infra.local.processes import carries, identify, stat_of, tags_of
from infra.local.testing import Shop, end, kill_daemon, local_cloud, until
from infra.naming import TAG_CLOUD, TAG_CLUSTER, TAG_DEPLOYMENT

BOTH = ("left", "right")


class Twins:
    """A deployment of two clusters with a nursery, and a stand-in in each."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.cloud = shop.cloud
        self.cloud.put(shop.at(), {"stage": "test", "run_id": "r", "variant": None, "owner_pid": None})
        for name in BOTH:
            self.cloud.put(
                shop.at(f"clusters/{name}"),
                {"network": "10.0.0.0/16", "preload": ["infra.local.standin"], "nursery": True},
            )
            self.cloud.put(shop.at(f"services/in-{name}"), self.stand_in(name))

    @staticmethod
    def stand_in(cluster: str) -> dict[str, object]:
        env = {"STAND_IN_LISTEN": "127.0.0.1:{port}", "STAND_IN_WORD": cluster, "STAND_IN_DATABASE": ""}
        return {"cluster": cluster, "module": "infra.local.standin", "env": env}

    def nursery(self) -> int:
        return self.shop.host_pid("nursery")

    def host(self, cluster: str) -> int:
        return int(self.cloud.get(self.shop.at(f"clusters/{cluster}"))["pid"])


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    with local_cloud(tmp_path / "home") as cloud:
        twins = Twins(Shop(cloud))
        yield twins
        twins.shop.down()
        assert twins.shop.leftovers() == []


def test_a_host_of_a_nursery_and_its_services_carry_their_clusters_tag_and_no_other(twins: Twins) -> None:
    for name in BOTH:
        tags = {
            TAG_CLOUD: str(twins.shop.home.path),
            TAG_DEPLOYMENT: twins.shop.name,
            TAG_CLUSTER: name,
        }
        for pid in (twins.host(name), twins.shop.pid(f"in-{name}")):
            process, seen = identify(pid), stat_of(pid)
            assert process is not None
            assert seen is not None
            assert carries(process, tags)
            assert seen.group == twins.host(name)
    assert tags_of(twins.nursery())[TAG_CLUSTER] == UNTAGGED


def test_the_loss_of_one_cluster_leaves_the_other_and_the_nursery_alone(twins: Twins) -> None:
    before = (twins.host("right"), twins.shop.pid("in-right"), twins.nursery())
    lost = twins.host("left")
    twins.shop.fault("o", kind="cluster-outage", cluster="left")
    assert twins.shop.state("in-left") in ("exited", "down-by-fault")
    assert (twins.host("right"), twins.shop.pid("in-right"), twins.nursery()) == before
    twins.shop.undo("o")
    assert twins.shop.state("in-left") == "running"
    assert twins.host("left") != lost
    assert (twins.host("right"), twins.shop.pid("in-right"), twins.nursery()) == before


def test_clusters_live_on_without_their_nursery_and_a_new_one_is_had_when_it_is_needed(twins: Twins) -> None:
    before = [twins.host(name) for name in BOTH]
    nursery = twins.nursery()
    end(nursery)
    assert [twins.host(name) for name in BOTH] == before
    assert [twins.shop.state(f"in-{name}") for name in BOTH] == ["running", "running"]
    twins.shop.fault("o", kind="cluster-outage", cluster="left")
    twins.shop.undo("o")
    assert twins.shop.state("in-left") == "running"
    assert twins.nursery() != nursery


def test_a_nursery_outlives_the_daemon(twins: Twins) -> None:
    before = (twins.nursery(), *(twins.host(name) for name in BOTH))
    kill_daemon(twins.shop.home)
    twins.cloud.put(twins.shop.at("clusters/third"), {"network": "10.0.0.0/16", "nursery": True})
    assert (twins.nursery(), *(twins.host(name) for name in BOTH)) == before
    until(lambda: twins.host("third"), "the adopted nursery forks another host")


def test_a_stopped_nursery_is_an_error_and_harms_nobody(twins: Twins) -> None:
    os.kill(twins.nursery(), signal.SIGSTOP)
    with pytest.raises(CloudError, match="the nursery did not fork a host for third"):
        twins.cloud.put(twins.shop.at("clusters/third"), {"network": "10.0.0.0/16", "nursery": True})
    assert twins.cloud.delete(twins.shop.at("faults"))["healed"] == ["shop/stop of nursery"]
    assert twins.cloud.put(twins.shop.at("clusters/third"), {"network": "10.0.0.0/16", "nursery": True})["pid"]


@pytest.mark.parametrize(("after", "seen"), [("b", "b|1"), ("aaaa", "ValueError")])
def test_a_process_can_shorten_a_variable_where_others_read_it_and_not_lengthen_it(after: str, seen: str) -> None:
    program = (
        "import os, sys\n"
        "from infra.local.clusterhost import retag\n"
        "from infra.local.processes import tags_of\n"
        "try: retag('STAGES_CLUSTER', '---', sys.argv[1])\n"
        "except ValueError as error: print(type(error).__name__)\n"
        "else: print(tags_of(os.getpid())['STAGES_CLUSTER'] + '|' + tags_of(os.getpid())['ZZ'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, after],
        env={"XSTAGES_CLUSTER": "---", "STAGES_CLUSTER": "---", "ZZ": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == seen
