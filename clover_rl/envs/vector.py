"""MIGClusterVec: many episodes side by side as one Gymnasium vector environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from clover_rl.control.codecs import ActionCodec, ObservationCodec
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scalar import spaces_of
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.summary import EpisodeSummary
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["MIGClusterVec"]

_TERMS = (
    ("carbon", "carbon"),
    ("accuracy", "accuracy_term"),
    ("penalty", "penalty"),
    ("invalid", "invalid"),
)

Observations = NDArray[np.float32]


class MIGClusterVec(VectorEnv[Observations, NDArray[np.int64], NDArray[np.float64]]):
    """The vector twin of MIGClusterEnv: the same episodes for the same seeds.

    Args:
        num_envs: episodes side by side.
        scenario: as of MIGClusterEnv.
        autoreset_mode: "NextStep" (Gymnasium's default), "SameStep" or "Disabled".
        render_mode: None.
        episode: how episodes are drawn and played, see EpisodeSettings.

    Raises:
        InputError: a wrong argument or scenario.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        scenario: str | Path | Scenario = "h100-efficientnet",
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **episode: Any,
    ) -> None:
        self.scenario = load_scenario(scenario)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = type(self).metadata | {"autoreset_mode": self.autoreset_mode}
        settings = EpisodeSettings.of(episode)
        model = self.scenario.model(pruned=settings.actions == "catalogue")
        self.core = EnvironmentCore(self.scenario, model, num_envs, settings)
        self.single_observation_space, self.single_action_space = spaces_of(self.core)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.summary = EpisodeSummary(num_envs, model.baseline.accuracy)
        self.generators: list[np.random.Generator] = []
        self._done = np.zeros(num_envs, bool)

    @property
    def model(self) -> ClusterModel:
        """The scenario's model."""
        return self.core.model

    @property
    def observation_codec(self) -> ObservationCodec:
        """What each number of an observation is."""
        return self.core.codec

    @property
    def action_codec(self) -> ActionCodec:
        """What each action is."""
        return self.core.actions

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """New episodes; a seed s gives row i the seed s + i, as Gymnasium's own vector environments do.

        Args:
            seed: one for all, one per row, or None to go on with the rows' generators.
            options: only `reset_mask`, shape (num_envs,): which rows to reset.

        Raises:
            InputError: other options, or a number of seeds that is not num_envs.
        """
        chosen = dict(options or {})
        mask = np.asarray(chosen.pop("reset_mask", np.ones(self.num_envs, bool)), bool)
        if chosen:
            raise InputError(
                f"reset takes no options, found {', '.join(chosen)}", fix="give them to the constructor"
            )
        seeds = self._seeds(seed)
        if seeds is not None or not self.generators:
            fresh = seeds or [None] * self.num_envs
            old = self.generators or [None] * self.num_envs  # type: ignore[list-item]
            self.generators = [
                old[row]
                if old[row] is not None and (value is None or not mask[row])
                else np.random.default_rng(value)
                for row, value in enumerate(fresh)
            ]
        self._reset_rows(np.flatnonzero(mask))
        return self.core.observe(), {"w": self.core.w.copy(), "sla_ms": self.core.sla_ms.copy()}

    def _seeds(self, seed: int | list[int | None] | None) -> list[int | None] | None:
        if seed is None:
            return None
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise InputError(f"{len(seed)} seeds for {self.num_envs} environments", fix="give one for each")
        return list(seed)

    def _reset_rows(self, rows: NDArray[np.intp]) -> None:
        for row in rows.tolist():
            self.core.reset_row(row, self.generators[row])
        self.summary.reset(rows)
        self._done[rows] = False

    def step(  # type: ignore[override]  # flags are bool arrays, which the base class types as the rewards'
        self, actions: NDArray[np.int64]
    ) -> tuple[Observations, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One interval of every row.

        A row whose episode ended before is reset instead where the autoreset mode is NextStep.

        Raises:
            InputError: an action is outside its space, or an ended row was not reset.
        """
        chosen = self.core.decode(actions)
        live = ~self._done
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            raise InputError("an ended episode was stepped", fix="reset it with options={'reset_mask': ...}")
        rows = np.flatnonzero(live)
        before = self.core.action[rows]
        facts = self.core.step(chosen[rows], rows)
        self.summary.add(facts, facts["action"] != before, rows)
        rewards = np.zeros(self.num_envs)
        truncated = np.zeros(self.num_envs, bool)
        rewards[rows], truncated[rows] = facts["reward"], facts["truncated"]
        info: dict[str, Any] = {}
        for name, values in facts.items():
            if name not in ("reward", "truncated"):
                full = np.zeros(self.num_envs, values.dtype)
                full[rows] = values
                info[name], info[f"_{name}"] = full, live
        info["reward_terms"] = {name: info.pop(key) for name, key in _TERMS}
        for _, key in _TERMS:
            del info[f"_{key}"]
        info["_reward_terms"] = live
        if facts["truncated"].any():
            for name, values in self.summary.results(rows).items():
                full = np.zeros(self.num_envs)
                full[rows] = np.where(facts["truncated"], values, 0.0)
                info[name], info[f"_{name}"] = full, truncated.copy()
        self._done[rows] = facts["truncated"]
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            self._reset_rows(np.flatnonzero(~live))
        elif self.autoreset_mode == AutoresetMode.SAME_STEP and self._done.any():
            info["final_obs"] = self.core.observe()
            info["_final_obs"] = self._done.copy()
            self._reset_rows(np.flatnonzero(self._done))
        terminated = np.zeros(self.num_envs, bool)
        return self.core.observe(), rewards, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, one flat row per environment."""
        return self.core.masks()
