"""Does the provider have what it is told, clean up after failing, see drift, keep secrets, and stop when cancelled?

Its logic is asked directly, with a real local cloud behind it and small stand-ins for services.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime import rpc

from infra.local.client import LocalCloud
from infra.local.errors import CloudError, Conflict, Invalid
from infra.local.pulumi.kinds import KINDS
from infra.local.pulumi.provider import LocalProvider
from infra.local.pulumi.testing import PLUGIN, ROOT
from infra.local.pulumi.values import plain_map, property_map
from infra.local.target import LocalTarget
from infra.local.testing import CLUSTER, Shop, end, local_cloud


class Provider:
    """The provider as the engine sees it, with plain values."""

    def __init__(self, home: Path) -> None:
        self.asked = LocalProvider(LocalTarget(home))

    async def check(self, kind: str, **inputs: Any) -> list[tuple[str, str]]:
        answer = await self.asked.check(api.CheckRequest(urn(kind), {}, property_map(inputs, {}), b""))
        return [(failure.property, failure.reason) for failure in answer.failures or ()]

    async def create(self, kind: str, *, preview: bool = False, **inputs: Any) -> tuple[str, dict[str, Any]]:
        answer = await self.asked.create(api.CreateRequest(urn(kind), property_map(inputs, {}), 0, preview))
        return str(answer.resource_id), plain_map(answer.properties)

    async def read(self, kind: str, resource_id: str, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """(inputs, state), or () if it is gone."""
        known = property_map(inputs, {})
        answer = await self.asked.read(api.ReadRequest(urn(kind), resource_id, known, known))
        return (plain_map(answer.inputs), plain_map(answer.properties)) if answer.resource_id else ()

    async def update(self, kind: str, resource_id: str, olds: dict[str, Any], news: dict[str, Any]) -> dict[str, Any]:
        old, new = property_map(olds, {}), property_map(news, {})
        return plain_map(
            (await self.asked.update(api.UpdateRequest(urn(kind), resource_id, old, new, 0, [], False))).properties
        )

    async def delete(self, kind: str, resource_id: str) -> None:
        await self.asked.delete(api.DeleteRequest(urn(kind), resource_id, {}, 0))


def urn(kind: str) -> str:
    return f"urn:pulumi:s::p::{KINDS[kind].token}::x"


def service(name: str, *args: str, word: str = "one") -> dict[str, Any]:
    return {
        "deployment": "shop",
        "name": name,
        "cluster": CLUSTER,
        "module": "infra.local.standin",
        "args": list(args),
        "env": {"STAND_IN_LISTEN": "127.0.0.1:{port}", "STAND_IN_WORD": word, "STAND_IN_DATABASE": ""},
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with local_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield Shop(cloud).up()


@pytest.fixture
def provider(shop: Shop) -> Provider:
    return Provider(shop.home.path)


async def test_every_problem_is_told_before_anything_runs(provider: Provider, shop: Shop) -> None:
    found = await provider.check("service", deployment="shop", name="Orders", cluster="", module="7", ready_path="x")
    assert [name for name, _ in found] == ["", "cluster", "module", "ready_path"]
    assert all(reason for _, reason in found)
    assert await provider.check("service", **service("fine")) == []


async def test_inputs_that_are_not_known_yet_are_no_problem(provider: Provider) -> None:
    assert await provider.check("service", **{**service("fine"), "args": [rpc.UNKNOWN]}) == []


async def test_a_preview_asks_nobody(tmp_path: Path) -> None:
    provider = Provider(tmp_path / "home")
    resource_id, state = await provider.create("service", preview=True, **service("new"))
    assert (resource_id, state["cluster"]) == ("", CLUSTER)
    assert repr(state["url"]) == "(known after up)"
    assert not (tmp_path / "home").exists()


async def test_what_is_created_is_read_updated_and_deleted(provider: Provider, shop: Shop) -> None:
    inputs = service("made")
    resource_id, state = await provider.create("service", **inputs)
    assert (resource_id, state["state"]) == ("shop/services/made", "running")
    assert await provider.read("service", resource_id, inputs) == (inputs, state)

    pid = shop.pid("made")
    after = await provider.update("service", resource_id, state, service("made", word="two"))
    assert after["env"]["STAND_IN_WORD"] == "two"
    assert shop.pid("made") != pid

    await provider.delete("service", resource_id)
    await provider.delete("service", resource_id)
    assert await provider.read("service", resource_id, inputs) == ()


async def test_a_failed_create_says_why_and_leaves_nothing(provider: Provider, shop: Shop) -> None:
    with pytest.raises(CloudError, match="exited with status 3"):
        await provider.create("service", **service("doomed", "--die", "3"))
    assert ("service", "doomed") not in {(r["kind"], r["name"]) for r in shop.cloud.get(shop.at())["resources"]}


async def test_a_create_that_fails_on_what_was_there_leaves_it(provider: Provider, shop: Shop) -> None:
    pid = shop.pid("front")
    with pytest.raises(CloudError):
        await provider.create("service", **service("front", "--die", "3"))
    assert (shop.pid("front"), shop.state("front")) == (pid, "running")


async def test_a_killed_service_is_drift_and_an_update_repairs_it(provider: Provider, shop: Shop) -> None:
    inputs = service("frail")
    resource_id, state = await provider.create("service", **inputs)
    end(shop.pid("frail"))
    (_, seen) = await provider.read("service", resource_id, inputs)
    assert (seen["state"], seen["ended"]) == ("exited", "was ended by SIGKILL")
    after = await provider.update("service", resource_id, seen, inputs)
    assert {**after, "url": ""} == {**state, "url": ""}  # only where it listens is new, and wires know that
    assert await provider.read("service", resource_id, inputs) == (inputs, after)


async def test_what_somebody_else_put_is_drift(provider: Provider, shop: Shop) -> None:
    inputs = service("edited")
    resource_id, _ = await provider.create("service", **inputs)
    shop.cloud.put(shop.at("services/edited"), KINDS["service"].body(service("edited", word="by hand")))
    found, seen = await provider.read("service", resource_id, inputs)
    assert found["env"]["STAND_IN_WORD"] == seen["env"]["STAND_IN_WORD"] == "by hand"
    olds, news = property_map(seen, {}), property_map(inputs, {})
    diff = await provider.asked.diff(api.DiffRequest(urn("service"), resource_id, olds, news, []))
    assert list(diff.detailed_diff) == ["env.STAND_IN_WORD"]
    assert not diff.replaces


async def test_an_imported_resource_has_the_inputs_of_the_cloud(provider: Provider, shop: Shop) -> None:
    found, _ = await provider.read("wire", "shop/wires/front-back", {})
    assert found == {"deployment": "shop", "name": "front-back", "caller": "front", "callee": "back"}


async def test_secrets_stay_secrets(provider: Provider) -> None:
    given = property_map(service("sealed"), {})
    env = cast(Mapping[str, PropertyValue], given["env"].value)
    given["env"] = PropertyValue({**env, "STAND_IN_WORD": PropertyValue("hidden", is_secret=True)})
    created = await provider.asked.create(api.CreateRequest(urn("service"), given, 0, False))
    assert created.properties["env"] == given["env"]
    read = await provider.asked.read(api.ReadRequest(urn("service"), "shop/services/sealed", created.properties, given))
    assert read.inputs["env"] == read.properties["env"] == given["env"]


async def test_a_deployment_becomes_another_stage_but_no_other_run(provider: Provider, shop: Shop) -> None:
    inputs = {"name": "mover", "stage": "sync", "run_id": "r1"}
    resource_id, state = await provider.create("deployment", **inputs)
    after = await provider.update("deployment", resource_id, state, {**inputs, "stage": "async"})
    assert (after["stage"], after["record"]) == ("async", state["record"])
    assert shop.cloud.get("/deployments/mover")["deployment"]["stage"] == "async"
    with pytest.raises(Conflict, match="run_id is 'r1', asked for 'r2'"):
        await provider.create("deployment", **{**inputs, "run_id": "r2"})
    with pytest.raises(Conflict, match="stage is 'async', asked for 'sync'"):
        shop.cloud.put("/deployments/mover", {"stage": "sync", "run_id": "r1"})
    await provider.delete("deployment", resource_id)
    assert await provider.read("deployment", resource_id, inputs) == ()


async def test_what_is_cancelled_ends_at_once_and_nothing_more_is_begun(provider: Provider, shop: Shop) -> None:
    slow = asyncio.ensure_future(provider.create("service", **service("late", "--slow-start", "5")))
    await asyncio.sleep(0.3)
    await provider.asked.cancel()
    with pytest.raises(Conflict, match="cancelled while"):
        await asyncio.wait_for(slow, 1.0)
    with pytest.raises(Conflict, match="cancelled before"):
        await provider.create("service", **service("later"))


async def test_nothing_is_started_to_find_that_nothing_is_there(tmp_path: Path) -> None:
    provider = Provider(tmp_path)
    assert await provider.read("service", "shop/services/orders", service("orders")) == ()
    await provider.delete("service", "shop/services/orders")
    await provider.delete("deployment", "shop")
    assert list(tmp_path.iterdir()) == []


async def test_a_stage_that_cannot_run_here_is_refused_before(provider: Provider, monkeypatch: Any) -> None:
    monkeypatch.setenv("STAGES_PORTS", "nonsense")
    ((_, reason),) = await provider.check("deployment", name="x", stage="sync", run_id="r")
    assert reason.startswith("stage 'sync' cannot run here: STAGES_PORTS")


def test_a_python_without_the_project_is_told_what_to_do(tmp_path: Path) -> None:
    """The first python3 on PATH has to be the project's."""
    (tmp_path / "python3").symlink_to(Path(sys.executable).resolve())
    ended = subprocess.run(
        [PLUGIN, "127.0.0.1:1"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "source .venv/bin/activate" in ended.stderr


def test_many_are_created_at_once(provider: Provider, shop: Shop) -> None:
    """The engine asks for what it can in parallel; the provider is not what makes it wait."""
    most, now, lock = [0], [0], threading.Lock()
    barrier = threading.Barrier(8, timeout=10)

    class Counting(LocalCloud):
        def put(self, path: str, body: Mapping[str, object]) -> Any:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            barrier.wait()
            with lock:
                now[0] -= 1
            return super().put(path, body)

    provider.asked._cloud = Counting(shop.home)

    async def all_of_them() -> None:
        await asyncio.gather(
            *(provider.create("database", deployment="shop", name=f"at-once-{number}") for number in range(8))
        )

    asyncio.run(all_of_them())
    provider.asked._cloud.close()
    assert most == [8]


def test_wrong_inputs_raise_invalid() -> None:
    with pytest.raises(Invalid):
        KINDS["wire"].normal({"name": "w"})


def test_a_program_without_the_project_is_told_what_to_do() -> None:
    code = "import runpy, sys; sys.modules['infra.program'] = None; runpy.run_path('infra', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("pulumi.errors.RunError: the python that runs this program lacks infra.program")
    assert "source .venv/bin/activate" in last
