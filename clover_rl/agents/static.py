"""StaticController: one configuration for ever; BASE and CO2OPT are two of them."""

from __future__ import annotations

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.control.controller import Decision
from clover_rl.control.state import ControlState

__all__ = ["StaticController", "base_controller", "co2opt_controller"]


class StaticController:
    """Keeps one configuration; with GPUs unavailable it keeps what fits on the others."""

    def __init__(
        self, configuration: ClusterConfiguration, name: str = "static", knows: str = "nothing"
    ) -> None:
        self.configuration = configuration
        self.name = name
        self.knows = knows
        self.space_size = 1
        self.live_trials = 0

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, state: ControlState) -> Decision:
        """Always the same."""
        return Decision(self.configuration.on_at_most(sum(state.available)), self.name)


def base_controller(profile: Profile, gpus: int) -> StaticController:
    """BASE: the largest variant on every whole GPU."""
    return StaticController(base_configuration(profile, gpus), "base")


def co2opt_controller(profile: Profile, gpus: int) -> StaticController:
    """CO2OPT: the smallest variant on the finest layout, accuracy ignored."""
    return StaticController(co2opt_configuration(profile, gpus), "co2opt")
