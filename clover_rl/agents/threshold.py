"""ThresholdController: the rule that an operator would write down first."""

from __future__ import annotations

import math

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.geometry import multiset_layouts
from clover_rl.control.controller import Decision
from clover_rl.control.state import ControlState
from clover_rl.simulation.model import ClusterModel

__all__ = ["ThresholdController"]

UTILISATION = 0.6
"""As many GPUs as keep utilisation below this at the last interval's load, as an autoscaler would."""
STEP_DOWN, STEP_UP = 1.2, 0.8
"""Multiples of the mean intensity so far: above the first a smaller variant, below the other a larger one."""


class ThresholdController:
    """Whole GPUs, as many as the load asks for; the variant follows the intensity, a step at a time.

    Args:
        model: what is believed of the cluster; only capacities of whole GPUs are used.
    """

    name = "threshold"
    live_trials = 0

    def __init__(self, model: ClusterModel) -> None:
        profile = model.profile
        whole = next(layout for layout in multiset_layouts(profile.gpu) if layout.multiset == ("7g",))
        variants = [v for v in profile.application.variants if "7g" in profile.service_s[v]]
        self._gpus = [GpuConfiguration.of(whole, {"7g": name}) for name in variants]
        self._capacity = [1.0 / profile.service_s[name]["7g"] for name in variants]
        self.knows = "capacities of whole GPUs, the last load, the mean intensity so far"
        self.space_size = len(variants) * model.gpus
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Back to the largest variant."""
        self._level = len(self._gpus) - 1
        self._sum = 0.0
        self._count = 0

    def decide(self, state: ControlState) -> Decision:
        """Count GPUs for the load, then move the variant by at most one step."""
        self._sum += state.intensity
        self._count += 1
        mean = self._sum / self._count
        if state.intensity > STEP_DOWN * mean:
            self._level = max(self._level - 1, 0)
        elif state.intensity < STEP_UP * mean:
            self._level = min(self._level + 1, len(self._gpus) - 1)
        usable = max(sum(state.available), 1)
        rate = max(state.rates[:2])
        wanted = math.ceil(rate / (UTILISATION * self._capacity[self._level]))
        active = min(max(wanted, 1), usable)
        target = ClusterConfiguration.uniform(self._gpus[self._level], active, len(state.available))
        return Decision(
            target, f"{active} GPUs at {rate:.1f}/s, intensity {state.intensity / mean:.2f} of its mean"
        )
