"""Clairvoyant: the best sequence of configurations for a known window, on the table without backlog."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clover_rl.agents.mpc import transition_rewards
from clover_rl.cluster.objective import Objective
from clover_rl.control.controller import Decision
from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals, sample_signals
from clover_rl.simulation.model import ClusterModel

__all__ = ["ClairvoyantController", "clairvoyant_for", "clairvoyant_plan"]

Floats = NDArray[np.float64]


def clairvoyant_plan(
    model: ClusterModel,
    objective: Objective,
    rates: Floats,
    intensities: Floats,
    *,
    start: int,
    interval_s: float,
    timeout_s: float,
) -> tuple[NDArray[np.intp], float]:
    """The best actions, and their mean objective: dynamic programming over the pruned catalogue.

    A bound for every controller at table fidelity without backlog, and named so: no bound at event level,
    where chance moves the p95, nor over configurations that pruning left out.

    Args:
        model: what is believed of the cluster.
        objective: weight and SLA, constant over the window.
        rates: mean load of each interval, requests/s, shape (T,).
        intensities: mean carbon intensity of each interval, gCO2/kWh, shape (T,).
        start: index of what serves at first.
        interval_s, timeout_s: s.
    """
    n, steps = len(model.catalogue), len(rates)
    follow = np.empty((steps, n), np.intp)
    to_go = np.zeros(n)
    for step in range(steps - 1, -1, -1):
        rewards = transition_rewards(
            model,
            objective,
            rate=float(rates[step]),
            careful=float(rates[step]),
            intensity=float(intensities[step]),
            interval_s=interval_s,
            timeout_s=timeout_s,
        )
        total = rewards + to_go[None, :]
        follow[step] = total.argmax(axis=1)
        to_go = total.max(axis=1)
    actions = np.empty(steps, np.intp)
    at = start
    for step in range(steps):
        at = actions[step] = follow[step, at]
    return actions, float(to_go[start] / max(steps, 1))


class ClairvoyantController:
    """Follows the clairvoyant plan of a window.

    Args:
        model: what is believed of the cluster.
        rates, intensities: of each interval from the first decision on, shape (T,).
        timeout_s: a client stops waiting after this long.
        start_s: time of the first decision, s.
    """

    name = "clairvoyant"
    knows = "every load and intensity of the window; a bound on the table without backlog"
    live_trials = 0

    def __init__(
        self, model: ClusterModel, rates: Floats, intensities: Floats, *, timeout_s: float, start_s: float
    ) -> None:
        self.model, self.rates, self.intensities = model, rates, intensities
        self.space_size = len(model.catalogue)
        self.timeout_s, self.start_s = timeout_s, start_s
        self._actions: NDArray[np.intp] | None = None

    def reset(self, seed: int) -> None:
        """Plan anew: the next run may have another weight."""
        self._actions = None

    def decide(self, state: ControlState) -> Decision:
        """The plan's next step."""
        if self._actions is None:
            start = self.model.catalogue.index(state.configuration)
            self._actions, _ = clairvoyant_plan(
                self.model,
                state.objective,
                self.rates,
                self.intensities,
                start=self.model.base if start is None else start,
                interval_s=state.interval_s,
                timeout_s=self.timeout_s,
            )
        step = min(round((state.time_s - self.start_s) / state.interval_s), len(self._actions) - 1)
        chosen = self.model.catalogue[int(self._actions[max(step, 0)])]
        # it foresees load and carbon, not outages
        return Decision(chosen.on_at_most(sum(state.available)), f"step {step} of the plan")


def clairvoyant_for(
    scenario: Scenario, model: ClusterModel, signals: EpisodeSignals, steps: int
) -> ClairvoyantController:
    """The clairvoyant of a window that begins after one interval of warm-up."""
    arrays = sample_signals(signals, scenario, steps)
    return ClairvoyantController(
        model,
        arrays.rate[RATE_LAGS:],
        arrays.mean_intensity,
        timeout_s=scenario.timeout_s,
        start_s=scenario.interval_s,
    )
