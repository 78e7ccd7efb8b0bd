"""Costs of all transitions within a catalogue, from the plans of single GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clover_rl.cluster.choices import Catalogue
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.simulation.fluid import TransitionCosts
from clover_rl.simulation.physics import Physics

__all__ = ["transition_costs"]


@dataclass(frozen=True, slots=True)
class _Change:
    """One GPU's way from one configuration to another.

    Attributes:
        duration_s: length of its plan, s.
        least: requests/s that it serves at its weakest on the way.
        beside: whether it only swaps variants for which there is room beside the old ones.
    """

    duration_s: float
    least: float
    beside: bool


class _Changes:
    """Changes of single GPUs, each computed once."""

    def __init__(self, physics: Physics) -> None:
        self._physics = physics
        self._known: dict[tuple[GpuConfiguration, GpuConfiguration], _Change] = {}

    def capacity(self, gpu: GpuConfiguration) -> float:
        return self._physics.capacity(ClusterConfiguration((gpu,)))

    def __call__(self, old: GpuConfiguration, new: GpuConfiguration) -> _Change:
        found = self._known.get((old, new))
        if found is None:
            plan = plan_transition(
                ClusterConfiguration((old,)), ClusterConfiguration((new,)), self._physics.profile
            )
            found = self._known[old, new] = _Change(
                plan.duration_s,
                min(self._physics.capacity(state) for state in dict.fromkeys(plan.states())),
                {step.what for step in plan.steps} <= {"load", "switch"},
            )
        return found


def transition_costs(
    physics: Physics,
    catalogue: Catalogue,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TransitionCosts:
    """Duration and least capacity of every transition between homogeneous configurations.

    The same as those of `plan_transition` without a known load: parked GPUs are filled together, variants
    with room are swapped together, other GPUs are changed one after the other, and GPUs are emptied last.
    Neighbours interfere within a GPU only, so a cluster's capacity is the sum of its GPUs'.

    Args:
        physics: laws of the profile.
        catalogue: configurations whose active GPUs are all alike.
        progress: called with (done, total) now and then.
    """
    n = len(catalogue)
    duration, least = np.zeros((n, n)), np.zeros((n, n))
    kinds = [next(gpu for gpu in item.gpus if not gpu.parked) for item in catalogue.configurations]
    active = [item.active for item in catalogue.configurations]
    changes = _Changes(physics)
    for i in range(n):
        for j in range(n):
            duration[i, j], least[i, j] = _cost(
                changes, kinds[i], active[i], kinds[j], active[j], len(catalogue[i].gpus)
            )
        if progress and (i % 16 == 0 or i == n - 1):
            progress(i + 1, n)
    return TransitionCosts(duration, least)


def _cost(
    changes: _Changes, old: GpuConfiguration, before: int, new: GpuConfiguration, after: int, gpus: int
) -> tuple[float, float]:
    """From `before` GPUs of one kind to `after` of another, of `gpus` in all."""
    parked = GpuConfiguration()
    was, will = changes.capacity(old), changes.capacity(new)
    serving = before * was
    if old == new:
        kept, filled, changed = min(before, after), max(after - before, 0), 0
    elif old.layout == new.layout:
        changed = min(before, after)
        kept, filled = 0, after - changed
    else:
        filled = min(after, gpus - before)
        kept, changed = 0, after - filled
    emptied = before - kept - changed
    duration, least = 0.0, serving
    if filled:
        duration += changes(parked, new).duration_s
        serving += filled * will
    if changed:
        change = changes(old, new)
        waves, at_once = (1, changed) if old.layout == new.layout and change.beside else (changed, 1)
        duration += waves * change.duration_s
        for _ in range(waves):
            least = min(least, serving + at_once * (change.least - was))
            serving += at_once * (will - was)
    if emptied:
        duration += changes(old, parked).duration_s
        serving -= emptied * was
    return duration, min(least, serving)
