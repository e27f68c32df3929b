"""The command line: `stages`. Exit statuses, arguments, and who is asked to do what; nothing else.

    verify, sweep    0 valid, 1 invalid, 2 unknown
    canary           0 promoted, 1 rolled back, 2 undecided and rolled back
    others           0 done, 1 could not be done (the message says why)
    all              130 interrupted, 254 wrong usage or bad input (nothing was started), 255 our own crash

Imports of anything heavy are inside the commands: `stages --help` answers at once.
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from suite.ports import BadInput, SuiteError
from suite.wishes import DEFAULT_RATE, QUICK_RATE, SWEEP_RATE, SweepWishes, Wishes

if TYPE_CHECKING:
    from rich.status import Status

    from stages.model import Stage, Variant
    from suite.ports import Target
    from suite.show import Page

EXIT_FAILED, EXIT_INTERRUPTED, EXIT_BAD_INPUT, EXIT_CRASH = 1, 130, 254, 255
EXIT_OF = {"valid": 0, "invalid": 1, "unknown": 2}

_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""Base of everything that says 'wrong usage'. Typer brings its own copy of click and exports only this descendant."""

app = typer.Typer(
    name="stages",
    help="Deploy one shop through the stages of decoupling, break it under load, and compare the predicted "
    "blast radius with the measured one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help and usage errors: boxes around them cost a third of the command's start
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
sweeps = typer.Typer(help="Change one thing step by step and measure what follows.", no_args_is_help=True)
app.add_typer(sweeps, name="sweep")

dead_letters = typer.Typer(no_args_is_help=True, help="Messages that nobody could handle: list, show, redrive.")
app.add_typer(dead_letters, name="dlq")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of text.")]
Use = Annotated[
    str | None, typer.Option("--use", metavar="DEPLOYMENT", help="A running deployment; default: the only one.")
]

Where = Annotated[str, typer.Option("--target", metavar="local|aws", help="Where; aws by the Pulumi engine.")]

Queue = Annotated[str | None, typer.Argument(metavar="[QUEUE]", help="Default: all.")]
Letters = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this letter; repeatable.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command("list")
def list_(
    faults: Annotated[bool, typer.Option("--faults", help="List the faults of each stage.")] = False,
    variants: Annotated[bool, typer.Option("--variants", help="List the deliberately broken variants.")] = False,
    as_json: Json = False,
) -> None:
    """The stages, or the faults, or the broken variants."""
    from suite import show
    from suite.bootstrap import fault_catalogue, target

    if variants:
        _print(show.variants(), as_json)
    elif faults:
        _print(show.faults(fault_catalogue()), as_json)
    else:
        _print(show.stages(target()), as_json)


@app.command()
def show(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Such as mesh; with --cost aws-mesh.")],
    cost: Annotated[bool, typer.Option("--cost", help="What it costs on AWS in a month: an estimate.")] = False,
    size: Annotated[
        str | None, typer.Option("--size", metavar="production|trial", help="With --cost; default: production.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option("--broker", metavar="sqs|kafka", help="With --cost; default: sqs.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One stage: systems, operations, channels, promises it cannot keep, and what each fault is predicted to break."""
    if cost:
        from suite.estimate import page

        _print(page(stage, size or "production", broker or "sqs"), as_json)
        return
    if size or broker:
        raise BadInput(["--size and --broker are for an estimate: say --cost too"])
    from suite import show as text
    from suite.bootstrap import fault_catalogue

    _print(text.stage(_stage(stage), fault_catalogue()[stage]), as_json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE")],
    after: Annotated[str, typer.Argument(metavar="AFTER")],
    as_json: Json = False,
) -> None:
    """What changes between two stages: channels, clusters, promises, and what each fault breaks."""
    from suite import show as text
    from suite.bootstrap import fault_catalogue

    _print(text.difference(_stage(before), _stage(after), fault_catalogue()), as_json)


@app.command()
def up(
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the deployment; default: the stage's.")] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="Deploy a deliberately broken shop.")] = None,
    where: Where = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="On AWS: only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Deploy a stage and leave it running: here, or on AWS with a stack per system (stage mesh)."""
    from suite.bootstrap import new_run_id, target

    chosen = _stage(stage)
    broken = _variant(variant)
    if where != "local":
        if broken:
            raise BadInput(["variants are deployed on the local target only: leave out --variant or --target"])
        if dry_run:
            _planned(where, chosen, name or stage, as_json)
        else:
            _rolled(where, chosen, [name or stage], as_json)
        return
    if dry_run:
        raise BadInput(["--dry-run is for --target aws; what a stage consists of says 'stages show STAGE'"])
    local = target()
    if reasons := local.cannot(chosen):
        raise BadInput([f"stage {stage!r} cannot run here: {why}" for why in reasons])
    with err.status(f"deploying {stage}") as status:
        deployment = local.up(
            chosen,
            name=name or stage,
            run_id=new_run_id(),
            variant=broken,
            owner_pid=None,
            progress=status.update,
        )
    if as_json:
        _json(json.loads(deployment.to_json()))
    else:
        out.print(f"{deployment.name}: stage {deployment.stage} answers at {deployment.edge}")
        out.print(f"logs: {deployment.directory}/logs", style="dim")


@app.command()
def down(
    names: Annotated[list[str] | None, typer.Argument(metavar="[DEPLOYMENT]...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every deployment there is; local only.")] = False,
    where: Where = "local",
    as_json: Json = False,
) -> None:
    """Take deployments away, with everything of theirs: processes, ports, files and faults, or stacks."""
    from suite.bootstrap import target

    if where != "local":
        if everything or not names:
            raise BadInput(["which one? name what is to be destroyed on another target than local"])
        _rolled(where, None, names, as_json)
        return
    local = target()
    there = local.names()
    chosen = there if everything else (names or there)
    if not everything and not names and len(there) > 1:
        raise BadInput([f"which one? {', '.join(there)} are running: name them, or say --all"])
    for name in chosen:
        local.down(name)
    if as_json:
        _json({"down": sorted(chosen)})
    else:
        out.print("\n".join(f"{name}: down" for name in chosen) or "nothing was running")


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[DEPLOYMENT]")] = None,
    as_json: Json = False,
) -> None:
    """What runs, what does not any more, and which faults are on."""
    from suite import show as text
    from suite.bootstrap import target

    local = target()
    names = [local.get(name).name] if name else local.names()
    _print(text.status(local, names), as_json)


@app.command()
def logs(
    service: Annotated[str, typer.Argument(metavar="SERVICE")],
    use: Use = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many, from the end.")] = 100,
) -> None:
    """The last lines a service wrote, or a part of the mesh."""
    from suite.bootstrap import choose_deployment, target

    local = target()
    deployment = choose_deployment(local, use)
    known = [*deployment.services, *deployment.parts]
    if service not in known:
        raise BadInput([f"deployment {deployment.name!r} has no service {service!r}; it has {', '.join(known)}"])
    sys.stdout.write("".join(line + "\n" for line in local.log(deployment.name, service, lines)))


@app.command()
def verify(
    stages: Annotated[list[str] | None, typer.Argument(metavar="[STAGE]...", help="Default: all that can run.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The three most telling faults of each stage.")] = False,
    faults: Annotated[
        list[str] | None, typer.Option("--faults", metavar="NAME,...", help="Only these faults; may be repeated.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="R",
            help=f"Requests per second over all operations; default: {DEFAULT_RATE:g}, with --quick {QUICK_RATE:g}.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of arrivals and operations.")] = 7,
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="A deliberately broken shop.")
    ] = None,
    use: Use = None,
    out_dir: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: runs/<utc>-<seed>.")] = None,
    as_json: Json = False,
) -> None:
    """Deploy, load, break, heal, judge. Exit status 0 valid, 1 invalid, 2 unknown."""
    from suite.bootstrap import verify_parts
    from suite.report.text import print_summary
    from suite.verify import verify as run

    wishes = Wishes(
        stages=tuple(stages or ()),
        quick=quick,
        faults=tuple(name.strip() for given in faults or () for name in given.split(",") if name.strip()),
        rate=rate,
        seed=seed,
        variant=variant,
    )
    with verify_parts(wishes, use=use, out=out_dir, console=err, argv=sys.argv[1:]) as parts:
        signal.signal(signal.SIGTERM, _interrupt)
        verdict = run(parts)
    if as_json:
        _json(verdict)
    else:
        print_summary(verdict, out)
        out.print(f"report: {parts.store.directory / 'report.html'}", style="dim")
    raise typer.Exit(EXIT_OF[verdict["verdict"]])


@app.command()
def load(
    use: Use = None,
    rate: Annotated[float, typer.Option("--rate", metavar="R", help="Requests per second over all operations.")] = (
        DEFAULT_RATE
    ),
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3600, help="How long.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 7,
    as_json: Json = False,
) -> None:
    """Drive a running deployment with open-loop load and print latency per operation. 2 if the generator lagged."""
    from suite.drive import drive

    page = drive(use=use, rate=rate, seconds=seconds, seed=seed, progress=err)
    _print(page, as_json)
    raise typer.Exit(EXIT_OF[page.content["verdict"]])


@app.command()
def canary(
    service: Annotated[str, typer.Argument(metavar="SERVICE")],
    share: Annotated[int, typer.Option("--share", metavar="PERCENT", help="Of its calls, 1 to 99.")] = 10,
    candidate: Annotated[
        str, typer.Option("--candidate", metavar="good|slow|failing", help="What the second version is like.")
    ] = "good",
    use: Use = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="MAX", help="Time limit; default: what a good one takes, x 3.")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", metavar="R", help="Requests per second, driven if nobody drives any.")
    ] = DEFAULT_RATE,
    as_json: Json = False,
) -> None:
    """Try a second version of a service on a share of its calls: promote it or roll it back. Needs a stage with a mesh.

    Exit status 0 promoted, 1 rolled back, 2 undecided and rolled back.
    """
    from suite.canary import EXIT_OF as exits
    from suite.canary import CanaryWishes
    from suite.canary_run import canary as run

    wishes = CanaryWishes(service=service, share_percent=share, candidate=candidate, seconds=seconds, rate=rate)
    signal.signal(signal.SIGTERM, _interrupt)
    page = run(wishes, use=use, console=err)
    _print(page, as_json)
    raise typer.Exit(exits[page.content["outcome"]])


@sweeps.command()
def distance(
    stages: Annotated[list[str] | None, typer.Argument(metavar="[STAGE]...", help="Default: all that can run.")] = None,
    delays: Annotated[
        str, typer.Option("--delays", metavar="MS,...", help="One-way delays; default: 0,5,10,25,50.")
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Three distances, shorter.")] = False,
    rate: Annotated[float, typer.Option("--rate", metavar="R", help="Requests per second over all operations.")] = (
        SWEEP_RATE
    ),
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of arrivals and of the order.")] = 7,
    use: Annotated[
        str | None, typer.Option("--use", metavar="DEPLOYMENT", help="A running deployment; default: deploy one.")
    ] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: runs/sweep-<utc>-<seed>.")] = (
        None
    ),
    as_json: Json = False,
) -> None:
    """Move systems apart and measure the round trips that each answer waits for. Exit status as of verify."""
    from suite.sweep_run import summary, sweep, sweep_parts

    wishes = SweepWishes(stages=tuple(stages or ()), delays=delays, rate=rate, seed=seed, quick=quick)
    with sweep_parts(wishes, use=use, out=out_dir, console=err, argv=sys.argv[1:]) as parts:
        signal.signal(signal.SIGTERM, _interrupt)
        document = sweep(parts)
    if as_json:
        _json(document)
    else:
        for renderable in summary(document):
            out.print(renderable)
        out.print(f"report: {parts.tools.store.directory / 'sweep.html'}", style="dim")
    raise typer.Exit(EXIT_OF[document["verdict"]])


@dead_letters.command("list")
def dlq_list(use: Use = None, as_json: Json = False) -> None:
    """How many messages are dead in which queue, why, and since when."""
    from suite import dlq

    _print(dlq.summary(*_running(use)), as_json)


@dead_letters.command("show")
def dlq_show(
    queue: Queue = None,
    ids: Letters = None,
    use: Use = None,
    as_json: Json = False,
) -> None:
    """The dead letters themselves, with their bodies; they stay where they are."""
    from suite import dlq

    _print(dlq.letters(*_running(use), queue, ids or ()), as_json)


@dead_letters.command("redrive")
def dlq_redrive(
    queue: Queue = None,
    ids: Letters = None,
    use: Use = None,
    as_json: Json = False,
) -> None:
    """Give dead letters another chance: back to the queue they came from."""
    from suite import dlq

    _print(dlq.redrive(*_running(use), queue, ids or ()), as_json)


@app.command()
def heal(as_json: Json = False) -> None:
    """Undo every fault that is still on, whoever set it."""
    from suite.bootstrap import target

    healed, left = target().heal()
    if as_json:
        _json({"healed": healed, "left": left})
    else:
        out.print("\n".join(f"{name}: undone" for name in healed) or "no fault was on")
        for name in left:
            err.print(f"{name}: still on", style="red")
    raise typer.Exit(EXIT_FAILED if left else 0)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Such as runs/latest.")] = Path("runs/latest"),
    as_json: Json = False,
) -> None:
    """Write report.html and junit.xml again from a run's verdict.json and history.jsonl."""
    from suite.publish import rewrite

    paths = rewrite(directory)
    if as_json:
        _json({"written": [str(path) for path in paths]})
    else:
        out.print("\n".join(str(path) for path in paths))


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine has and lacks, per target and stage."""
    from suite.bootstrap import target
    from suite.doctor import examine

    findings = examine(target())
    _print(findings, as_json)
    raise typer.Exit(0 if findings.content["ok"] else EXIT_FAILED)


def main() -> NoReturn:
    """Run the command line and exit with its status; every way out of the program is one of these lines."""
    for listed in (app, sweeps, dead_letters):
        _list_whole_sentences(listed)
    command = typer.main.get_command(app)
    try:
        status = command.main(standalone_mode=False)
    except _USAGE_ERROR as error:
        error.show()
        status = EXIT_BAD_INPUT
    except BadInput as error:
        for problem in error.problems:
            err.print(f"[bold red]error:[/] {escape(problem)}")
        status = EXIT_BAD_INPUT
    except SuiteError as error:
        err.print(f"[bold red]failed:[/] {escape(str(error))}")
        status = EXIT_FAILED
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted: healed, torn down")
        status = EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        err.print(f"[bold red]error:[/] package {error.name!r} is missing: run 'make setup' (or pip install -e .)")
        status = EXIT_BAD_INPUT
    except BrokenPipeError:
        sys.stderr.close()
        status = EXIT_FAILED
    except Exception:
        traceback.print_exc()
        err.print("[bold red]this is a defect of 'stages' itself[/]: please report it with the lines above")
        status = EXIT_CRASH
    sys.exit(status or 0)


def _list_whole_sentences(listed: typer.Typer) -> None:
    """A summary that is given is wrapped in the list of commands; one taken from the docstring is cut short."""
    for command in listed.registered_commands:
        command.short_help = " ".join((inspect.getdoc(command.callback) or "").partition("\n\n")[0].split())


def _planned(where: str, stage: Stage, name: str, as_json: bool) -> None:
    """Say what would be done with which stack, and start nothing."""
    from suite.bootstrap import cloud

    port = cloud(where)
    if problems := list(dict.fromkeys(port.cannot(stage, name))):
        raise BadInput(problems)
    planned = port.planned(stage, name=name)
    if as_json:
        _json(planned.stacks)
    else:
        out.print(escape(planned.summary))


def _rolled(where: str, stage: Stage | None, names: list[str], as_json: bool) -> None:
    """Build a stage under a name, or without a stage destroy what stands under each; exit 1 unless all is done."""
    from suite.bootstrap import cloud

    port = cloud(where)
    if problems := list(dict.fromkeys(why for name in names for why in port.cannot(stage, name))):
        raise BadInput(problems)
    content: dict[str, Any] = {}
    ok = True
    for name in names:
        with err.status(f"{'deploying' if stage else 'destroying'} {name}") as status:

            def say(line: str, status: Status = status) -> None:
                status.update(escape(line))

            rollout = port.up(stage, name=name, progress=say) if stage else port.down(name, progress=say)
        ok = ok and (rollout is None or rollout.ok)
        content[name] = rollout.stacks if rollout else {}
        if not as_json:
            out.print(escape(rollout.summary) if rollout else f"{name}: nothing was there")
    if as_json:
        _json(content)
    raise typer.Exit(0 if ok else EXIT_FAILED)


def _running(use: str | None) -> tuple[Target, str]:
    """The target and the name of a deployment there; BadInput without one."""
    from suite.bootstrap import choose_deployment, target

    local = target()
    return local, choose_deployment(local, use).name


def _stage(name: str) -> Stage:
    from stages.catalogue import STAGES
    from suite.plan import unknown

    if name not in STAGES:
        aws = name.removeprefix("aws-")
        if aws in STAGES:
            raise BadInput([f"{name!r} is stage {aws!r} on AWS: 'stages show {name} --cost' tells what it costs"])
        raise BadInput([unknown("stage", name, list(STAGES), "stages list")])
    return STAGES[name]


def _variant(name: str | None) -> Variant | None:
    from stages.catalogue import VARIANTS
    from suite.plan import unknown

    if name is None:
        return None
    if name not in VARIANTS:
        raise BadInput([unknown("variant", name, list(VARIANTS), "stages list --variants")])
    return VARIANTS[name]


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(page: Page, as_json: bool) -> None:
    if as_json:
        _json(page.content)
    else:
        for renderable in page.text:
            out.print(renderable)


def _json(content: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
