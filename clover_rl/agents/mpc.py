"""MPCController: looks some intervals ahead over forecasts, transition costs included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clover_rl.agents.load_forecasts import LoadForecast
from clover_rl.cluster.objective import Objective
from clover_rl.control.controller import Decision
from clover_rl.control.scorer import ActionScorer, table_values
from clover_rl.control.state import FORECAST_HOURS, ControlState
from clover_rl.simulation.model import ClusterModel

__all__ = ["MPCController", "transition_rewards"]

HORIZON = 4
"""Intervals looked ahead; beyond, the load's forecast says less than persistence does."""

Floats = NDArray[np.float64]


def transition_rewards(
    model: ClusterModel,
    objective: Objective,
    *,
    rate: float,
    careful: float,
    intensity: float,
    interval_s: float,
    timeout_s: float,
) -> Floats:
    """Objective of an interval for every source and target, without backlog, shape (actions, actions).

    Args:
        model: what is believed of the cluster.
        objective: weight and SLA.
        rate: mean load, requests/s.
        careful: load at which the p95 is read, requests/s.
        intensity: mean carbon intensity, gCO2/kWh.
        interval_s, timeout_s: s.
    """
    every = np.arange(len(model.catalogue))
    return table_values(
        model,
        objective,
        every[:, None],
        every[None, :],
        rate=rate,
        careful=careful,
        queued=0.0,
        intensity=intensity,
        interval_s=interval_s,
        timeout_s=timeout_s,
    ).total


class MPCController:
    """Model-predictive control: the first step of the best plan over the next intervals.

    Dynamic programming over the catalogue, with a forecast of the load and the state's forecast of the
    intensity; the present backlog counts in the first interval.

    Args:
        model: what is believed of the cluster.
        timeout_s: a client stops waiting after this long.
        forecast: of the load.
        step_h: hours of the signals that pass in one interval.
        margin: see ActionScorer; tuned on training windows.
        horizon: intervals.
    """

    name = "mpc"
    live_trials = 0

    def __init__(
        self,
        model: ClusterModel,
        *,
        timeout_s: float,
        forecast: LoadForecast,
        step_h: float,
        margin: float = 0.0,
        horizon: int = HORIZON,
    ) -> None:
        self.model, self.forecast = model, forecast
        self.step_h, self.horizon, self.margin, self.timeout_s = step_h, horizon, margin, timeout_s
        self.scorer = ActionScorer(model, timeout_s, margin)
        self.knows = (
            f"the table, a {forecast.name} forecast of the load and the given one of the intensity over "
            f"{horizon} intervals"
        )
        self.space_size = len(model.catalogue)

    def reset(self, seed: int) -> None:
        """Forget what the forecast has learned."""
        self.forecast.reset()

    def decide(self, state: ControlState) -> Decision:
        """The first step of the best plan."""
        rates = self.forecast.rates(state, self.horizon)
        hours = (np.arange(self.horizon) + 0.5) * self.step_h
        carbon = np.interp(
            hours, (0.0, *FORECAST_HOURS), (state.intensity, *state.intensity_forecast)
        ).tolist()
        to_go = np.zeros(len(self.model.catalogue))
        for step in range(self.horizon - 1, 0, -1):
            rewards = transition_rewards(
                self.model,
                state.objective,
                rate=rates[step],
                careful=rates[step] * (1.0 + self.margin),
                intensity=carbon[step],
                interval_s=state.interval_s,
                timeout_s=self.timeout_s,
            )
            to_go = (rewards + to_go[None, :]).max(axis=1)
        first = self.scorer.scores(state, rates[0], carbon[0])
        chosen = int(np.argmax(first + to_go))
        return Decision(
            self.model.catalogue[chosen], f"first of {self.horizon} intervals from {rates[0]:.1f}/s on"
        )
