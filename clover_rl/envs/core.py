"""EnvironmentCore: n episodes side by side, which the scalar and the vector environment both are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.planner import plan_transition
from clover_rl.control.codecs import Features, clock_features
from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS, RATE_LAGS
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import Split, draw_signals, sample_signals
from clover_rl.errors import InputError
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.fluid import FluidStep, fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["EnvironmentCore", "Fidelity", "StepFacts"]

Fidelity = Literal["table", "event"]

Floats = NDArray[np.float64]

StepFacts = dict[str, NDArray[Any]]


class EnvironmentCore:
    """n episodes of a scenario, each with its own signals, weight and randomness.

    Everything random about an episode is drawn when it is reset, from its own generator, so that the same
    seed gives the same episode whatever stands beside it.

    Args:
        scenario: what is simulated.
        model: the scenario's model.
        n: episodes side by side.
        split: where signals are drawn from.
        fidelity: "table" or "event".
        w: fixed weight of carbon; None draws one per episode.
        days: length of an episode in days of the signals; None takes the scenario's.

    Raises:
        InputError: an argument is outside its values.
    """

    def __init__(
        self,
        scenario: Scenario,
        model: ClusterModel,
        n: int,
        *,
        split: Split,
        fidelity: Fidelity,
        w: float | None,
        days: float | None,
    ) -> None:
        if fidelity not in ("table", "event"):
            raise InputError(f"unknown fidelity `{fidelity}`", fix="use table or event")
        if split not in ("train", "test"):
            raise InputError(f"unknown split `{split}`", fix="use train or test")
        if w is not None and not 0.0 < w < 1.0:
            raise InputError(f"w is {w:g}", fix="use a weight above 0 and below 1, or None to draw it")
        self.scenario, self.model, self.n = scenario, model, n
        self.split, self.fidelity, self.fixed_w = split, fidelity, w
        self.days = scenario.episode.days if days is None else days
        if not 0.0 < self.days < math.inf:
            raise InputError(f"an episode of {self.days:g} days", fix="use a number of days above 0")
        self.steps = round(self.days * 86_400.0 / (scenario.interval_s * scenario.time_scale))
        if self.steps < 1:
            raise InputError(f"an episode of {self.days:g} days has no step", fix="make it longer")
        self.codec = scenario.observation_codec(model)
        self.actions = scenario.action_codec(model)
        self.objective = scenario.objective(model, w if w is not None else scenario.weights.low)
        self._features = np.stack(
            [self.codec.configuration_features(item) for item in model.catalogue.configurations]
        )
        t = self.steps
        self.t = np.zeros(n, np.int64)
        self.w = np.full(n, self.objective.w)
        self.intensity = np.empty((n, t + 1))
        self.past = np.empty((n, t + 1, len(PAST_HOURS)))
        self.forecast = np.empty((n, t + 1, len(FORECAST_HOURS)))
        self.mean_intensity = np.empty((n, t))
        self.clock = np.empty((n, t + 1, 4))
        self.rate = np.empty((n, RATE_LAGS + t))
        self.action = np.full(n, model.base, np.intp)
        self.queued = np.zeros(n)
        self.p95 = np.zeros(n)
        self.clusters: list[SimulatedCluster | None] = [None] * n
        self.available = np.full(n, model.gpus, np.int64)

    def reset_row(self, row: int, rng: np.random.Generator) -> None:
        """A new episode in one row, drawn from its own generator.

        The episode starts with BASE serving a load in its steady state.
        """
        model, scenario = self.model, self.scenario
        signals = draw_signals(scenario, model.baseline.capacity, self.split, self.days, rng)
        arrays = sample_signals(signals, scenario, self.steps)
        low, high = scenario.weights.low, scenario.weights.high
        drawn = float(np.exp(rng.uniform(math.log(low), math.log(high))))
        self.w[row] = drawn if self.fixed_w is None else self.fixed_w
        event_seed = int(rng.integers(2**31))
        counts = rng.poisson(arrays.rate * scenario.interval_s)
        self.intensity[row], self.past[row] = arrays.intensity, arrays.past
        self.forecast[row], self.mean_intensity[row] = arrays.forecast, arrays.mean_intensity
        self.clock[row] = clock_features(arrays.hour_of_week)
        self.rate[row] = counts / scenario.interval_s
        self.t[row] = 0
        self.action[row] = model.base
        self.queued[row] = 0.0  # what the episode before left over is none of this one's
        steady = self._fluid(np.array([model.base]), np.array([row]), lag=1)
        self.p95[row], self.queued[row] = steady.p95_ms[0], steady.queued[0]
        if self.fidelity == "event":
            _, feed = signals.feeds(scenario)
            self.clusters[row] = SimulatedCluster(
                model.profile,
                model.catalogue[model.base],
                feed,
                seed=event_seed,
                timeout_s=scenario.timeout_s,
                physics=model.physics,
            )

    def observe(self, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.float32]:
        """Observations of some rows, shape (rows, codec.size)."""
        index = np.arange(self.n)[rows]
        t = self.t[index]
        lags = t[:, None] + np.arange(RATE_LAGS - 1, -1, -1)[None, :]
        features = Features(
            intensity=self.intensity[index, t][:, None],
            intensity_past=self.past[index, t],
            intensity_forecast=self.forecast[index, t],
            rate=self.rate[index[:, None], lags],
            clock=self.clock[index, t],
            configuration=self._features[self.action[index]],
            p95_over_sla=(self.p95[index] / self.objective.sla_ms)[:, None],
            queued=self.queued[index][:, None],
            log_w=np.log10(self.w[index])[:, None],
            log_sla=np.zeros((len(index), 1)),
        )
        out = np.empty((len(index), self.codec.size), np.float32)
        self.codec.encode_features(features, out)
        return out

    def masks(self) -> NDArray[np.bool_]:
        """Allowed actions, shape (n, actions)."""
        return self.actions.masks_for(self.available)

    def _fluid(self, action: NDArray[np.intp], rows: NDArray[np.intp], lag: int = 0) -> FluidStep:
        """One table step of some rows; `action` has shape (rows,) or (rows, choices)."""
        extra = (slice(None),) + (None,) * (action.ndim - 1)
        rate = self.rate[rows, self.t[rows] + RATE_LAGS - lag][extra]
        return fluid_step(
            self.model.table,
            self.model.costs,
            self.action[rows][extra],
            action,
            rate,
            self.queued[rows][extra],
            self.scenario.interval_s,
            self.scenario.timeout_s,
        )

    def step(self, actions: Sequence[int] | NDArray[np.integer[Any]], rows: NDArray[np.intp]) -> StepFacts:
        """One interval of some rows.

        Args:
            actions: indices into the catalogue, shape (rows,).
            rows: which episodes.

        Returns:
            Facts, each of shape (rows,): reward, its terms, p95_ms, accuracy, energy_j, intensity, arrived,
            answered, timed_out, queued, carbon_g, base_carbon_g, sla_held, action, truncated.

        Raises:
            InputError: an episode has ended.
        """
        if (self.t[rows] >= self.steps).any():
            raise InputError("an ended episode was stepped", fix="reset it first")
        chosen = np.asarray(actions, np.intp)
        if self.fidelity == "table":
            fluid = self._fluid(chosen, rows)
            arrived = self.rate[rows, self.t[rows] + RATE_LAGS] * self.scenario.interval_s
        else:
            fluid, arrived = self._event(chosen, rows)
        facts = self._score(fluid, rows, arrived)
        self.p95[rows] = np.minimum(fluid.p95_ms, 1e9)
        self.queued[rows] = fluid.queued
        self.action[rows] = chosen
        self.t[rows] += 1
        return facts | {"action": chosen, "truncated": self.t[rows] >= self.steps}

    def _event(self, chosen: NDArray[np.intp], rows: NDArray[np.intp]) -> tuple[FluidStep, Floats]:
        model, scenario = self.model, self.scenario
        facts = np.empty((7, len(rows)))
        for k, (row, action) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
            cluster = self.clusters[row]
            assert cluster is not None, "reset_row comes first"
            target = model.catalogue[action]
            if target.canonical != cluster.target.canonical:
                rate = float(self.rate[row, self.t[row] + RATE_LAGS - 1])
                cluster.apply(plan_transition(cluster.configuration, target, model.profile, load_rps=rate))
            interval = cluster.observe((int(self.t[row]) + 1) * scenario.interval_s)
            self.rate[row, self.t[row] + RATE_LAGS] = interval.rate
            facts[:, k] = (
                interval.p95_ms,
                interval.accuracy(model.profile.application),
                interval.energy.joules,
                interval.answers,
                interval.timed_out,
                interval.queued,
                interval.arrived,
            )
        return FluidStep(*facts[:6]), facts[6]

    def _score(self, fluid: FluidStep, rows: NDArray[np.intp], arrived: Floats) -> StepFacts:
        scenario = self.scenario
        intensity = self.mean_intensity[rows, self.t[rows]]
        accuracy = self._accuracy(fluid)
        terms = self.objective.terms(
            energy_j=fluid.energy_j,
            intensity=intensity,
            arrived=arrived,
            duration_s=scenario.interval_s,
            accuracy=accuracy,
            p95_ms=fluid.p95_ms,
            w=self.w[rows],
        )
        to_g = scenario.pue / 3.6e6 * intensity
        return {
            "reward": terms.total,
            "carbon": terms.carbon,
            "accuracy_term": terms.accuracy,
            "penalty": terms.penalty,
            "p95_ms": fluid.p95_ms,
            "accuracy": accuracy,
            "energy_j": fluid.energy_j,
            "intensity": intensity,
            "arrived": arrived,
            "answered": fluid.answered,
            "timed_out": fluid.timed_out,
            "queued": fluid.queued,
            "carbon_g": fluid.energy_j * to_g,
            "base_carbon_g": self.objective.base.energy_for(arrived, scenario.interval_s) * to_g,
            "sla_held": fluid.p95_ms <= self.objective.sla_ms,
        }

    def _accuracy(self, fluid: FluidStep) -> Floats:
        """Of the answers; BASE's own where there were none."""
        return np.where(fluid.answered > 0.0, fluid.accuracy, self.objective.base.accuracy)

    def all_rewards(self, margin: Floats | None = None) -> Floats:
        """Reward of every action in the present interval of every row, from the table, shape (n, actions).

        Hindsight: it uses the interval's own load and intensity. For training targets and references, never
        for an observation.

        Args:
            margin: read the p95 at loads higher by this share; several margins, shape (k,) or (n, k), are
                averaged.
        """
        rows = np.arange(self.n)
        load = self.rate[rows, self.t + RATE_LAGS][:, None]
        choices = np.arange(len(self.model.catalogue))[None, :]
        facts = self._fluid_at(choices, load)
        margins = np.atleast_2d(np.zeros(1) if margin is None else margin)
        total = np.zeros(1)
        for column in range(margins.shape[1]):
            careful = margins[:, column][:, None]
            p95 = self._fluid_at(choices, load * (1.0 + careful)).p95_ms if careful.any() else facts.p95_ms
            terms = self.objective.terms(
                energy_j=facts.energy_j,
                intensity=self.mean_intensity[rows, self.t][:, None],
                arrived=load * self.scenario.interval_s,
                duration_s=self.scenario.interval_s,
                accuracy=self._accuracy(facts),
                p95_ms=p95,
                w=self.w[:, None],
            )
            total = total + terms.total / margins.shape[1]
        return total

    def _fluid_at(self, choices: NDArray[np.intp], load: Floats) -> FluidStep:
        return fluid_step(
            self.model.table,
            self.model.costs,
            self.action[:, None],
            choices,
            load,
            self.queued[:, None],
            self.scenario.interval_s,
            self.scenario.timeout_s,
        )
