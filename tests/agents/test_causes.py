"""Savings by cause add up, credit nobody with what it did not see, and share what freedoms do together."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.agents.bundle import Bundle
from clover_rl.agents.causes import CAUSES, Causes
from clover_rl.agents.conditions import constant_carbon
from clover_rl.agents.evaluate import Evaluation, evaluate
from clover_rl.agents.frontier import FREEDOMS, FrontierPoint, needs, proposals, upper_hull
from clover_rl.agents.plan import ALL
from clover_rl.agents.windows import Window, generated_windows
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.model import ClusterModel

AGAINST = ("base", "co2opt", "search", "search-blind", "annealing", "clairvoyant")


@pytest.fixture(scope="module")
def window(small_scenario: Scenario, small_model: ClusterModel) -> Window:
    (found,) = generated_windows(small_scenario, small_model, count=1, days=0.5, split="test", seed=8)
    return found


@pytest.fixture(scope="module")
def evaluation(
    small_scenario: Scenario, small_model: ClusterModel, bundle: Bundle, window: Window
) -> Evaluation:
    return evaluate(
        small_scenario,
        small_model,
        [window],
        weights=[0.05, 0.15],
        against=AGAINST,
        policies=[("policy", bundle)],
        causes=[ALL],
    )


def test_the_causes_add_up_to_the_saving_against_the_run_of_base(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        assert set(row.savings) == {*AGAINST, "static", "oracle", "policy"} - {"base", "co2opt"}
        base = row.results["base"].carbon_g_per_request
        for name, saving in row.savings.items():
            parts = asdict(saving)
            total = parts.pop("total")
            assert set(parts) == set(CAUSES)
            assert sum(parts.values()) == pytest.approx(total, abs=1e-12)
            assert total == pytest.approx(1.0 - row.results[name].carbon_g_per_request / base, abs=1e-12)
            shown = row.to_dict()["controllers"][name]
            assert shown["saving"] == asdict(saving)
            assert (shown["blind_run"] is None) == (name == "static")
        assert row.to_dict()["controllers"]["base"]["saving"] is None


def test_who_does_not_see_the_intensity_saves_nothing_by_following_it(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        assert row.savings["search-blind"].following_carbon == 0.0
        assert row.savings["static"].following_load == row.savings["static"].following_carbon == 0.0


def test_under_a_constant_intensity_nobody_saves_by_following_it(
    small_scenario: Scenario, small_model: ClusterModel, window: Window, bundle: Bundle
) -> None:
    step = small_scenario.interval_s
    signals, mean = constant_carbon(window.signals, window.steps * step)
    arrays = window.signals.carbon.means_between(window.signals.start + step * np.arange(window.steps + 1))
    assert mean == pytest.approx(arrays.mean())
    (row,) = evaluate(
        small_scenario,
        small_model,
        [replace(window, signals=signals)],
        weights=[0.1],
        against=["search", "clairvoyant"],
        causes=[ALL],
    ).rows
    for name in ("search", "oracle", "clairvoyant"):
        assert row.savings[name].following_carbon == pytest.approx(0.0, abs=1e-12)


def test_the_frontier_is_at_least_as_good_as_the_best_static_configuration(evaluation: Evaluation) -> None:
    for row in evaluation.rows:
        assert row.causes is not None
        static = row.results["static"]
        whole = row.causes.frontiers[frozenset(FREEDOMS)]
        losses = [point.accuracy_loss for point in whole.points]
        values = [point.value for point in whole.points]
        own = static.carbon_term + static.penalty_term
        assert np.interp(static.accuracy_loss, losses, values) >= own - 1e-12


def test_what_a_configuration_uses_is_what_differs_from_base(small_model: ClusterModel) -> None:
    largest = small_model.profile.application.largest.name
    catalogue = small_model.catalogue
    assert needs(catalogue[small_model.base], largest) == frozenset()
    assert needs(catalogue[small_model.co2opt], largest) == {"partitioning", "variants"}
    for configuration in catalogue.configurations:
        assert ("consolidation" in needs(configuration, largest)) == (configuration.active < small_model.gpus)


def test_proposals_hold_the_ends_and_something_for_each_set_of_freedoms(
    small_scenario: Scenario, small_model: ClusterModel, window: Window
) -> None:
    found = proposals(small_scenario, small_model, window.signals, window.steps, [0.05])
    largest = small_model.profile.application.largest.name
    used = {needs(configuration, largest) for configuration in found}
    assert {frozenset(), frozenset({"consolidation"}), frozenset({"variants"})} <= used
    assert small_model.catalogue[small_model.co2opt] in found
    assert len(found) == len(set(found))


def point(uses: set[str], carbon: float, loss: float = 0.0) -> FrontierPoint:
    return FrontierPoint("+".join(sorted(uses)), frozenset(uses), loss, carbon, -carbon)


def test_freedoms_that_only_work_together_share_what_they_save() -> None:
    alone = Causes([point(set(), 10.0), point({"consolidation"}, 6.0)]).static(6.0, 0.0)
    assert list(asdict(alone).values()) == pytest.approx([0.4, 0.4, 0.0, 0.0, 0.0, 0.0])
    both = Causes([point(set(), 10.0), point({"consolidation", "variants"}, 4.0, loss=0.02)])
    shared = both.static(4.0, 0.02)
    assert shared.consolidation == pytest.approx(0.3)
    assert shared.variants == pytest.approx(0.3)
    assert shared.partitioning == 0.0
    # halfway in accuracy, a mix in time of both ends saves half; a twin that saves more follows the load
    half = both.following(carbon=5.5, loss=0.01, blind_carbon=6.0, blind_loss=0.01)
    assert half.consolidation == pytest.approx(0.15)
    assert half.following_load == pytest.approx(0.1)
    assert half.following_carbon == pytest.approx(0.05)


def test_a_twin_is_compared_at_its_own_accuracy() -> None:
    causes = Causes([point(set(), 10.0), point({"variants"}, 4.0, loss=0.02)])
    saving = causes.following(carbon=7.0, loss=0.01, blind_carbon=4.0, blind_loss=0.02)
    assert saving.following_load == pytest.approx(0.0)
    assert saving.following_carbon == pytest.approx(0.0)
    assert saving.variants == pytest.approx(0.3)


@given(
    st.lists(st.tuples(st.integers(0, 8).map(float), st.integers(-8, 8).map(float)), min_size=1, max_size=12)
)
def test_no_point_lies_above_the_upper_hull(points: list[tuple[float, float]]) -> None:
    x, y = (np.array(column) for column in zip(*points, strict=True))
    hull = upper_hull(x, y)
    assert list(x[hull]) == sorted(set(x[hull]))
    assert (x[hull[0]], x[hull[-1]]) == (x.min(), x.max())
    assert (np.interp(x, x[hull], y[hull]) >= y - 1e-12).all()
