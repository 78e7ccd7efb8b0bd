"""Episodes that differ: drawn SLAs, outages, perturbed worlds, budgets, factored actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.envs.core import EnvironmentCore, perturbed
from clover_rl.envs.outages import draw_outages
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.simulation.model import ClusterModel

ROW = np.zeros(1, np.intp)


@pytest.fixture
def make(small_scenario: Scenario, small_model: ClusterModel) -> Any:
    def build(n: int = 1, seed: int = 1, **arguments: Any) -> EnvironmentCore:
        core = EnvironmentCore(small_scenario, small_model, n, EpisodeSettings(**{"days": 0.5} | arguments))
        for row in range(n):
            core.reset_row(row, np.random.default_rng(seed + row))
        return core

    return build


def test_a_drawn_sla_is_observed_penalised_and_within_its_range(make: Any) -> None:
    core = make(n=40, sla=(0.5, 2.0), w=0.1)
    ratio = core.sla_ms / core.objective.sla_ms
    assert ratio.min() >= 0.5
    assert ratio.max() <= 2.0
    assert len(set(ratio)) == 40
    assert core.observe()[:, core.codec.starts["log_sla"]] == pytest.approx(np.log2(ratio), abs=1e-6)
    rows = np.arange(40)
    facts = core.step(np.full(40, core.model.base), rows)
    assert np.array_equal(facts["sla_held"], facts["p95_ms"] <= core.sla_ms)
    assert np.array_equal(facts["penalty"] < 0.0, facts["p95_ms"] > core.sla_ms)


@given(
    st.integers(1, 8),
    st.integers(1, 300),
    st.floats(0.0, 1000.0),
    st.floats(0.0, 1000.0),
    st.floats(0.01, 50.0),
    st.integers(0, 2**31),
)
def test_outages_take_single_gpus_and_never_the_last(
    gpus: int, steps: int, maintenance: float, losses: float, hours: float, seed: int
) -> None:
    usable, lost = draw_outages(
        np.random.default_rng(seed),
        gpus=gpus,
        steps=steps,
        step_s=300.0,
        maintenance_per_week=maintenance,
        losses_per_week=losses,
        outage_hours=hours,
    )
    assert usable.shape == lost.shape == (steps + 1,)
    assert usable[0] == gpus
    assert ((usable >= 1) & (usable <= gpus)).all()
    if losses == 0.0:
        assert not lost.any()
    if maintenance == losses == 0.0:
        assert (usable == gpus).all()


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_a_lost_gpu_costs_capacity_at_once_and_an_announced_one_does_not(make: Any, fidelity: str) -> None:
    answers = {}
    for sudden in (False, True):
        core = make(fidelity=fidelity, w=0.1, losses_per_week=1e-9)
        core._usable[0, 1:] = 1
        core._lost[0, 1] = sudden
        capacity = core.model.baseline.capacity
        core.rate[:] = 0.45 * capacity
        if core.clusters[0]:
            core.clusters[0].load = _Constant(0.45 * capacity)
        core.step([core.model.base], ROW)
        assert core.available[0] == 1
        labels = [item.label() for item in core.model.catalogue.configurations]
        only = labels.index("1x[4g:L 3g:L] + 1 parked")  # the GPU that is left is cut anew
        facts = core.step([only], ROW)
        assert facts["action_valid"].all()
        answers[sudden] = float(facts["p95_ms"][0])
        if core.clusters[0]:
            assert core.clusters[0].configuration.gpus[1].parked
    assert answers[True] > answers[False]


class _Constant:
    def __init__(self, rate: float) -> None:
        self.rate = rate

    def segments(self, t0: float, t1: float) -> list[tuple[float, float, float]]:
        return [(t0, t1, self.rate)]


def test_without_perturbation_the_world_is_the_models(make: Any) -> None:
    plain, none = make(w=0.1), make(w=0.1, perturbation=0.0)
    for action in range(5):
        one, other = plain.step([action], ROW), none.step([action], ROW)
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_perturbed_world_is_the_same_at_both_fidelities(
    make: Any, small_scenario: Scenario, small_model: ClusterModel
) -> None:
    factors = (1.25, 0.8, 1.6)
    cores = {name: make(fidelity=name, w=0.1, perturbation=0.5) for name in ("table", "event")}
    rate = 0.5 * small_model.baseline.capacity
    for core in cores.values():
        core.factors[0] = factors
        core.rate[:] = rate
    event = cores["event"]
    event.clusters[0].physics = event._world(0)
    event.clusters[0].load = _Constant(rate)
    for action in range(len(small_model.catalogue)):
        facts = {}
        for name, core in cores.items():
            core.t[:] = 0 if name == "table" else core.t
            core.step([action], ROW)
            if name == "table":
                core.t[:] = 0
            facts[name] = core.step([action], ROW)
        table, other = facts["table"], facts["event"]
        if float(table["queued"][0]) == 0.0:
            assert float(other["energy_j"][0]) == pytest.approx(float(table["energy_j"][0]), rel=0.03)
            assert float(other["accuracy"][0]) == pytest.approx(float(table["accuracy"][0]), abs=0.004)
            assert float(other["p95_ms"][0]) == pytest.approx(float(table["p95_ms"][0]), rel=0.15)


@pytest.mark.parametrize("outages", [0.0, 50.0])
def test_hindsight_in_the_true_world_is_what_stepping_gives(make: Any, outages: float) -> None:
    settings = {"w": 0.1, "perturbation": 0.3, "losses_per_week": outages, "maintenance_per_week": outages}
    core = make(n=12, **settings)
    rows, believed_otherwise, played = np.arange(12), 0, 0
    for step in range(40):
        true, model = core.all_rewards(true_world=True), core.all_rewards()
        action = np.where(core.allowed(rows, rows), rows, core.action)
        allowed = core.allowed(action, rows)
        reward = core.step((action + step) % 12 if not outages else action, rows)["reward"]
        chosen = core.action
        assert reward[allowed] == pytest.approx(true[rows, chosen][allowed], abs=1e-12)
        believed_otherwise += int((np.abs(model - true)[rows, chosen] > 1e-6).sum())
        played += int(allowed.sum())
    assert played > 200
    assert believed_otherwise > 200


def test_without_differences_the_true_world_is_the_models(make: Any) -> None:
    core = make(n=4)
    assert np.array_equal(core.all_rewards(true_world=True), core.all_rewards())


def test_a_perturbed_profile_is_off_by_its_factors(small_model: ClusterModel) -> None:
    profile = small_model.profile
    other = perturbed(profile, 2.0, 0.5, 3.0)
    assert other.service_s["S"]["1g"] == pytest.approx(2.0 * profile.service_s["S"]["1g"])
    assert other.energy_j["L"]["7g"] == pytest.approx(0.5 * profile.energy_j["L"]["7g"])
    assert other.interference is not None
    assert profile.interference is not None
    assert other.interference.sensitivity["S"] == pytest.approx(3.0 * profile.interference.sensitivity["S"])
    assert other.power == profile.power


def test_a_budget_is_met_by_whoever_follows_the_weight(make: Any) -> None:
    core = make(n=8, accuracy_budget=0.01, days=3.0)
    rows = np.arange(8)
    lost, served = np.zeros(8), np.zeros(8)
    for _ in range(core.steps):
        facts = core.step(core.all_rewards().argmax(axis=1), rows)
        lost += (1.0 - facts["accuracy"] / core.objective.base.accuracy) * facts["answered"]
        served += facts["answered"]
    mean = lost / served
    assert (mean <= 0.015).all()
    assert 0.008 < np.mean(mean) < 0.011  # met, and used
    assert len(set(core.w.tolist())) > 1


def test_a_factored_step_is_the_step_of_the_configuration_it_means(
    small_scenario: Scenario, make: Any
) -> None:
    whole = small_scenario.model(pruned=False)
    settings = EpisodeSettings(actions="factored", days=0.5, w=0.1)
    core = EnvironmentCore(small_scenario, whole, 1, settings)
    plain = make(w=0.1)
    core.reset_row(0, np.random.default_rng(1))
    assert core.factored is not None
    for action in (3, 7, 0, 11):
        index = whole.catalogue.index(plain.model.catalogue[action])
        assert index is not None
        vector = core.factored.encode(index)
        one, other = core.step(core.decode(vector[None]), ROW), plain.step([action], ROW)
        for name in ("reward", "p95_ms", "energy_j", "accuracy", "queued"):
            assert one[name] == pytest.approx(other[name], rel=1e-9)
        assert core.observe() == pytest.approx(plain.observe(), abs=1e-6)
    facts = core.step(core.decode(np.array([[0, 13, 0, 0, 0, 0, 1]])), ROW)
    assert core.factored.layouts[13] != ("1g",) * 7 or not facts["action_valid"][0]
