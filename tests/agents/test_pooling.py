"""Figures at equal accuracy, and means and intervals over training seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clover_rl.agents.bundle import Bundle
from clover_rl.agents.equal_accuracy import LOSSES, at_loss, equal_accuracy
from clover_rl.agents.pooling import mean_interval, pooled, require_alike, seed_name, t95
from clover_rl.errors import InputError

stats = pytest.importorskip("scipy.stats", reason="a dev dependency, absent beside the oldest versions")


@pytest.mark.parametrize("degrees", [*range(1, 13), 15, 20, 30, 60, 200])
def test_the_quantiles_are_students(degrees: int) -> None:
    assert t95(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1.1e-3)


def test_an_interval_is_that_of_the_mean_by_students_t() -> None:
    values = [0.71, 0.74, 0.69, 0.8, 0.75]
    found = mean_interval(values)
    assert found is not None
    mean, low, high = found
    wanted = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx(wanted, rel=1e-4)
    assert mean_interval([1.0]) is None
    same = mean_interval([2.0, 2.0, 2.0])
    assert same == (2.0, 2.0, 2.0)


def test_a_pool_has_the_mean_of_each_figure_and_none_where_a_member_has_none() -> None:
    members: list[dict[str, Any]] = [
        {"objective": 1.0, "headroom_share": None, "saving": {"total": 0.2}, "run": "a", "transitions": 4},
        {"objective": 3.0, "headroom_share": 0.5, "saving": {"total": 0.4}, "run": "b", "transitions": 5},
    ]
    found = pooled(members)
    assert found["objective"] == 2.0
    assert found["transitions"] == 4.5
    assert found["headroom_share"] is None
    assert found["run"] is None
    assert found["saving"]["total"] == pytest.approx(0.3)
    assert found["seeds"] == 2
    low, high = found["interval_95"]["objective"]
    assert (low + high) / 2 == pytest.approx(2.0)
    assert high - low == pytest.approx(2 * 12.706 * math.sqrt(2.0) / math.sqrt(2.0), rel=1e-4)
    assert found["interval_95"]["saving"]["total"] is not None
    assert found["interval_95"]["headroom_share"] is None
    without = pooled([members[0], members[1] | {"saving": None}])
    assert without["saving"] is None


def with_training(bundle: Bundle, **training: object) -> Bundle:
    return replace(bundle, manifest={**bundle.manifest, "training": training})


def test_only_bundles_that_differ_in_their_seed_are_pooled(bundle: Bundle) -> None:
    one, two = (with_training(bundle, seed=seed, recipe={"name": "a"}) for seed in (1, 2))
    require_alike([one, two])
    assert [seed_name("policy", each) for each in (one, two)] == ["policy seed 1", "policy seed 2"]
    assert seed_name("policy", with_training(bundle)) == f"policy {bundle.name}"
    with pytest.raises(InputError, match="1 bundles are no sample"):
        require_alike([one])
    with pytest.raises(InputError, match="same training seed"):
        require_alike([one, one])
    with pytest.raises(InputError, match="differ in their recipe"):
        require_alike([one, with_training(bundle, seed=2, recipe={"name": "b"})])
    other = replace(two, manifest={**two.manifest, "scenario": {"name": "other"}})
    with pytest.raises(InputError, match="differ in their scenario"):
        require_alike([one, other])


def run(loss: float, carbon: float, **more: object) -> dict[str, Any]:
    return {
        "accuracy_loss": loss,
        "carbon_g_per_request": carbon,
        "base_carbon_g_per_request": 10.0,
        "sla_held": 1.0,
        "p95_over_sla": 0.5,
        "decision_us": 100.0,
        **more,
    }


def test_carbon_at_a_loss_is_read_between_the_runs_and_never_beyond_them() -> None:
    runs = [run(0.03, 4.0), run(0.005, 8.0), run(0.015, 6.0)]
    found = at_loss(runs, 0.01)
    assert found is not None
    assert found["carbon_g_per_request"] == pytest.approx(7.0)
    assert found["saved"] == pytest.approx(0.3)
    assert found["saving"] is None
    assert at_loss(runs, 0.004) is None
    assert at_loss(runs, 0.031) is None
    exact = at_loss(runs, 0.015)
    assert exact is not None
    assert exact["carbon_g_per_request"] == 6.0


def test_causes_at_a_loss_still_add_up() -> None:
    runs = [
        run(0.0, 8.0, saving={"total": 0.2, "variants": 0.15, "following_load": 0.05}),
        run(0.02, 4.0, saving={"total": 0.6, "variants": 0.35, "following_load": 0.25}),
    ]
    found = at_loss(runs, 0.01)
    assert found is not None
    saving = found["saving"]
    assert saving["total"] == pytest.approx(saving["variants"] + saving["following_load"]) == 0.4


def test_each_window_and_condition_has_its_own_comparison() -> None:
    def row(window: int, w: float, loss: float, **conditions: float) -> dict[str, Any]:
        controllers = {"a": run(loss, 10.0 - w), "b": run(0.0, 9.0)}
        about = {"window": window, "carbon": "c", "load": "l", "w": w, "conditions": conditions}
        return about | {"controllers": controllers}

    rows = [row(0, 1.0, 0.0), row(0, 2.0, 0.03), row(1, 1.0, 0.005), row(1, 2.0, 0.012)]
    rows += [row(0, 1.0, 0.0, service=1.2), row(0, 2.0, 0.03, service=1.2)]
    found = equal_accuracy(rows)
    assert [(r["window"], r["accuracy_loss"], bool(r["conditions"])) for r in found] == [
        (window, loss, off) for window, off in ((0, False), (1, False), (0, True)) for loss in LOSSES
    ]
    assert found[0]["controllers"]["b"] is None
    assert found[0]["controllers"]["a"]["carbon_g_per_request"] == pytest.approx(9.0 - 1.0 / 3.0)
    assert found[LOSSES.index(0.02) + len(LOSSES)]["controllers"]["a"] is None
