"""TableHead: what it knows before it has learned anything, and that it is an SB3 policy like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.network import PolicyNetwork
from clover_rl.agents.train.actor import greedy, logits
from clover_rl.agents.train.algorithms import make_environment, make_model
from clover_rl.agents.train.exact import ExactTrainer
from clover_rl.agents.train.export import export_run
from clover_rl.agents.train.table_head import TableHead, TableHeadPolicy, head_tables
from clover_rl.agents.train.trainer import train
from clover_rl.control.state import RATE_LAGS
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.simulation.model import ClusterModel
from tests.agents.conftest import quick


def _core(scenario: Scenario, model: ClusterModel, **settings: object) -> EnvironmentCore:
    core = EnvironmentCore(scenario, model, 64, EpisodeSettings.of(settings))
    for row in range(core.n):
        core.reset_row(row, np.random.default_rng([5, row]))
    core.t[:] = np.arange(core.n) % core.steps
    return core


def _certain(head: TableHead) -> TableHead:
    """A head that takes the last interval's load for the next one's, without a doubt."""
    with torch.no_grad():
        head.forecast.bias[:] = 0.0
        head.forecast.bias[4:6] = -20.0  # as narrow as it can be
        head.log_sharpness[...] = 9.0
    return head


def _steady(core: EnvironmentCore) -> None:
    """The load goes on as it was, at the intensity of now, and the present configuration has settled."""
    rows = np.arange(core.n)
    for lag in range(RATE_LAGS + 1):
        core.rate[rows, core.t + lag] = core.rate[rows, core.t + RATE_LAGS - 1]
    core._rate_encoded[:] = core.codec.encode_field("rate", core.rate)
    intensity = core._outside[rows, core.t, 0] * core.scenario.reference_g_per_kwh
    core.mean_intensity[rows, core.t] = intensity
    core.queued[:] = 0.0


@pytest.mark.parametrize("sla", [(1.0, 1.0), (0.7, 1.4)])
def test_an_untrained_head_that_is_certain_chooses_what_the_table_says(
    small_scenario: Scenario, small_model: ClusterModel, sla: tuple[float, float]
) -> None:
    core = _core(small_scenario, small_model, sla=sla)
    _steady(core)
    head = _certain(TableHead(head_tables(small_scenario, small_model, sla), [8]))
    with torch.no_grad():
        chosen = head(torch.from_numpy(core.observe())).argmax(dim=-1).numpy()
    rewards = core.all_rewards()
    rows = np.arange(core.n)
    regret = rewards.max(axis=1) - rewards[rows, chosen]
    spread = rewards.max(axis=1) - np.median(rewards, axis=1)
    assert np.median(regret) < 0.002
    assert np.mean(regret < 0.1 * spread) > 0.9


def test_a_doubtful_head_keeps_more_in_reserve_than_a_certain_one(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    core = _core(small_scenario, small_model)
    _steady(core)
    seen = torch.from_numpy(core.observe())
    tables = head_tables(small_scenario, small_model, (1.0, 1.0))
    capacities = small_model.rows.capacity
    with torch.no_grad():
        certain = _certain(TableHead(tables, [8]))(seen).argmax(dim=-1).numpy()
        doubtful = TableHead(tables, [8])(seen).argmax(dim=-1).numpy()
    assert capacities[doubtful].mean() > capacities[certain].mean()


def test_a_policy_with_a_table_head_is_saved_goes_on_and_is_exported(
    small_scenario: Scenario, small_model: ClusterModel, tmp_path: Path
) -> None:
    recipe = quick("table-head", steps=2048, clone_share=0.2, exact_share=0.4, ppo_share=0.4, ppo_steps=8)
    train(small_scenario, recipe, tmp_path / "run", seed=1)
    env = make_environment(small_scenario, recipe, seed=2)
    model = MaskablePPO.load(tmp_path / "run" / "model.zip", env=env)
    core = _core(small_scenario, small_model)
    before = greedy(model.policy, core)
    again = MaskablePPO.load(tmp_path / "run" / "model.zip", device="cpu")
    np.testing.assert_array_equal(greedy(again.policy, core), before)
    model.learn(512)
    export_run(tmp_path / "run", tmp_path / "small.clover")
    bundle = open_bundle(tmp_path / "small.clover")
    seen, masks = core.observe(), core.masks()
    with torch.no_grad():
        wanted = logits(again.policy, torch.from_numpy(seen)).numpy()
    found = PolicyNetwork(bundle.network).logits(seen, masks)
    np.testing.assert_allclose(found[masks], wanted[masks], atol=0.05)


def test_exact_updates_raise_what_an_untrained_head_wins(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    recipe = quick("table-head", envs=64, updates=4)
    model = make_model(recipe, make_environment(small_scenario, recipe, 0), 0, small_scenario, small_model)
    policy = model.policy
    assert isinstance(policy, TableHeadPolicy)
    seen = _core(small_scenario, small_model)
    rewards, rows = seen.all_rewards(), np.arange(seen.n)
    before = rewards[rows, greedy(policy, seen)].mean()
    core = EnvironmentCore(small_scenario, small_model, 64)
    trainer = ExactTrainer(policy, core, recipe, seed=0)
    for step in range(60):
        trainer.collect()
        trainer.update(clone=False, progress=step / 60)
    assert rewards[rows, greedy(policy, seen)].mean() > before


def test_bins_of_several_intervals_make_the_load_stay(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    def moves(multiples: int) -> float:
        core = _core(small_scenario, small_model, bin_multiples=multiples)
        return float(np.median(np.abs(np.diff(core.rate, axis=1)) / np.maximum(core.rate[:, 1:], 1.0)))

    assert moves(12) < moves(1)
