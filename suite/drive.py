"""`stages load`: open-loop load against a running deployment, without faults, and what users saw of it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, RenderableType

from stages.catalogue import STAGES
from stages.check import Span, Verdict, generator_honest, service_levels, worst
from suite.adapters import LocustLoad
from suite.bootstrap import choose_deployment, new_run_id, target
from suite.gathered import Gathered
from suite.observe import STOCK_LEAST, healthy_mix
from suite.plan import rate_problems
from suite.ports import BadInput
from suite.show import Page, table


def drive(*, use: str | None, rate: float, seconds: float, seed: int, progress: Console) -> Page:
    """Drive for so many seconds and say how each operation did; the generator's own honesty decides the verdict."""
    if problems := rate_problems(rate):
        raise BadInput(problems)
    deployment = choose_deployment(target(), use)
    stage = STAGES[deployment.stage]
    gathered = Gathered()
    with tempfile.TemporaryDirectory(prefix="stages-load-") as directory:
        load = LocustLoad(Path(directory))
        try:
            mix = healthy_mix(stage)
            with progress.status(f"{rate:g} requests/s for {seconds:g} s"):
                gathered.follow(load.start(deployment, run_id=new_run_id(), rate=rate, seed=seed, mix=mix))
                load.restock(STOCK_LEAST)
                load.phase("load")
                start_ns = time.monotonic_ns()
                time.sleep(seconds)
                load.phase("drain")
                span = Span(start_ns=start_ns, end_ns=time.monotonic_ns())
                load.stop()
            gathered.refresh()
        finally:
            load.close()
    levels = service_levels(stage, gathered.invocations, [span], gathered.stalls)
    honest = generator_honest(
        gathered.invocations,
        gathered.unsent,
        gathered.usages,
        gathered.stalls,
        gathered.phases,
        slo_ms=min(o.latency_slo_ms for o in stage.operations),
    )
    rows = table("operation", "requests", "good", "p50", "p95", "p99", "promised", "verdict")
    for level in levels:
        figures = (f"{v:.0f} ms" if v is not None else "-" for v in (level.p50_ms, level.p95_ms, level.p99_ms))
        rows.add_row(
            level.operation, str(level.n), str(level.n - level.bad), *figures, f"{level.slo_ms} ms", str(level.verdict)
        )
    verdict = worst([honest.verdict, *(level.verdict for level in levels)])
    content = {
        "verdict": str(verdict),
        "deployment": deployment.name,
        "rate": rate,
        "seconds": seconds,
        "seed": seed,
        "operations": {level.operation: {**asdict(level), "verdict": str(level.verdict)} for level in levels},
        "generator": {"verdict": str(honest.verdict), "because": honest.because, "evidence": dict(honest.evidence)},
    }
    lines: list[RenderableType] = [rows]
    if honest.verdict is not Verdict.VALID:
        lines.append(f"generator: {honest.because}")
    return Page(content, tuple(lines))
