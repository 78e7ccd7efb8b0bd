"""SB3VecEnv: MIGClusterVec as stable-baselines3 expects a vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from clover_rl.envs.summary import EPISODE_KEYS
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError

__all__ = ["SB3VecEnv"]


class SB3VecEnv(VecEnv):
    """A thin adapter; configuration belongs in the constructor of the environment it wraps.

    Args:
        env: a vector environment with autoreset mode SameStep.

    Raises:
        InputError: another autoreset mode.
    """

    def __init__(self, env: MIGClusterVec) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise InputError("stable-baselines3 resets in the same step", fix="use autoreset_mode='SameStep'")
        self.env = env
        self._actions: NDArray[np.int64] = np.zeros(env.num_envs, np.int64)
        self._seed: int | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    @property
    def progress(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Sum of rewards and number of intervals of each row's episode so far, shape (num_envs,)."""
        return self._returns, self._lengths

    def reset(self) -> VecEnvObs:
        """New episodes, from the seed last given."""
        observations, _ = self.env.reset(seed=self._seed)
        self._seed = None
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return observations

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed of the next reset; row i takes seed + i."""
        self._seed = seed
        return [None if seed is None else seed + row for row in range(self.num_envs)]

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember the actions of the step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One interval of every row; ended episodes report `episode` and `terminal_observation`."""
        observations, rewards, _, truncated, info = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(truncated).tolist():
            infos[row] = {
                "terminal_observation": info["final_obs"][row],
                "TimeLimit.truncated": True,
                "episode": {"r": float(self._returns[row]), "l": int(self._lengths[row]), "t": 0.0},
            }
            infos[row] |= {name: float(info[name][row]) for name in EPISODE_KEYS}
            self._returns[row] = 0.0
            self._lengths[row] = 0
        self.last_info = info
        return observations, rewards.astype(np.float32), truncated, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method; `action_masks` gives one flat row per environment."""
        rows = list(self._get_indices(indices))
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result[row] for row in rows] if isinstance(result, np.ndarray) else [result for _ in rows]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environment, once per row."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refused: rows share one environment.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"`{attr_name}` cannot be set per row", fix="give it to the environment's constructor"
        )

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Never wrapped: episodes are reported by this adapter itself."""
        return [False for _ in self._get_indices(indices)]
