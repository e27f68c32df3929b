"""`make bench`: what things cost, as ratios of two figures taken in one run, so that a slow machine changes little.

    wire       a round trip through a wire            / the same without it
    generator  its p99 at 1,000 requests/s            / the server's own p99
    message    from send to handler, median           / its p99
    up         `stages up`, each stage                / importing the services once
    verify     `stages verify --quick`, both stages   / deploying them
    sidecars   a call through a pair of sidecars      / the same stage without a mesh

A Toxiproxy server on PATH (`toxiproxy-server`, `toxiproxy-cli`) is measured beside the wire.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.local.mesh.envoy import find_envoy
from infra.local.mesh.testing_price import Price, measure_pair
from infra.local.testing import Shop, local_cloud, round_trip_us
from loadtests.driver import LocustDriver
from loadtests.tally import percentiles
from loadtests.testing import running_shop
from stages.history import Invocation, read
from suite.testing.user import User
from workloads.broker.testing import Latency, broker_process, measure_latency, queues_at
from workloads.testing_processes import free_ports

ROUNDS = 5

ISTIO_P90_MS = 0.228
"""Added by a pair of sidecars: Istio 1.20, 1,000 requests/s of 1 kB, 2 to 64 connections, mTLS (istio.io)."""
ISTIO_VCPU = 0.20
"""Of one sidecar at 1,000 requests/s of 1 kB: Istio 1.24, 2 workers (istio.io)."""


@dataclass(frozen=True)
class Figure:
    """One comparison."""

    what: str
    figure: str
    beside: str
    ratio: float
    bound: str


def wire(directory: Path) -> list[Figure]:
    """Alternate between the two paths, so that both see the same noise."""
    with local_cloud(directory / "cloud") as cloud:
        shop = Shop(cloud).up()
        url = cloud.get(shop.at("services/back"))["url"]
        direct = ("127.0.0.1", int(url.rpartition(":")[2]))
        paths = {"direct": direct, "wire": shop.wire()}
        toxiproxy = _toxiproxy(direct)
        if toxiproxy is not None:
            paths["toxiproxy"] = toxiproxy[0]
        try:
            seen = {name: [] for name in paths}  # type: dict[str, list[float]]
            for _ in range(ROUNDS):
                for name, address in paths.items():
                    seen[name].append(round_trip_us(address))
        finally:
            if toxiproxy is not None:
                toxiproxy[1].kill()
                toxiproxy[1].wait()
            shop.down()
    p50 = {name: statistics.median(times) for name, times in seen.items()}
    figures = [_wire_figure("direct", p50, "")]
    if toxiproxy is not None:
        figures.append(_wire_figure("toxiproxy", p50, "<= 1"))
    return figures


def _wire_figure(beside: str, p50: dict[str, float], bound: str) -> Figure:
    base = p50["direct"]
    added, other = p50["wire"] - base, p50[beside] - base
    if beside == "direct":
        return Figure(
            "wire, round trip p50", f"{p50['wire']:.0f} us", f"{base:.0f} us direct", p50["wire"] / base, bound
        )
    return Figure("wire, added p50", f"{added:.0f} us", f"{other:.0f} us {beside}", added / other, bound)


def _toxiproxy(upstream: tuple[str, int]) -> tuple[tuple[str, int], subprocess.Popen[bytes]] | None:
    server, cli = shutil.which("toxiproxy-server"), shutil.which("toxiproxy-cli")
    if server is None or cli is None:
        return None
    process = subprocess.Popen([server, "-host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    create = [cli, "create", "-l", "127.0.0.1:21212", "-u", f"{upstream[0]}:{upstream[1]}", "bench"]
    deadline = time.monotonic() + 5
    while subprocess.run(create, capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError("toxiproxy-server does not answer")
        time.sleep(0.1)
    return ("127.0.0.1", 21212), process


def generator(directory: Path) -> list[Figure]:
    """The generator on one core, a server that sleeps 20 ms on another; the quietest of a few windows."""
    directory.mkdir()
    cores = sorted(os.sched_getaffinity(0))
    windows = []
    with running_shop(delay_ms=20, core=cores[-1]) as shop, LocustDriver(directory) as driver:
        driver.start(edge=shop.edge, run_id="bench", rate_per_s=1000, mix={"browse": 1, "insights": 1}, seed=7)
        os.sched_setaffinity(driver.pids[0], {cores[0]})
        for _ in range(ROUNDS):
            before = len(shop.truth()["durations_ms"])
            start_ns = driver.phase("window")
            threading.Event().wait(3.0)
            end_ns = driver.phase("between")
            threading.Event().wait(0.3)
            truth = shop.truth()["durations_ms"][before:]
            with driver.histories[0].open() as lines:
                sent = [r for r in read(lines) if isinstance(r, Invocation) and start_ns <= r.intended_ns < end_ns]
            windows.append((_p99([r.latency_ms for r in sent]), _p99(truth)))
        driver.stop()
    said, true = min(windows, key=lambda w: w[0] - w[1])
    return [Figure("generator, p99 at 1,000/s", f"{said:.1f} ms", f"{true:.1f} ms true", said / true, "error < 5 ms")]


def _p99(values: list[float]) -> float:
    found = percentiles(values, 99)[0]
    assert found is not None
    return found


def messages() -> list[Figure]:
    """A message through the embedded broker at 50 a second, sender and consumer in one process."""

    async def measured() -> Latency:
        with broker_process(free_ports(1)[0]) as broker:
            async with queues_at(broker.endpoint) as queues:
                return await measure_latency(queues)

    seen = asyncio.run(measured())
    said, beside = f"{seen.p50_ms:.1f} ms", f"{seen.p99_ms:.1f} ms p99"
    return [Figure("message, send to handler, at 50/s", said, beside, seen.p50_ms / seen.p99_ms, "p50 < 15 ms")]


def sidecars(directory: Path) -> list[Figure]:
    """A mesh and the same stage without it, taking turns; beside them what Istio publishes, from other machines."""
    if find_envoy() is None:
        return []
    price = measure_pair(directory)
    return [_added(price, 0), _added(price, 1), _burnt(price)]


def _added(price: Price, at: int) -> Figure:
    what = ("p50", "p90")[at]
    published = f"; Istio 1.20: {ISTIO_P90_MS} ms at p90" if at else ""
    return Figure(
        f"sidecar pair, added {what} at {price.rate:g}/s",
        f"{price.added_ms[at]:.2f} ms",
        f"{price.flat_ms[at]:.2f} ms without{published}",
        price.mesh_ms[at] / price.flat_ms[at],
        "",
    )


def _burnt(price: Price) -> Figure:
    said = f"{price.vcpu_per_1000:.2f} vCPU"
    beside = f"{ISTIO_VCPU:.2f} vCPU, Istio 1.24"
    return Figure("one sidecar, per 1,000 requests/s", said, beside, price.vcpu_per_1000 / ISTIO_VCPU, "")


def deployment(directory: Path) -> list[Figure]:
    """Deploying, and a whole quick verdict, beside what importing the services once takes."""
    directory.mkdir()
    user = User(home=directory / "home", directory=directory)
    imported_s = _seconds(lambda: subprocess.run([sys.executable, "-c", "import workloads.services"], check=True))
    figures = []
    both_s = 0.0
    for stage in ("sync", "async"):
        up_s = _seconds(lambda stage=stage: user.json("up", stage))  # type: ignore[misc]
        user.json("down")
        both_s += up_s
        beside = f"{imported_s:.1f} s to import it once"
        figures.append(Figure(f"stages up {stage}", f"{up_s:.1f} s", beside, up_s / imported_s, "< 8 s"))
    verify_s = _seconds(lambda: user.run("verify", "--quick", "--out", str(directory / "run"), timeout_s=600))
    document = json.loads((directory / "run" / "verdict.json").read_text())
    memory_mb = max(stage["memory_mb"] for stage in document["stages"].values())
    figures.append(
        Figure(
            f"verify --quick ({document['verdict']}, {memory_mb:.0f} MB)",
            f"{verify_s:.0f} s",
            f"{both_s:.1f} s to deploy both",
            verify_s / both_s,
            "< 120 s for both stages, 2 GB",
        )
    )
    return figures


def _seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stages-bench-") as name:
        directory = Path(name)
        figures = [
            *wire(directory / "w"),
            *generator(directory / "g"),
            *messages(),
            *sidecars(directory / "s"),
            *deployment(directory / "d"),
        ]
    if asked.json:
        print(json.dumps([asdict(f) for f in figures], indent=1))
        return
    for f in figures:
        print(f"{f.what:44} {f.figure:>10}  beside {f.beside:28} ratio {f.ratio:6.2f}  {f.bound}")


if __name__ == "__main__":
    main()
