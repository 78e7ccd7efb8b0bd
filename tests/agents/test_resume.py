"""Finished runs are kept, found again by all that decides them, and done anew where they are damaged."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from clover_rl.agents import tasks
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.evaluate import Evaluation, evaluate
from clover_rl.agents.run_store import RunStore
from clover_rl.agents.runs import run_controller
from clover_rl.agents.search import SearchController
from clover_rl.agents.series import hourly
from clover_rl.agents.windows import Window, generated_windows
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

AGAINST = ("base", "search", "threshold")


@pytest.fixture(scope="module")
def windows(small_scenario: Scenario, small_model: ClusterModel) -> list[Window]:
    return generated_windows(small_scenario, small_model, count=2, days=0.2, split="test", seed=4)


def figures(evaluation: Evaluation) -> list[dict[str, object]]:
    """All figures but the time of a decision, which no two runs share."""
    return [
        {name: asdict(replace(result, decision_us=0.0)) for name, result in row.results.items()}
        for row in evaluation.rows
    ]


class Counted:
    """Runs, counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        monkeypatch.setattr(tasks, "run_controller", self)

    def __call__(self, *arguments: object, **options: object) -> object:
        self.runs += 1
        return run_controller(*arguments, **options)  # type: ignore[arg-type]


def test_a_second_evaluation_does_nothing_and_says_the_same(
    small_scenario: Scenario,
    small_model: ClusterModel,
    windows: list[Window],
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Counted(monkeypatch)

    def run(store: RunStore | None, chosen: list[Window], weights: list[float]) -> Evaluation:
        return evaluate(
            small_scenario,
            small_model,
            chosen,
            weights=weights,
            against=AGAINST,
            policies=[("policy", bundle)],
            store=store,
        )

    plain = run(None, windows, [0.05, 0.1])
    assert (once := counted.runs) > 0
    store = RunStore(tmp_path / "results")
    # window by window and weight by weight, as after interruptions, comes to the same
    run(store, windows[:1], [0.05])
    run(store, windows, [0.1])
    pieces = counted.runs
    whole = run(store, windows, [0.05, 0.1])
    assert counted.runs > pieces  # the second window at the first weight was missing
    again = counted.runs
    assert figures(run(store, windows, [0.05, 0.1])) == figures(whole) == figures(plain)
    assert counted.runs == again
    assert [row.runs for row in whole.rows] == [row.runs for row in plain.rows]
    files = {path.stem for path in store.runs.iterdir()}
    assert {key for row in whole.rows for key in row.runs.values()} <= files
    assert once < len(files)  # a configuration that never changes runs once for both weights

    victim = whole.rows[0].runs["search"]
    for damage in (b"", b"{", b"[]", b"null", store.path(victim).read_bytes().replace(b"0.", b"1.", 1)):
        store.path(victim).write_bytes(damage)
        before = counted.runs
        assert figures(run(store, windows, [0.05, 0.1])) == figures(whole)
        assert counted.runs == before + 1
        assert store.get(victim) is not None


def test_two_processes_give_the_figures_of_one(
    small_scenario: Scenario,
    small_model: ClusterModel,
    windows: list[Window],
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    common = {"weights": [0.1], "against": ["threshold"], "policies": [("policy", bundle)]}
    seen: list[tuple[int, int]] = []
    one = evaluate(small_scenario, small_model, windows[:1], **common)  # type: ignore[arg-type]
    two = evaluate(
        small_scenario,
        small_model,
        windows[:1],
        **common,  # type: ignore[arg-type]
        store=RunStore(tmp_path),
        jobs=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert figures(one) == figures(two)
    assert set(two.rows[0].runs.values()) <= {path.stem for path in (tmp_path / "runs").iterdir()}
    assert seen == [(done, seen[-1][1]) for done in range(seen[-1][1] + 1)]


def test_every_thing_that_decides_a_run_changes_its_key(
    small_scenario: Scenario, small_model: ClusterModel, windows: list[Window], bundle: Bundle
) -> None:
    bench = tasks.Bench(small_scenario, small_model, tuple(windows), {"policy": bundle}, {"search": 0.1})
    task = tasks.RunTask(0, "search", (0.1,))
    policy = tasks.RunTask(0, "policy", (0.1,))
    other = replace(bundle, sha256="0" * 64)
    later = replace(windows[0], signals=replace(windows[0].signals, start=windows[0].signals.start + 300.0))
    seeded = replace(windows[0], seed=windows[0].seed + 1)
    keys = [
        bench.key(task, 0.1),
        bench.key(task, 0.05),
        bench.key(replace(task, window=1), 0.1),
        bench.key(replace(task, controller="threshold"), 0.1),
        bench.key(replace(task, static=3), 0.1),
        bench.key(replace(task, static=4), 0.1),
        bench.key(policy, 0.1),
        replace(bench, policies={"policy": other}).key(policy, 0.1),
        replace(bench, margins={"search": 0.2}).key(task, 0.1),
        replace(bench, scenario=load_scenario(small_scenario, pue=1.3)).key(task, 0.1),
        replace(bench, windows=(later, windows[1])).key(task, 0.1),
        replace(bench, windows=(seeded, windows[1])).key(task, 0.1),
        replace(bench, windows=(replace(windows[0], steps=9), windows[1])).key(task, 0.1),
    ]
    assert len(set(keys)) == len(keys)
    renamed = replace(windows[0], carbon="another name")
    assert replace(bench, windows=(renamed, windows[1])).key(task, 0.1) == keys[0]
    assert bench.key(replace(task, controller="base", static=3), 0.1) == keys[4]


def test_a_kept_run_has_its_course_by_the_hour(
    small_scenario: Scenario, small_model: ClusterModel, windows: list[Window], tmp_path: Path
) -> None:
    store = RunStore(tmp_path)
    (row,) = evaluate(
        small_scenario, small_model, windows[:1], weights=[0.1], against=["search"], store=store
    ).rows
    kept = store.get(row.runs["search"])
    assert kept is not None
    series = kept["series"]
    assert set(series) == {
        *("hour", "intensity", "rate", "p95_over_sla", "active_gpus", "energy_w", "carbon_g", "accuracy"),
        "configuration",
    }
    assert series["hour"] == [0, 1, 2, 3, 4]
    result = row.results["search"]
    assert sum(series["carbon_g"]) == pytest.approx(result.carbon_g_per_request * result.answered, rel=1e-4)
    steps = np.array([12, 12, 12, 12, windows[0].steps - 48])
    assert np.dot(series["rate"], steps) * 300.0 == pytest.approx(result.requests, rel=1e-4)
    assert all(value == float(f"{value:.5g}") for value in series["energy_w"])
    assert max(series["active_gpus"]) <= small_scenario.gpus
    assert series["configuration"][0].startswith(("1x[", "2x["))
    static = store.get(row.runs["static"])
    assert static is not None
    assert set(static["series"]["configuration"]) == {row.best_static} == {static["configuration_label"]}
    assert kept["controller"] == "search"


def test_a_series_of_a_compressed_day_counts_the_hours_of_its_signals(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    fast = load_scenario(small_scenario, interval_s=30.0, time_scale=60.0)
    (window,) = generated_windows(fast, small_model, count=1, days=0.25, split="test", seed=4)
    controller = SearchController(small_model, timeout_s=fast.timeout_s)
    records = run_controller(fast, small_model, controller, window.signals, steps=window.steps, w=0.1, seed=1)
    series = hourly(records, small_model.profile.application, fast.time_scale)
    assert series["hour"] == [0, 1, 2, 3, 4, 5]
    assert hourly([], small_model.profile.application, 1.0) == {}


def test_a_results_folder_that_cannot_be_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no folder for results"):
        RunStore(tmp_path / "file")
    store = RunStore(tmp_path / "results")
    store.put("a", {"x": 1.5})
    assert store.get("a") == {"x": 1.5, "key": "a"}
    store.path("a").rename(store.path("b"))
    assert store.get("b") is None  # a file that says it is another run
    assert store.get("a") is None
    store.path("b").unlink()
    store.runs.rmdir()
    (store.folder / "runs").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        store.put("a", {"x": 1.5})
