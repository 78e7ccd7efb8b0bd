"""ExactTrainer: cloning, then the exact expected reward over all actions, which the table can score.

No sampled gradient is needed: for each state met on policy the table gives the reward of every action, so
the expected reward under the policy, and its gradient, are sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

from clover_rl.agents.train.actor import actor_parameters, logits, sample
from clover_rl.agents.train.recipe import PretrainedRecipe
from clover_rl.envs.core import EnvironmentCore

__all__ = ["ExactTrainer"]

NODES, WEIGHTS = (-(3.0**0.5), 0.0, 3.0**0.5), (1 / 6, 2 / 3, 1 / 6)
"""Three-point Gauss-Hermite quadrature of a standard normal variable."""


class ExactTrainer:
    """Trains the actor of an SB3 policy on states that it meets itself.

    Args:
        policy: the SB3 policy, trained in place.
        core: episodes at table fidelity, already reset.
        recipe: how.
        seed: of choices and minibatches.
    """

    def __init__(
        self, policy: MaskableActorCriticPolicy, core: EnvironmentCore, recipe: PretrainedRecipe, seed: int
    ) -> None:
        self.policy, self.core, self.recipe = policy, core, recipe
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(actor_parameters(policy), lr=recipe.learning_rate)
        size, actions = core.codec.size, len(core.model.catalogue)
        self.average: list[torch.Tensor] | None = None
        self.observations = torch.empty(recipe.memory, size)
        self.targets = torch.empty(recipe.memory, actions)
        self.filled = 0
        self.position = 0
        self.generators = [np.random.default_rng([seed, row]) for row in range(core.n)]
        for row, generator in enumerate(self.generators):
            core.reset_row(row, generator)
        # rows start anywhere in their episodes, so that a batch never shows one hour only
        core.t[:] = self.rng.integers(0, core.steps, core.n)

    def _targets(self) -> NDArray[np.float32]:
        """Reward of every action, averaged over what chance does to the load, masked ones at the worst."""
        core = self.core
        rows = np.arange(core.n)
        requests = core.rate[rows, core.t + core.rate.shape[1] - core.steps] * core.scenario.interval_s
        recipe = self.recipe
        spread = np.hypot(recipe.load_noise / np.sqrt(np.maximum(requests, 1.0)), recipe.load_spread)
        careful = bool(recipe.load_noise or recipe.load_spread)
        margins = np.maximum(spread[:, None] * np.array(NODES), -0.9) if careful else None
        weights = WEIGHTS if careful else None
        rewards = core.all_rewards(margins, weights, true_world=True, follow=True)
        rewards = np.where(core.masks(), rewards, rewards.min(axis=-1, keepdims=True))
        best = rewards.max(axis=-1, keepdims=True)
        return np.asarray(np.maximum(rewards - best, -1.0), np.float32)

    def collect(self) -> float:
        """One step of every row; returns the mean reward."""
        core = self.core
        n = core.n
        places = (self.position + np.arange(n)) % self.recipe.memory
        self.observations[places] = torch.from_numpy(core.observe())
        self.targets[places] = torch.from_numpy(self._targets())
        self.position = int((self.position + n) % self.recipe.memory)
        self.filled = min(self.filled + n, self.recipe.memory)
        facts = core.step(sample(self.policy, core, self.generator), np.arange(n))
        for row in np.flatnonzero(facts["truncated"]).tolist():
            core.reset_row(row, self.generators[row])
        return float(facts["reward"].mean())

    def update(self, *, clone: bool, progress: float) -> float:
        """Gradient steps after one collection; returns the last loss.

        Args:
            clone: imitate the oracle's softened choice; else maximise the expected reward.
            progress: 0 to 1 through both phases, for the schedules.
        """
        recipe = self.recipe
        decay = 0.5 * (1.0 + np.cos(np.pi * min(progress, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * max(decay, 0.01)
        loss = torch.zeros(())
        for _ in range(recipe.updates):
            index = torch.from_numpy(self.rng.integers(0, self.filled, recipe.batch))
            targets = self.targets[index]
            log_p = torch.log_softmax(logits(self.policy, self.observations[index]), dim=-1)
            if clone:
                wanted = torch.softmax(targets / recipe.clone_temperature, dim=-1)
                loss = -(wanted * log_p).sum(dim=-1).mean()
            else:
                p = log_p.exp()
                gain = (p * targets).sum(dim=-1) / recipe.reward_scale
                entropy = -(p * log_p).sum(dim=-1)
                loss = -(gain + recipe.entropy * decay * entropy).mean()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(actor_parameters(self.policy), 1.0)
            self.optimizer.step()
            if not clone and recipe.average:
                self._add_to_average()
        return float(loss.detach())

    @torch.no_grad()
    def _add_to_average(self) -> None:
        present = [parameter.detach() for parameter in actor_parameters(self.policy)]
        if self.average is None:
            self.average = [each.clone() for each in present]
        for mean, weight in zip(self.average, present, strict=True):
            mean.lerp_(weight, 1.0 - self.recipe.average)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the policy has the mean of its weights, once there is one."""
        present = [parameter.detach().clone() for parameter in actor_parameters(self.policy)]
        self.adopt_average()
        try:
            yield
        finally:
            self._put(present)

    def adopt_average(self) -> None:
        """Give the policy the mean of its weights, for good."""
        if self.average is not None:
            self._put(self.average)

    @torch.no_grad()
    def _put(self, weights: list[torch.Tensor]) -> None:
        for parameter, weight in zip(actor_parameters(self.policy), weights, strict=True):
            parameter.copy_(weight)
