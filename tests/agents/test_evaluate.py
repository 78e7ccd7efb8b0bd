"""Everyone is compared on the same windows, load and arrivals, and the table says it all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clover_rl.agents.best_static import CANDIDATES, StaticRuns
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.evaluate import CONTROLLERS, Evaluation, evaluate
from clover_rl.agents.headroom import headroom_rows
from clover_rl.agents.margins import MARGINS, tuned_margin
from clover_rl.agents.runs import summarise
from clover_rl.agents.windows import file_windows, generated_windows
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

KEYS = {
    *("objective", "headroom_share", "carbon_g_per_request", "accuracy_loss", "sla_held"),
    *("transitions", "live_trials", "decision_us"),
}


@pytest.fixture(scope="module")
def evaluation(small_scenario: Scenario, small_model: ClusterModel, bundle: Bundle) -> Evaluation:
    windows = generated_windows(small_scenario, small_model, count=2, days=0.25, split="test", seed=4)
    return evaluate(small_scenario, small_model, windows, weights=[0.05, 0.1], policies=[("policy", bundle)])


def test_there_is_a_row_for_each_window_and_weight_with_the_keys_that_others_build_on(
    evaluation: Evaluation,
) -> None:
    assert len(evaluation.rows) == 4
    for row in evaluation.rows:
        content = row.to_dict()
        assert {"carbon", "load", "w", "sla_ms", "gap", "controllers"} <= set(content)
        assert set(content["controllers"]) == {*CONTROLLERS, "policy"}
        for result in content["controllers"].values():
            assert set(result) >= KEYS


def test_everyone_meets_the_same_requests(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        counts = [result.requests for result in row.results.values()]
        assert max(counts) - min(counts) <= 0.02 * max(counts)  # same rates; draws differ with transitions


def test_static_is_the_best_of_its_candidates_and_runs_are_shared_over_weights(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    (window,) = generated_windows(small_scenario, small_model, count=1, days=0.25, split="test", seed=6)
    statics = StaticRuns(small_scenario, small_model, window.signals, steps=window.steps, seed=0)
    index, best = statics.best(0.05)
    assert index in statics.ranking(0.05)[:CANDIDATES]
    for other in statics.ranking(0.05)[:CANDIDATES]:
        assert summarise(statics.run(other, 0.05), small_model).objective <= best.objective
    light, heavy = statics.run(index, 0.05), statics.run(index, 0.1)
    assert [r.interval for r in light] == [r.interval for r in heavy]
    assert [r.score.reward for r in light] != [r.score.reward for r in heavy]


def test_shares_of_headroom_are_left_out_where_there_is_none(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        share = row.headroom_share("oracle")
        if row.gap < 0.002:
            assert share is None
        else:
            assert share == pytest.approx(1.0)
            assert row.headroom_share("static") == pytest.approx(0.0)


def test_the_headroom_report_averages_over_windows(evaluation: Evaluation) -> None:
    rows = headroom_rows(evaluation)
    assert [row["w"] for row in rows] == [0.05, 0.1]
    objectives = [row.results["oracle"].objective for row in evaluation.rows if row.w == 0.05]
    assert rows[0]["oracle"] == pytest.approx(np.mean(objectives))
    assert rows[0]["gap"] == pytest.approx(rows[0]["oracle"] - rows[0]["static"])


def test_a_tuned_margin_is_one_of_those_tried_and_is_remembered(
    small_scenario: Scenario, small_model: ClusterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    margin = tuned_margin(small_scenario, small_model, "oracle")
    assert margin in MARGINS
    monkeypatch.setattr("clover_rl.agents.margins.run_controller", None)  # must not be needed again
    assert tuned_margin(small_scenario, small_model, "oracle") == margin


def test_an_unknown_controller_is_refused_before_anything_runs(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    with pytest.raises(InputError, match="unknown controller `magic`"):
        evaluate(small_scenario, small_model, [], weights=[0.1], against=["magic"])


def write_signals(folder: Path, hours: int) -> tuple[Path, Path]:
    carbon, load = folder / "carbon.csv", folder / "load.csv"
    rows = [f"{3600 * h},{200 + 50 * (h % 7)}" for h in range(hours + 1)]
    carbon.write_text("\n".join(["offset_s,gco2_per_kwh", *rows, ""]))
    bins = [f"{600 * b},{1000 + 10 * (b % 60)}" for b in range(6 * hours)]
    load.write_text("\n".join(["offset_s,requests", *bins, ""]))
    return carbon, load


def test_files_make_windows_as_long_as_they_allow_with_the_load_scaled(
    small_scenario: Scenario, small_model: ClusterModel, tmp_path: Path
) -> None:
    carbon, load = write_signals(tmp_path, 12)
    options = {"carbon": [carbon], "load": [load], "seed": 0}
    (whole,) = file_windows(small_scenario, small_model, start_s=0.0, days=30.0, **options)  # type: ignore[arg-type]
    (late,) = file_windows(small_scenario, small_model, start_s=7200.0, days=30.0, **options)  # type: ignore[arg-type]
    (short,) = file_windows(small_scenario, small_model, start_s=0.0, days=0.25, **options)  # type: ignore[arg-type]
    assert whole.steps == 12 * 12 - 1  # the first interval warms up
    assert late.steps == 10 * 12 - 1
    assert short.steps == 6 * 12
    peak = np.quantile(whole.signals.load.values, 0.99)
    assert peak == pytest.approx(0.8 * small_model.baseline.capacity, rel=0.02)
    assert whole.signals.load_factor > 0
    assert late.signals.carbon.at(late.signals.start) == pytest.approx(
        whole.signals.carbon.at(whole.signals.start + 7200.0)
    )
    with pytest.raises(InputError, match="use an earlier --start"):
        file_windows(small_scenario, small_model, start_s=13 * 3600.0, days=1.0, **options)  # type: ignore[arg-type]


def test_real_traces_can_be_evaluated(
    small_scenario: Scenario, small_model: ClusterModel, shared_data: Path
) -> None:
    windows = file_windows(
        small_scenario,
        small_model,
        carbon=[shared_data / "carbon" / "clover_CISO_March.csv"],
        load=[shared_data / "workload" / "servegen_m-large_10min.csv"],
        start_s=0.0,
        days=0.25,
        seed=0,
    )
    (row,) = evaluate(small_scenario, small_model, windows, weights=[0.1], against=["base"]).rows
    assert row.results["base"].sla_held > 0.5
    assert row.results["oracle"].carbon_g_per_request < row.results["base"].carbon_g_per_request
