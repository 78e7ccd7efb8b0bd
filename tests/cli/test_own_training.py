"""Training on files of one's own, end to end: what is held back is what `evaluate` plays."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from clover_rl.agents.train.algorithms import make_environment
from clover_rl.agents.train.recipe import load_recipe
from clover_rl.envs.scenario import load_scenario
from tests.cli.test_train import KEYS, SMALL, run_here

HOURS, HEAD = 96, 72
DIRTY, CLEAN = 1000.0, 100.0


def write(path: Path, column: str, values: list[float], step_s: float) -> str:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["offset_s", column])
        rows.writerows([index * step_s, value] for index, value in enumerate(values))
    return str(path)


@pytest.mark.parametrize("algorithm", ["pretrained", "dqn"])
def test_training_sees_the_head_of_a_file_and_evaluation_its_tail(
    small_model: object,
    tmp_path: Path,
    algorithm: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    carbon = write(
        tmp_path / "grid.csv", "gco2_per_kwh", [CLEAN] * HEAD + [DIRTY] * (HOURS - HEAD), step_s=3600.0
    )
    load = write(
        tmp_path / "load.csv", "requests", [300.0 + 100.0 * (i % 7) for i in range(HOURS * 6)], 600.0
    )
    recipe, run = tmp_path / "quick.yaml", tmp_path / "run"
    keys = KEYS if algorithm == "pretrained" else "name: q\nabout: d\nenvs: 8\nhidden: [8]\nmemory: 1024\n"
    recipe.write_text(f"{keys}algorithm: {algorithm}\nsteps: 320\nvalidate_every_s: 90\n")
    status, _, err = run_here(
        monkeypatch,
        capsys,
        *("train", SMALL, "--recipe", str(recipe), "--out", str(run), "--carbon", carbon, "--load", load),
        *("--set", "episode.days=0.2", "--set", "weights.evaluate=[0.1]", "--json"),
    )
    assert status == 0, err
    env = make_environment(load_scenario(run / "scenario.yaml"), load_recipe(run / "recipe.yaml"), seed=0)
    env.reset()
    for _ in range(120):  # past the end of every episode, so that others are drawn
        env.step(np.zeros(env.num_envs, np.int64))
        assert env.env.core.mean_intensity.max() <= CLEAN
    bundle = tmp_path / "policy.clover"
    assert run_here(monkeypatch, capsys, "export", str(run), "-o", str(bundle))[0] == 0
    status, out, err = run_here(
        monkeypatch,
        capsys,
        *("evaluate", str(run / "scenario.yaml"), "--policy", str(bundle), "--against", "base"),
        *("--days", "0.1", "--windows", "2", "--json"),
    )
    assert status == 0, err
    windows = json.loads(out)["windows"]
    assert [(row["carbon"], row["load"]) for row in windows] == [("grid", "load")] * 2
    # a request of BASE takes some joules: with the head's intensity it could not emit this much
    energy = [row["controllers"]["base"]["carbon_g_per_request"] for row in windows]
    assert "policy" in windows[0]["controllers"]
    status, out, err = run_here(
        monkeypatch,
        capsys,
        *(
            "evaluate",
            SMALL,
            "--against",
            "base",
            "--days",
            "0.1",
            "--json",
            "--carbon",
            carbon,
            "--load",
            load,
        ),
        *("--set", "weights.evaluate=[0.1]"),
    )
    assert status == 0, err
    (head,) = json.loads(out)["windows"]  # from the beginning of the files
    assert min(energy) > 5.0 * head["controllers"]["base"]["carbon_g_per_request"]
