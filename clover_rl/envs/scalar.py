"""MIGClusterEnv: the Gymnasium environment, one episode at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from clover_rl.control.codecs import ActionCodec, ObservationCodec
from clover_rl.envs.core import EnvironmentCore, Fidelity, StepFacts
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.signals import Split
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["MIGClusterEnv", "check_actions", "spaces_of"]

Observation = NDArray[np.float32]

ROW = np.zeros(1, np.intp)


def check_actions(actions: str) -> None:
    """Refuse action kinds that do not exist.

    Raises:
        InputError: `actions` is not "catalogue".
    """
    if actions != "catalogue":
        raise InputError(f"unknown action kind `{actions}`", fix="use catalogue")


def spaces_of(core: EnvironmentCore) -> tuple[gym.spaces.Box, gym.spaces.Discrete]:
    """Observation and action space of one episode."""
    low, high = core.codec.bounds
    return gym.spaces.Box(low, high, dtype=np.float32), gym.spaces.Discrete(len(core.model.catalogue))


class MIGClusterEnv(gym.Env[Observation, np.int64]):
    """A cluster of MIG-capable GPUs that serves one application; an action is a configuration.

    Observation: a flat float32 Box; `observation_codec.fields` says name, unit and scale of each number.
    Action: an index into the scenario's catalogue. Reward: the objective of the interval that follows, the
    sum of `info["reward_terms"]`. The end of an episode is truncation. Every physical figure is in info.

    Args:
        scenario: shipped name, path of a YAML file, or a Scenario.
        split: "train" or "test": which grids and load shapes signals are generated from.
        fidelity: "table" (steady state, fast) or "event" (every request).
        actions: "catalogue".
        w: fixed weight of carbon; None draws one per episode, log-uniformly.
        days: length of an episode in days of the signals; None takes the scenario's.
        render_mode: None.

    Raises:
        InputError: a wrong argument or scenario.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(
        self,
        scenario: str | Path | Scenario = "h100-efficientnet",
        *,
        split: Split = "train",
        fidelity: Fidelity = "table",
        actions: str = "catalogue",
        w: float | None = None,
        days: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_actions(actions)
        self.scenario = load_scenario(scenario)
        self.render_mode = render_mode
        self.core = EnvironmentCore(
            self.scenario, self.scenario.model(), 1, split=split, fidelity=fidelity, w=w, days=days
        )
        self._texts = tuple(map(str, self.model.catalogue.configurations))
        box, self.action_space = spaces_of(self.core)
        self.observation_space = cast("gym.Space[Observation]", box)

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
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new episode; there are no options: everything is a constructor argument.

        Raises:
            InputError: options were given.
        """
        super().reset(seed=seed)
        if options:
            raise InputError(
                f"reset takes no options, found {', '.join(options)}", fix="give them to the constructor"
            )
        self.core.reset_row(0, self.np_random)
        return self.core.observe()[0], {"w": float(self.core.w[0]), "sla_ms": self.core.objective.sla_ms}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One interval under a configuration.

        Raises:
            InputError: the action is outside the catalogue or masked.
        """
        index = int(action)
        self.core.actions.decode(index)
        if not self.action_masks()[index]:
            raise InputError(f"action {index} is masked", fix="choose where action_masks() is true")
        facts = self.core.step(np.array([index]), ROW)
        reward = float(facts["reward"][0])
        return self.core.observe()[0], reward, False, bool(facts["truncated"][0]), self._info(facts)

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, shape (actions,); through wrappers: `env.get_wrapper_attr("action_masks")()`."""
        return np.asarray(self.core.masks()[0])

    def _info(self, facts: StepFacts) -> dict[str, Any]:
        info: dict[str, Any] = {
            name: value[0].item() for name, value in facts.items() if name not in ("reward", "truncated")
        }
        info["reward_terms"] = {
            "carbon": info.pop("carbon"),
            "accuracy": info.pop("accuracy_term"),
            "penalty": info.pop("penalty"),
        }
        info["configuration"] = self._texts[info["action"]]
        info["w"] = float(self.core.w[0])
        info["sla_ms"] = self.core.objective.sla_ms
        return info
