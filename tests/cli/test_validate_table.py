"""clover-rl validate table and scenario plan: documents that others can read, one sentence for a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import run_here

DATA = Path(__file__).parents[1] / "data"
PROFILE, SCENARIO = str(DATA / "small-profile.yaml"), str(DATA / "small-scenario.yaml")
SMALL = ("--gpus", "2", "--pairs", "20", "--requests", "50000")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> tuple[int, str, str]:
        return run_here(monkeypatch, capsys, *arguments)

    return command


def test_the_document_sums_up_the_errors_and_names_the_worst(run: Any) -> None:
    status, out, err = run("validate", "table", PROFILE, *SMALL, "--jitter-cv", "0.1", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert (document["configurations"], document["pairs"], document["jitter_cv"]) == (52, 20, 0.1)
    for name in ("p95_error", "energy_error", "accuracy_error"):
        assert 0.0 <= document[name]["median"] <= document[name]["p95"] <= document[name]["max"]
    assert document["p95_error"]["max"] == pytest.approx(abs(document["worst"][0]["p95_error"]))
    assert document["energy_error"]["p95"] < 0.02


def test_the_table_names_what_was_compared(run: Any) -> None:
    status, out, _ = run("validate", "table", PROFILE, *SMALL)
    assert status == 0
    assert "energy of the cluster" in out
    assert "20 pairs of 50000 requests" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("validate", "table", "nowhere.yaml"), "nowhere.yaml"),
        (("validate", "table", PROFILE, "--jitter-cv", "nan"), "give one from 0 to 10"),
        (("validate", "table", PROFILE, "--gpus", "0"), "at least one GPU"),
        (("scenario", "plan", SCENARIO, "base", "7g@0:L"), "has 1 GPUs and scenario `small` 2"),
        (("scenario", "plan", SCENARIO, "base", "9g@0:L | parked"), "9g"),
        (("scenario", "plan", SCENARIO, "base", "co2opt", "--rate", "-3"), "give a finite rate"),
        (("scenario", "plan", SCENARIO, "base", "co2opt", "--window-s", "0"), "window above 0 s"),
    ],
)
def test_a_mistake_is_one_sentence(run: Any, arguments: tuple[str, ...], said: str) -> None:
    status, out, err = run(*arguments)
    assert status != 0
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_a_plan_is_shown_step_by_step_with_its_cost(run: Any) -> None:
    status, out, err = run("scenario", "plan", SCENARIO, "base", "2g@0:S+2g@2:S+3g@4:S | parked", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    steps, starts = document["plan"]["steps"], document["start_times_s"]
    assert len(steps) == len(starts) > 8
    ends = [start + step["duration_s"] for start, step in zip(starts, steps, strict=True)]
    assert max(ends) == pytest.approx(document["cost"]["duration_s"])
    assert all(starts[i] >= max((ends[j] for j in steps[i]["needs"]), default=0.0) for i in range(len(steps)))
    assert document["kind"] == "modelled"
    assert document["cost"]["least_capacity_rps"] == pytest.approx(1 / 0.024)
    shown = run("scenario", "plan", SCENARIO, "base", "co2opt", "--rate", "20")[1]
    assert "staying" in shown
    assert "there already" in shown
