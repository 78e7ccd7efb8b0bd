"""MIGClusterEnv: the Gymnasium environment, one episode at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from clover_rl.control.codecs import ActionCodec, ObservationCodec
from clover_rl.envs.core import EnvironmentCore, StepFacts
from clover_rl.envs.render import RENDER_FPS, RENDER_MODES, Scene
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.summary import EpisodeSummary
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["MIGClusterEnv", "spaces_of"]

Observation = NDArray[np.float32]

ROW = np.zeros(1, np.intp)


def spaces_of(core: EnvironmentCore) -> tuple[gym.spaces.Box, gym.spaces.Discrete | gym.spaces.MultiDiscrete]:
    """Observation and action space of one episode."""
    low, high = core.codec.bounds
    box = gym.spaces.Box(low, high, dtype=np.float32)
    if core.factored is not None:
        return box, gym.spaces.MultiDiscrete(np.array(core.factored.nvec))
    return box, gym.spaces.Discrete(len(core.model.catalogue))


class MIGClusterEnv(gym.Env[Observation, Any]):
    """A cluster of MIG-capable GPUs that serves one application; an action is a configuration.

    Observation: a flat float32 Box; `observation_codec.fields` says name, unit and scale of each number.
    Action: an index into the scenario's catalogue, or a vector of choices where actions="factored". Reward:
    the objective of the interval that follows, the sum of `info["reward_terms"]`. The end of an episode is
    truncation. Every physical figure is in info. A masked action does not raise: it changes as little as
    possible, costs INVALID_PENALTY and shows as `info["action_valid"]` false.

    Args:
        scenario: shipped name, path of a YAML file, or a Scenario.
        render_mode: "rgb_array", "human" (a window; without a display text on stdout), "ansi" or None.
        episode: how episodes are drawn and played, see EpisodeSettings: split, fidelity, actions, w,
            accuracy_budget, sla, forecast, maintenance_per_week, losses_per_week, outage_hours, perturbation,
            days.

    Raises:
        InputError: a wrong argument or scenario.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
    }

    def __init__(
        self,
        scenario: str | Path | Scenario = "h100-efficientnet",
        *,
        render_mode: str | None = None,
        **episode: Any,
    ) -> None:
        self.scenario = load_scenario(scenario)
        self.render_mode = render_mode
        settings = EpisodeSettings.of(episode)
        model = self.scenario.model(pruned=settings.actions == "catalogue")
        self.core = EnvironmentCore(self.scenario, model, 1, settings)
        self._summary = EpisodeSummary(1, model.baseline.accuracy)
        self._texts = tuple(map(str, self.model.catalogue.configurations))
        box, self.action_space = spaces_of(self.core)
        self.observation_space = cast("gym.Space[Observation]", box)
        self._scene = (
            None if render_mode is None else Scene(render_mode, self.scenario, self.model, self.core.codec)
        )

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
        self._summary.reset()
        observation = self.core.observe()[0]
        info = {"w": float(self.core.w[0]), "sla_ms": float(self.core.sla_ms[0])}
        if self._scene:
            self._scene.begin(observation, info)
        return observation, info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One interval under a configuration.

        Raises:
            InputError: the action is outside its space, or the episode has ended.
        """
        w = float(self.core.w[0])  # a budget keeper moves it after the interval
        before = int(self.core.action[0])
        facts = self.core.step(self.core.decode(action).reshape(1), ROW)
        reward = float(facts["reward"][0])
        observation, info = self.core.observe()[0], self._info(facts, w, before)
        if self._scene:
            self._scene.add(observation, reward, info)
        return observation, reward, False, bool(facts["truncated"][0]), info

    def render(self) -> NDArray[np.uint8] | str | None:
        """A picture, shape (608, 960, 3), a text, or None in mode human, which shows each step by itself.

        Raises:
            InputError: before the first reset.
            MissingExtraError: pictures need matplotlib.
        """
        if self._scene is None:
            gym.logger.warn("render() does nothing without a render mode; give render_mode to gymnasium.make")
            return None
        return self._scene.render()

    def close(self) -> None:
        """Close the window of mode human."""
        if self._scene:
            self._scene.close()

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, flat; through wrappers: `env.get_wrapper_attr("action_masks")()`."""
        return np.asarray(self.core.masks()[0])

    def _info(self, facts: StepFacts, w: float, before: int) -> dict[str, Any]:
        info: dict[str, Any] = {name: value.item() for name, value in facts.items()}
        self._summary.add_one(info, info["action"] != before)
        if info["truncated"]:
            info |= self._summary.result(0)
        del info["reward"], info["truncated"]
        info["reward_terms"] = {
            "carbon": info.pop("carbon"),
            "accuracy": info.pop("accuracy_term"),
            "penalty": info.pop("penalty"),
            "invalid": info.pop("invalid"),
        }
        info["configuration"] = self._texts[info["action"]]
        info["w"] = w
        info["sla_ms"] = float(self.core.sla_ms[0])
        return info
