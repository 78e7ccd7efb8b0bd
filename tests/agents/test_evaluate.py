"""Everyone is compared on the same windows, load and arrivals, and the table says it all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clover_rl.agents.best_static import CANDIDATES, StaticRuns
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.evaluate import DEFAULT, Evaluation, evaluate
from clover_rl.agents.headroom import headroom_rows
from clover_rl.agents.margins import MARGINS, tuned_margin
from clover_rl.agents.runs import summarise
from clover_rl.agents.windows import file_windows, generated_windows
from clover_rl.envs.scenario import Scenario, load_scenario
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
        assert set(content["controllers"]) == {*DEFAULT, "policy"}
        for result in content["controllers"].values():
            assert set(result) >= KEYS


def test_everyone_meets_the_same_requests(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        counts = {name: result.requests for name, result in row.results.items()}
        assert counts["base"] == counts["co2opt"] == counts["static"]
        for name, count in counts.items():
            # a transition cuts a gap between two arrivals in the middle: the rate stays, the draw moves
            switched = row.results[name].transitions
            assert abs(count - counts["base"]) <= 10 * switched, (name, count, counts["base"])


def test_with_its_margin_the_oracle_is_above_base_and_no_controller_gets_a_share_by_name(
    evaluation: Evaluation,
) -> None:
    for row in evaluation.rows:
        assert row.results["oracle"].objective > row.results["base"].objective
        assert row.results["base"].transitions == 0
        assert row.results["base"].live_trials == row.results["oracle"].live_trials == 0
        assert row.results["annealing"].live_trials > 0


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


def test_within_an_accuracy_budget_who_heeds_the_weight_runs_once_more_and_keeps_it(
    small_scenario: Scenario, small_model: ClusterModel, bundle: Bundle
) -> None:
    windows = generated_windows(small_scenario, small_model, count=1, days=2.0, split="test", seed=4)
    policies = [("policy", bundle)]
    weights = [0.05, 0.25]
    done = evaluate(small_scenario, small_model, windows, weights=weights, policies=policies, budget=0.01)
    low, high = (row.results for row in done.rows)
    assert {"policy within 1 %", "search within 1 %", "oracle within 1 %"} <= set(low)
    assert "static within 1 %" not in low
    for name in ("search within 1 %", "oracle within 1 %"):
        assert low[name].accuracy_loss == high[name].accuracy_loss  # the given weight is not heeded
    assert 0.004 < low["oracle within 1 %"].accuracy_loss < 0.012
    assert (
        0.004 < low["search within 1 %"].accuracy_loss < 0.016
    )  # its reserve takes smaller variants now and then
    assert high["oracle"].accuracy_loss > 0.012
    assert low["oracle within 1 %"].carbon_g_per_request < low["base"].carbon_g_per_request


def test_embodied_carbon_stands_beside_operational_carbon_and_changes_nothing_else(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    counted = load_scenario(small_scenario, embodied={"lifetime_years": 5})
    account = counted.sci
    assert account is not None
    (window,) = generated_windows(small_scenario, small_model, count=1, days=0.1, split="test", seed=6)
    without, with_it = (
        evaluate(scenario, small_model, [window], weights=[0.05], against=["base"]).rows[0].results
        for scenario in (small_scenario, counted)
    )
    assert set(with_it) == {"base", "static", "oracle"}
    for name, result in with_it.items():
        assert without[name].embodied_g_per_request is without[name].sci_g_per_request is None
        assert result.embodied_g_per_request is not None
        assert result.sci_g_per_request == pytest.approx(
            result.carbon_g_per_request + result.embodied_g_per_request
        )
        # both cards for the whole window, whatever is parked
        total = account.embodied_g(window.steps * counted.interval_s)
        assert result.embodied_g_per_request * result.answered == pytest.approx(total)
        same = replace(result, embodied_g_per_request=None, sci_g_per_request=None, decision_us=0.0)
        assert same == replace(without[name], decision_us=0.0)


@pytest.mark.parametrize(("gap", "share"), [(0.0019, None), (0.0021, 0.5), (-0.01, None)])
def test_a_share_of_headroom_is_left_out_where_the_gap_is_under_two_thousandths(
    evaluation: Evaluation, gap: float, share: float | None
) -> None:
    row = evaluation.rows[0]
    static = row.results["static"].objective
    half = replace(row.results["base"], objective=static + gap / 2)
    narrow = replace(row, gap=gap, results=row.results | {"base": half})
    assert narrow.headroom_share("base") == (None if share is None else pytest.approx(share))
    assert narrow.to_dict()["controllers"]["base"]["headroom_share"] == narrow.headroom_share("base")


def test_the_oracle_has_all_of_the_headroom_and_static_none(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        assert row.gap == row.results["oracle"].objective - row.results["static"].objective
        wide = replace(row, gap=max(row.gap, 0.01))
        assert wide.headroom_share("static") == 0.0
        if row.gap >= 0.002:
            assert row.headroom_share("oracle") == pytest.approx(1.0)


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


def test_a_margin_is_found_anew_when_its_file_is_damaged_and_is_the_same(
    small_model: ClusterModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hourly = load_scenario(Path(__file__).parents[1] / "data" / "small-scenario.yaml", interval_s=3600.0)
    monkeypatch.setenv("CLOVER_RL_CACHE", str(tmp_path))
    for name, value in (
        ("LEAST_WINDOWS", 1),
        ("FORECAST_STEPS", 1),
        ("DAYS", 0.125),
        ("FORECAST_MARGINS", (0.0, 0.3)),
    ):
        monkeypatch.setattr(f"clover_rl.agents.margins.{name}", value)
    first = tuned_margin(hourly, small_model, "search")
    (file,) = (tmp_path / "margins").iterdir()
    kept = file.read_text()
    for damage in ("", "{", "{}", '{"margin": null}', '{"margin": NaN}', "[]"):
        file.write_text(damage)
        assert tuned_margin(hourly, small_model, "search") == first
        assert file.read_text() == kept


def test_wrong_names_and_weights_are_refused_before_anything_runs(
    small_scenario: Scenario, small_model: ClusterModel, bundle: Bundle
) -> None:
    with pytest.raises(InputError, match="unknown controller `magic`"):
        evaluate(small_scenario, small_model, [], weights=[0.1], against=["magic"])
    for w in (0.0, 1.0, 2.0, -0.1, float("nan")):
        with pytest.raises(InputError, match=r"w is .*above 0 and below 1"):
            evaluate(small_scenario, small_model, [], weights=[0.1, w])
    for names in (("a", "a"), ("oracle",)):
        with pytest.raises(InputError, match="two controllers are called"):
            evaluate(
                small_scenario,
                small_model,
                [],
                weights=[0.1],
                policies=[(name, bundle) for name in names],
            )


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
    for start_s in (-1.0, 12 * 3600.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="use a --start within it"):
            file_windows(small_scenario, small_model, start_s=start_s, days=1.0, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="less than a warm-up and one interval"):
        file_windows(small_scenario, small_model, start_s=12 * 3600.0 - 400.0, days=1.0, **options)  # type: ignore[arg-type]


def test_every_carbon_file_meets_every_load_file(
    small_scenario: Scenario, small_model: ClusterModel, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    files = [write_signals(folder, hours) for folder, hours in zip(folders, (12, 6), strict=True)]
    files[1][0].rename(renamed := tmp_path / "b" / "other.csv")
    found = file_windows(
        small_scenario,
        small_model,
        carbon=[files[0][0], renamed],
        load=[files[0][1], files[1][1]],
        start_s=0.0,
        days=30.0,
        seed=0,
    )
    assert [(window.carbon, window.steps) for window in found] == [
        ("carbon", 12 * 12 - 1),
        ("carbon", 6 * 12 - 1),
        ("other", 6 * 12 - 1),
        ("other", 6 * 12 - 1),
    ]


@pytest.mark.parametrize("days", [0.0, -1.0, 1e-4, float("nan"), float("inf")])
def test_windows_without_a_whole_interval_are_refused(
    small_scenario: Scenario, small_model: ClusterModel, days: float, tmp_path: Path
) -> None:
    carbon, load = write_signals(tmp_path, 3)
    with pytest.raises(InputError, match="a window of"):
        generated_windows(small_scenario, small_model, count=1, days=days, split="test", seed=1)
    with pytest.raises(InputError, match="a window of"):
        file_windows(
            small_scenario, small_model, carbon=[carbon], load=[load], start_s=0.0, days=days, seed=0
        )


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
