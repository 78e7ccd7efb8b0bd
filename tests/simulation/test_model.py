"""ClusterModel: pruned, cached, and a prediction for any configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clover_rl.cluster.choices import base_configuration, co2opt_configuration, homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation import model as model_module
from clover_rl.simulation.costs import transition_costs
from clover_rl.simulation.model import BASE_LOAD, ClusterModel, build_model
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.tables import build_table


def test_base_and_co2opt_are_kept_and_the_catalogue_is_a_part_of_the_full_one(
    small_model: ClusterModel,
) -> None:
    model = small_model
    assert model.catalogue[model.base] == base_configuration(model.profile, 2)
    assert model.catalogue[model.co2opt] == co2opt_configuration(model.profile, 2)
    full = homogeneous_catalogue(model.profile, 2)
    assert model.full_size == len(full)
    indices = [full.index(item) for item in model.catalogue.configurations]
    assert None not in indices
    assert indices == sorted(set(indices), key=lambda index: index or 0)


def test_the_sla_is_bases_p95_at_four_fifths_of_its_capacity(small_model: ClusterModel) -> None:
    base = small_model.catalogue[small_model.base]
    at = small_model.predict(base, BASE_LOAD * small_model.baseline.capacity)
    assert small_model.sla_ms == pytest.approx(at.p95_ms)


def test_pruning_loses_nothing_that_is_best_somewhere(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    full = homogeneous_catalogue(small_model.profile, 2)
    table = build_table(small_model.physics, full.configurations)
    objective = small_scenario.objective(small_model, 0.1)
    grid = np.linspace(0, 1, table.power_w.shape[1])
    kept = np.array([small_model.catalogue.index(item) is not None for item in full.configurations])
    for rate in np.array([0.1, 0.4, 0.7, 1.0]) * small_model.baseline.capacity:
        at = np.minimum(rate / table.capacity, 1.0)
        fine = rate < 0.98 * table.capacity
        p95, accuracy, power = (
            np.array([np.interp(u, grid, row) for u, row in zip(at, rows, strict=True)])
            for rows in (table.p95_ms, table.accuracy, table.power_w)
        )
        for w in (0.02, 0.1, 0.25):
            total = objective.terms(
                energy_j=power,
                intensity=300.0,
                arrived=rate,
                duration_s=1.0,
                accuracy=accuracy,
                p95_ms=np.where(fine, p95, np.inf),
                w=w,
            ).total
            assert total[kept].max() >= total.max() - 1e-3


@pytest.mark.parametrize("memory_mib", [1000.0, 30_000.0])
def test_transition_costs_are_those_of_the_plans(small_model: ClusterModel, memory_mib: float) -> None:
    """With little memory a variant finds no room beside the one that it replaces."""
    profile = replace(small_model.profile, memory_mib={"S": memory_mib / 2, "L": memory_mib})
    physics, full = Physics(profile), homogeneous_catalogue(profile, 3)
    costs = transition_costs(physics, full)
    rng = np.random.default_rng(1)
    kinds = set()
    for source, target in rng.integers(len(full), size=(300, 2)):
        plan = plan_transition(full[source], full[target], profile)
        kinds |= {step.what for step in plan.steps}
        assert costs.duration_s[source, target] == pytest.approx(plan.duration_s)
        least = min(physics.capacity(state) for state in plan.states())
        assert costs.capacity[source, target] == pytest.approx(least)
    assert kinds >= {"drain", "destroy", "create", "load", "ready"}
    assert not np.diagonal(costs.duration_s).any()
    assert np.diagonal(costs.capacity) == pytest.approx(
        [physics.capacity(item) for item in full.configurations]
    )
    assert small_model.costs.duration_s.shape == (len(small_model.catalogue),) * 2


def test_prediction_outside_the_catalogue_is_simulated(small_model: ClusterModel) -> None:
    mixed = ClusterConfiguration.parse("7g@0:L | 7g@0:S", small_model.profile)
    assert small_model.catalogue.index(mixed) is None
    found = small_model.predict(mixed, 70.0)
    assert found.utilisation == pytest.approx(70.0 / (1 / 0.024 + 100.0))
    assert 10.0 < found.p95_ms < 100.0
    assert 240.0 < found.power_w < 800.0
    assert 0.78 < found.accuracy < 0.84
    assert small_model.predict(mixed, 500.0).p95_ms == np.inf
    assert small_model.predict(mixed, 0.0).p95_ms == pytest.approx(25.0, rel=0.2)


def test_beyond_its_capacity_a_configuration_is_infinitely_late(small_model: ClusterModel) -> None:
    base = small_model.catalogue[small_model.base]
    found = small_model.predict(base, 2.0 * small_model.baseline.capacity)
    assert found.p95_ms == np.inf
    assert found.utilisation == pytest.approx(2.0)
    assert found.power_w == pytest.approx(240.0 + 6.0 * small_model.baseline.capacity, rel=1e-6)


def test_a_parked_cluster_can_be_predicted(small_model: ClusterModel) -> None:
    found = small_model.predict(ClusterConfiguration.parked(2), 10.0)
    assert found.p95_ms == np.inf
    assert found.power_w == 140.0


def test_what_the_cache_holds_is_what_was_built(
    small_model: ClusterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the model was built although the cache holds it")

    monkeypatch.setattr(model_module, "_compute", never)
    again = build_model(small_model.profile, 2)
    assert again.catalogue == small_model.catalogue
    assert np.array_equal(again.table.latency_ms, small_model.table.latency_ms)
    assert (again.sla_ms, again.base, again.co2opt) == (
        small_model.sla_ms,
        small_model.base,
        small_model.co2opt,
    )


def test_a_damaged_cache_is_made_anew(
    small_model: ClusterModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOVER_RL_CACHE", str(tmp_path))
    first = build_model(small_model.profile, 1)
    (file,) = (tmp_path / "models").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    again = build_model(small_model.profile, 1)
    assert np.array_equal(again.table.power_w, first.table.power_w)
    assert file.stat().st_size > 1000


def test_another_sla_is_another_model(small_model: ClusterModel) -> None:
    tight = build_model(small_model.profile, 2, sla_ms=50.0)
    assert tight.sla_ms == 50.0
    assert tight.catalogue.hash != small_model.catalogue.hash
