"""Wrong usage and bad input: exit status 254, every problem at once, what to do, nothing started."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.cli import main
from suite.testing.user import User

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

BAD_INPUT = 254


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("verify", "snyc"), ["unknown stage 'snyc'", "did you mean 'sync'"]),
        (("verify", "--faults", "payments-kiled,nonsense"), ["'payments-kiled'", "'payments-killed'", "'nonsense'"]),
        (("verify", "--faults", "payments-kiled", "--faults", "nonsense"), ["'payments-kiled'", "'nonsense'"]),
        (("verify", "--variant", "no-brakes", "--rate", "0"), ["'no-brakes'", "--rate 0"]),
        (("verify", "--rate", "fast"), ["--rate"]),
        (("verify", "--seed", "-1"), ["--seed"]),
        (("verify", "mesh"), ["stage 'mesh' cannot run here", "STAGES_ENVOY", "the others run without"]),
        (("verify", "--out", "/proc/nowhere"), ["/proc/nowhere", "--out"]),
        (("verify", "--use", "ghost"), ["no deployment 'ghost'"]),
        (("up", "snyc"), ["did you mean 'sync'"]),
        (("up", "mesh"), ["cannot run here"]),
        (("verify", "sync", "--variant", "no-dlq"), ["stages verify async --variant no-dlq"]),
        (("dlq", "list"), ["nothing is running"]),
        (("dlq", "redrive", "--use", "ghost"), ["no deployment 'ghost'"]),
        (("up", "sync", "--variant", "x"), ["unknown variant 'x'"]),
        (("up", "sync", "--name", "../escape"), ["../escape"]),
        (("down", "../escape"), ["../escape"]),
        (("show", "x"), ["unknown stage 'x'"]),
        (("diff", "sync", "x"), ["unknown stage 'x'"]),
        (("load",), ["nothing is running"]),
        (("logs", "orders"), ["nothing is running"]),
        (("report", "nowhere"), ["nowhere/verdict.json is missing", "nowhere/history.jsonl is missing"]),
        (("sweep", "distance", "snyc", "--delays", "0,x", "--rate", "0"), ["did you mean 'sync'", "'x'", "--rate 0"]),
        (("sweep", "distance", "sync", "--delays", "0,25,50"), ["besides 0, 3 to 12"]),
        (("sweep", "distance", "sync", "--delays", "5,10,400"), ["--delays 400 is too far for stage 'sync'"]),
        (
            (
                "sweep",
                "distance",
                "mesh",
            ),
            ["stage 'mesh' cannot run here"],
        ),
        (("sweep", "distance", "--use", "ghost"), ["no deployment 'ghost'"]),
        (("sweep", "distance", "--out", "/proc/nowhere"), ["/proc/nowhere", "--out"]),
        (("sweep", "distance", "--seed", "-1"), ["--seed"]),
        (("sweep", "distance", "--delay", "5"), ["--delay"]),
        (("frobnicate",), ["frobnicate"]),
        (("verify", "--no-such-option"), ["--no-such-option"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_with_what_to_do_and_nothing_is_started(
    user: User,
    words: tuple[str, ...],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(user.directory)
    monkeypatch.setenv("STAGES_HOME", str(user.home))
    monkeypatch.setenv("STAGES_ENVOY", str(user.directory / "none"))
    monkeypatch.setattr("sys.argv", ["stages", *words])
    with pytest.raises(SystemExit) as ended:  # in this process: a second of imports less for each case
        main()
    said = capsys.readouterr().err
    assert ended.value.code == BAD_INPUT, said
    assert [t for t in told if t not in said] == [], said
    assert "Traceback" not in said
    assert user.processes() == []
    assert not (user.directory / "runs").exists()


def test_a_home_that_is_a_file_is_refused(user: User, tmp_path: Path) -> None:
    user.home = tmp_path / "file"
    user.home.touch()
    done = user.run("up", "sync")
    assert done.returncode == BAD_INPUT, done.stderr
    assert str(user.home) in done.stderr


def test_a_home_too_long_for_a_socket_is_refused_by_its_name(user: User, tmp_path: Path) -> None:
    user.home = tmp_path / ("long" * 30)
    done = user.run("up", "sync")
    assert done.returncode == BAD_INPUT, done.stderr
    assert "STAGES_HOME" in done.stderr


def test_a_port_range_without_a_free_port_is_refused(user: User) -> None:
    user.environment["STAGES_PORTS"] = "70000-70010"
    done = user.run("up", "sync")
    assert done.returncode == BAD_INPUT, done.stderr
    assert "70000" in done.stderr
    assert user.processes() == []
