"""clover-rl train: interrupted and gone on with, as users and machines do it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clover_rl.cli import output
from clover_rl.envs.scenario import Scenario
from tests.cli.process import run_here

SMALL = str(Path(__file__).resolve().parents[1] / "data" / "small-scenario.yaml")
KEYS = (
    "name: quick\nabout: seconds\nenvs: 16\nhidden: [16]\nmemory: 1024\nppo_steps: 8\nppo_batch: 64\n"
    "batch: 64\nvalidation_episodes: 1\nvalidation_days: 0.1\n"
)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "quick.yaml"
    path.write_text(KEYS)
    return str(path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_so_that_it_can_be_gone_on_with(
    small_model: object,
    tmp_path: Path,
    recipe: str,
    number: signal.Signals,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    command = ("train", SMALL, "--recipe", recipe, "--seconds", "600", "--out", str(run))
    process = subprocess.Popen(
        [sys.executable, "-m", "clover_rl.cli", *command], stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 240.0
        while not (run / "state.pt").exists():  # the first validation is over
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=120.0)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == status
    assert "Traceback" not in said
    assert (
        said.strip()
        .splitlines()[-1]
        .endswith(f"go on with `clover-rl train {run}/scenario.yaml --resume {run}`")
    )
    refused, _, err = run_here(monkeypatch, capsys, "export", str(run), "-o", str(tmp_path / "x.clover"))
    assert (refused, "was interrupted" in err) == (2, True)
    refused, _, err = run_here(monkeypatch, capsys, *command)
    assert (refused, "was interrupted" in err) == (2, True)


def test_a_run_goes_on_to_its_end_from_the_command_line(
    small_scenario: Scenario,
    tmp_path: Path,
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from clover_rl.agents.train.recipe import load_recipe
    from clover_rl.agents.train.run import TrainingInterrupted
    from clover_rl.agents.train.trainer import train

    run = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        train(small_scenario, load_recipe(recipe, steps=480), run, seed=4, stop=lambda: True)
    for extra, said in (
        (("--recipe", "dqn"), "recipe `quick` with other values"),
        (("--seed", "5"), "seed 4"),
        (("--set", "gpus=1"), "scenario `small` with other settings"),
        (("--out", str(tmp_path / "other")), "both --out and --resume"),
    ):
        status, out, err = run_here(monkeypatch, capsys, "train", SMALL, "--resume", str(run), *extra)
        assert (status, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) <= 2  # what it does, and the one sentence
    same = ("--recipe", recipe, "--steps", "480", "--seed", "4", "--json")
    status, out, err = run_here(monkeypatch, capsys, "train", SMALL, "--resume", str(run), *same)
    assert status == 0, err
    assert json.loads(out)["states"] == 480
    assert (run / "model.zip").exists()


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    with output.progress_bar("training") as advance:
        for step in range(41):
            now[0] = 100.0 + step
            advance(0.5 + step / 100.0, "exact, headroom 0.40")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 60 %, 0:40 left, exact, headroom 0.40",
        "training: 70 %, 0:30 left, exact, headroom 0.40",
        "training: 80 %, 0:20 left, exact, headroom 0.40",
        "training: 90 %, 0:10 left, exact, headroom 0.40",
    ]


def test_tuning_prints_a_table_or_a_document_and_writes_the_best_recipe(
    small_model: object,
    tmp_path: Path,
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("algorithm: pretrained\nfields: {learning_rate: {low: 0.001, high: 0.01, log: true}}\n")
    out = tmp_path / "study"
    command = ("tune", SMALL, "--recipe", recipe, "--space", str(space), "--out", str(out), "--trials", "2")
    status, shown, err = run_here(monkeypatch, capsys, *command, "--steps", "160", "--json")
    assert status == 0, err
    found = json.loads(shown)
    assert found["best_recipe"] == str(out / "best.yaml")
    objectives = [each["objective"] for each in found["trials"]]
    assert objectives == sorted(objectives, reverse=True)
    assert found["trials"][0]["trial"] == found["best_trial"]
    status, shown, err = run_here(monkeypatch, capsys, *command, "--steps", "160")  # all trials have ended
    assert status == 0, err
    assert "learning_rate" in shown
    assert f"clover-rl train {SMALL} --recipe {out / 'best.yaml'}" in shown
    best = ("train", SMALL, "--recipe", str(out / "best.yaml"), "--out", str(tmp_path / "run"), "--json")
    status, shown, err = run_here(monkeypatch, capsys, *best)
    assert status == 0, err
    assert json.loads(shown)["best"]["objective"] == objectives[0]  # a budget in steps: to the bit
    for extra, said in (
        (("--seed", "1"), "another scenario, recipe, space or seed"),
        (("--space", str(tmp_path / "no.yaml")), "does not exist"),
        (("--recipe", "dqn"), "searches pretrained, the recipe `dqn` is dqn"),
    ):
        status, shown, err = run_here(monkeypatch, capsys, *command, "--steps", "160", *extra)
        assert (status, shown) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) <= 2
