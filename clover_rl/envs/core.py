"""EnvironmentCore: n episodes side by side, which the scalar and the vector environment both are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.control.budget import BudgetKeeper
from clover_rl.control.codecs import clock_features
from clover_rl.control.factored import FactoredCodec
from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS, RATE_LAGS
from clover_rl.envs.kernel import Columns, encode_known, observe_rows
from clover_rl.envs.outages import draw_outages
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.signals import draw_signals, sample_signals
from clover_rl.errors import InputError
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.fluid import FluidStep, fluid_step, play_rows
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics

__all__ = ["INVALID_PENALTY", "EnvironmentCore", "StepFacts"]

Floats = NDArray[np.float64]

StepFacts = dict[str, NDArray[Any]]

INVALID_PENALTY = 1.0
"""Taken from the reward where a masked action was chosen; the cluster then stays as near as it can to what it
is. Larger than what an allowed action can gain over another, so that a policy without masks learns them."""

_MOVING = ("available", "p95_over_sla", "queued", "log_w", "log_sla")
"""Fields that depend on what was done; the others are known when the episode is drawn."""
_CARBON = 1 + len(PAST_HOURS) + len(FORECAST_HOURS)


class EnvironmentCore:
    """n episodes of a scenario, each with its own signals, weight and randomness.

    Everything random about an episode is drawn when it is reset, from its own generator, so that the same
    seed gives the same episode whatever stands beside it.

    Args:
        scenario: what is simulated.
        model: the scenario's model, of its whole catalogue where actions are factored.
        n: episodes side by side.
        settings: how episodes are drawn and played; the defaults when left out.

    Raises:
        InputError: an episode would have no step.
    """

    def __init__(
        self, scenario: Scenario, model: ClusterModel, n: int, settings: EpisodeSettings | None = None
    ) -> None:
        settings = settings or EpisodeSettings()
        if settings.forecast is not None:
            forecast = scenario.carbon.model_copy(update={"forecast": settings.forecast})
            scenario = scenario.model_copy(update={"carbon": forecast})
        self.scenario, self.model, self.n, self.settings = scenario, model, n, settings
        self.days, self.steps = settings.length(scenario)
        self.codec = scenario.observation_codec(model)
        self.actions = scenario.action_codec(model)
        self.factored = (
            FactoredCodec.of(model.profile, model.catalogue) if settings.actions == "factored" else None
        )
        w = settings.w if settings.w is not None else scenario.weights.low
        self.objective = scenario.objective(model, w)
        self.keeper: BudgetKeeper | None = None
        if settings.accuracy_budget is not None:
            low, high = scenario.weights.low, scenario.weights.high
            self.keeper = BudgetKeeper(n, settings.accuracy_budget, low, high)
        raw = np.stack([self.codec.configuration_features(item) for item in model.catalogue.configurations])
        self._configurations = self.codec.encode_field("configuration", raw)
        starts = self.codec.starts
        self._columns = Columns(**{name: starts[name] for name in Columns._fields})
        self._moving_scales = self.codec.scales[:, [starts[name] for name in _MOVING]]
        known = [*range(_CARBON), *range(starts["clock"], starts["clock"] + 4)]
        self._outside_scales = np.ascontiguousarray(self.codec.scales[:, known])
        self._fallback: dict[tuple[int, int], int] = {}
        t = self.steps
        self.t = np.zeros(n, np.int64)
        self.w = np.full(n, self.objective.w)
        self.sla_ms = np.full(n, self.objective.sla_ms)
        self.factors = np.ones((n, 3))
        self.mean_intensity = np.empty((n, t))
        self.hour_of_week = np.empty((n, t + 1))
        self.rate = np.empty((n, RATE_LAGS + t))
        self.action = np.full(n, model.base, np.intp)
        self.queued = np.zeros(n)
        self.p95 = np.zeros(n)
        self.clusters: list[SimulatedCluster | None] = [None] * n
        self.available = np.full(n, model.gpus, np.int64)
        self._usable = np.full((n, t + 1 if settings.outages else 1), model.gpus, np.int64)
        self._lost = np.zeros((n, t + 1 if settings.outages else 1), bool)
        self._outside = np.empty((n, t + 1, _CARBON + 4), np.float32)
        self.drawn_from: list[dict[str, Any]] = [{} for _ in range(n)]
        self._rate_encoded = np.empty((n, RATE_LAGS + t), np.float32)

    def reset_row(self, row: int, rng: np.random.Generator) -> None:
        """A new episode in one row, drawn from its own generator.

        The episode starts with BASE serving a load in its steady state.
        """
        model, scenario, settings = self.model, self.scenario, self.settings
        self.drawn_from[row] = dict(rng.bit_generator.state)
        bins = settings.bins
        bin_s = scenario.load.bin_s * (bins[0] if len(bins) == 1 else int(rng.choice(bins)))
        signals = draw_signals(scenario, model.baseline.capacity, settings.split, self.days, rng, bin_s=bin_s)
        arrays = sample_signals(signals, scenario, self.steps)
        low, high = scenario.weights.low, scenario.weights.high
        drawn = float(np.exp(rng.uniform(math.log(low), math.log(high))))
        self.w[row] = drawn if settings.w is None else settings.w
        event_seed = int(rng.integers(2**31))
        counts = rng.poisson(arrays.rate * scenario.interval_s)
        self._draw_differences(row, rng)
        encode_known(
            arrays.intensity,
            arrays.past,
            arrays.forecast,
            clock_features(arrays.hour_of_week),
            self._outside_scales,
            self._outside[row],
        )
        self.mean_intensity[row], self.hour_of_week[row] = arrays.mean_intensity, arrays.hour_of_week
        self.rate[row] = counts / scenario.interval_s
        self._rate_encoded[row] = self.codec.encode_field("rate", self.rate[row])
        self.t[row] = 0
        self.action[row] = model.base
        self.available[row] = model.gpus
        self.queued[row] = 0.0  # what the episode before left over is none of this one's
        if self.keeper is not None:
            self.keeper.reset(np.array([row]), arrays.hour_of_week[:1])
            self.w[row] = self.keeper.w[row]
        one, steady = np.array([row]), np.empty((7, 1))
        self._play(one, np.array([model.base]), np.ones(1), steady, first=RATE_LAGS - 1)
        self.p95[row], self.queued[row] = steady[0, 0], steady[5, 0]
        if settings.fidelity == "event":
            _, feed = signals.feeds(scenario)
            physics = self._world(row)
            self.clusters[row] = SimulatedCluster(
                physics.profile,
                model.catalogue[model.base],
                feed,
                seed=event_seed,
                timeout_s=scenario.timeout_s,
                physics=physics,
            )

    def _draw_differences(self, row: int, rng: np.random.Generator) -> None:
        """What makes this episode unlike others: SLA, outages, a world that is not as the model says."""
        settings = self.settings
        low, high = settings.sla_range
        scale = low if low == high else float(np.exp(rng.uniform(math.log(low), math.log(high))))
        self.sla_ms[row] = self.objective.sla_ms * scale
        if settings.outages:
            self._usable[row], self._lost[row] = draw_outages(
                rng,
                gpus=self.model.gpus,
                steps=self.steps,
                step_s=self.scenario.interval_s,
                maintenance_per_week=settings.maintenance_per_week,
                losses_per_week=settings.losses_per_week,
                outage_hours=settings.outage_hours,
            )
        if settings.perturbation:
            most = math.log1p(settings.perturbation)
            self.factors[row] = np.exp(rng.uniform(-most, most, 3))

    def _world(self, row: int) -> Physics:
        """The physics that really hold in a row."""
        if not self.settings.perturbation:
            return self.model.physics
        return Physics(perturbed(self.model.profile, *self.factors[row].tolist()))

    def observe(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Observations of some rows, or of all, shape (rows, codec.size)."""
        index = np.arange(self.n) if rows is None else rows
        moving = np.empty((len(index), len(_MOVING)))
        seen = slice(None) if rows is None else rows  # no copies where all are seen
        sla_ms = self.sla_ms[seen]
        moving[:, 0] = self.available[seen] / self.model.gpus
        moving[:, 1] = self.p95[seen] / sla_ms
        moving[:, 2] = self.queued[seen]
        moving[:, 3] = np.log10(self.w[seen])
        moving[:, 4] = np.log2(sla_ms / self.codec.base_sla_ms)
        offset, scale, low, high = self._moving_scales
        moving = np.minimum(np.maximum((moving - offset) / scale, low), high)
        out = np.empty((len(index), self.codec.size), np.float32)
        observe_rows(
            index,
            self._columns,
            self._outside,
            self._rate_encoded,
            RATE_LAGS,
            self._configurations,
            self.action,
            self.t,
            moving,
            out,
        )
        return out

    def usable_gpus(self) -> NDArray[np.int64]:
        """GPUs that are there in the present interval of every row, shape (n,)."""
        if not self.settings.outages:
            return np.full(self.n, self.model.gpus, np.int64)
        return self._usable[np.arange(self.n), self.t]

    def masks(self) -> NDArray[np.bool_]:
        """Allowed actions, one flat row per episode: (n, actions), or (n, sum of nvec) when factored."""
        codec = self.actions if self.factored is None else self.factored
        return codec.masks_for(self.available)

    def allowed(self, chosen: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether indices of the catalogue may be chosen in some rows; -1 never."""
        active = self.actions.active
        most = np.maximum(self.available[rows], active.min())
        return np.asarray((chosen >= 0) & (active[chosen] <= most))

    def decode(self, actions: ArrayLike) -> NDArray[np.intp]:
        """Actions as indices of the catalogue, -1 where factored choices are no configuration.

        Raises:
            InputError: an action outside its space.
        """
        if self.factored is not None:
            return self.factored.decode(actions)
        size = len(self.model.catalogue)
        if isinstance(actions, int | np.integer) and 0 <= actions < size:
            return np.array([actions], np.intp)
        chosen = np.asarray(actions)
        if not np.issubdtype(chosen.dtype, np.integer) or ((chosen < 0) | (chosen >= size)).any():
            named = f"action {chosen.reshape(-1)[0]}" if chosen.size == 1 else "an action"
            raise InputError(f"{named} is outside the catalogue", fix=f"use 0 to {size - 1}")
        return chosen.astype(np.intp)

    def _play(
        self,
        rows: NDArray[np.intp],
        chosen: NDArray[np.intp],
        kept: Floats,
        out: Floats,
        *,
        first: int = RATE_LAGS,
    ) -> None:
        """One interval of some rows at table fidelity, in the world as it really is."""
        play_rows(
            self.model.rows,
            rows,
            chosen,
            self.action,
            self.t,
            self.rate,
            first,
            self.queued,
            self.factors,
            kept,
            self.scenario.interval_s,
            self.scenario.timeout_s,
            out,
        )

    def step(self, choices: ArrayLike, rows: NDArray[np.intp]) -> StepFacts:
        """One interval of some rows.

        A choice that is not allowed changes nothing (or as little as it can where what serves is not allowed
        either) and costs INVALID_PENALTY.

        Args:
            choices: indices into the catalogue, shape (rows,); -1 for none.
            rows: which episodes.

        Returns:
            Facts, each of shape (rows,): reward, its terms, p95_ms, accuracy, energy_j, intensity, arrived,
            answered, timed_out, queued, carbon_g, base_carbon_g, sla_held, action (what was applied),
            action_valid, truncated.

        Raises:
            InputError: an episode has ended.
        """
        chosen, t = np.asarray(choices, np.intp), self.t[rows]
        if t.max(initial=0) >= self.steps:
            raise InputError("an ended episode was stepped", fix="reset it first")
        valid = self.allowed(chosen, rows)
        if not valid.all():
            chosen = chosen.copy()
            for k in np.flatnonzero(~valid).tolist():
                chosen[k] = self._nearest(int(self.action[rows[k]]), int(self.available[rows[k]]))
        facts = np.empty((7, len(rows)))
        if self.settings.fidelity == "table":
            self._play(rows, chosen, self._kept(rows), facts)
        else:
            self._event(chosen, rows, facts)
        scored = self._score(FluidStep(*facts[:6]), rows, t, facts[6], valid)
        self.p95[rows] = np.minimum(facts[0], 1e9)
        self.queued[rows] = facts[5]
        self.action[rows] = chosen
        t = t + 1
        self.t[rows] = t
        if self.settings.outages:
            self.available[rows] = self._usable[rows, t]
        if self.keeper is not None:
            loss = 1.0 - scored["accuracy"] / self.objective.base.accuracy
            self.keeper.update(rows, loss, facts[3], self.hour_of_week[rows, t])
            self.w[rows] = self.keeper.w[rows]
        return scored | {"action": chosen, "action_valid": valid, "truncated": t >= self.steps}

    def _kept(self, rows: NDArray[np.intp]) -> Floats:
        """Share of what serves that still stands at the start of the interval: less where a GPU was lost."""
        if not self.settings.outages:
            return np.ones(len(rows))
        active = self.actions.active[self.action[rows]]
        gone = self._lost[rows, self.t[rows]] & (active > self.available[rows])
        return np.where(gone, self.available[rows] / active, 1.0)

    def _nearest(self, action: int, available: int) -> int:
        """The allowed configuration that is nearest to another: itself, or on fewer GPUs, or by graph."""
        found = self._fallback.get((action, available))
        if found is None:
            configurations = self.model.catalogue.configurations
            own = configurations[action]
            fits = self.actions.masks_for(np.array([available]))[0]
            if fits[action]:
                found = action
            else:
                index = self.model.catalogue.index(own.on_at_most(available))
                if index is None:
                    distances = [own.distance(item) for item in configurations]
                    index = int(np.argmin(np.where(fits, distances, np.inf)))
                found = index
            self._fallback[action, available] = found
        return found

    def _event(self, chosen: NDArray[np.intp], rows: NDArray[np.intp], out: Floats) -> None:
        """One interval of some rows, every request simulated."""
        model, scenario = self.model, self.scenario
        for k, (row, action) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
            cluster = self.clusters[row]
            assert cluster is not None, "reset_row comes first"
            usable = max(int(self.available[row]), int(self.actions.active.min()))
            if self.settings.outages and self._lost[row, self.t[row]]:
                cluster.lose(range(usable, model.gpus))
            target = model.catalogue[action]
            misplaced = any(not gpu.parked for gpu in cluster.target.gpus[usable:])
            if misplaced or target.canonical != cluster.target.canonical:
                plan = plan_transition(
                    cluster.configuration,
                    target,
                    model.profile,
                    load_rps=float(self.rate[row, self.t[row] + RATE_LAGS - 1]),
                    available=[index < usable for index in range(model.gpus)],
                )
                cluster.apply(plan)
            interval = cluster.observe((int(self.t[row]) + 1) * scenario.interval_s)
            column = self.t[row] + RATE_LAGS
            self.rate[row, column] = interval.rate
            self._rate_encoded[row, column] = self.codec.encode_field("rate", self.rate[row, column])
            out[:, k] = (
                interval.p95_ms,
                interval.accuracy(model.profile.application),
                interval.energy.joules,
                interval.answers,
                interval.timed_out,
                interval.queued,
                interval.arrived,
            )

    def _score(
        self,
        fluid: FluidStep,
        rows: NDArray[np.intp],
        t: NDArray[np.int64],
        arrived: Floats,
        valid: NDArray[np.bool_],
    ) -> StepFacts:
        scenario = self.scenario
        intensity = self.mean_intensity[rows, t]
        accuracy = self._accuracy(fluid)
        sla_ms = self.sla_ms[rows]
        base_j = self.objective.base.energy_for(arrived, scenario.interval_s)
        to_g = scenario.pue / 3.6e6 * intensity
        terms = self.objective.terms(
            energy_j=fluid.energy_j,
            intensity=intensity,
            arrived=arrived,
            duration_s=scenario.interval_s,
            accuracy=accuracy,
            p95_ms=fluid.p95_ms,
            w=self.w[rows],
            sla_ms=sla_ms,
            base_j=base_j,
        )
        invalid = np.where(valid, 0.0, -INVALID_PENALTY)
        return {
            "reward": terms.total + invalid,
            "carbon": terms.carbon,
            "accuracy_term": terms.accuracy,
            "penalty": terms.penalty,
            "invalid": invalid,
            "p95_ms": fluid.p95_ms,
            "accuracy": accuracy,
            "energy_j": fluid.energy_j,
            "intensity": intensity,
            "arrived": arrived,
            "answered": fluid.answered,
            "timed_out": fluid.timed_out,
            "queued": fluid.queued,
            "carbon_g": fluid.energy_j * to_g,
            "base_carbon_g": base_j * to_g,
            "sla_held": fluid.p95_ms <= sla_ms,
        }

    def _accuracy(self, fluid: FluidStep) -> Floats:
        """Of the answers; BASE's own where there were none."""
        return np.where(fluid.answered > 0.0, fluid.accuracy, self.objective.base.accuracy)

    def all_rewards(
        self,
        margin: Floats | None = None,
        weights: Sequence[float] | None = None,
        *,
        true_world: bool = False,
        follow: bool = False,
    ) -> Floats:
        """Reward of every action in the present interval of every row, from the table, shape (n, actions).

        Hindsight: it uses the interval's own load and intensity. For training targets and references, never
        for an observation. Nothing is masked.

        Args:
            margin: read the p95 at loads higher by this share; several margins, shape (k,) or (n, k), are
                averaged.
            weights: of the margins in that average, shape (k,); equal ones when left out.
            true_world: with the episode's own perturbation, and without GPUs just lost, as `step` plays it;
                else the model's world, which is all that a reference can know.
            follow: where no allowed action holds the SLA, add a second interval that goes on alike, as
                ActionScorer does: alone, all would be equally late, and what repairs an overload must count.
        """
        rows = np.arange(self.n)
        load = self.rate[rows, self.t + RATE_LAGS][:, None]
        choices = np.arange(len(self.model.catalogue))[None, :]
        facts = self._fluid_at(choices, load, true_world)
        margins = np.atleast_2d(np.zeros(1) if margin is None else margin)
        shares = weights or [1.0 / margins.shape[1]] * margins.shape[1]
        total = np.zeros(1)
        for column, share in enumerate(shares):
            careful = margins[:, column][:, None]
            p95 = facts.p95_ms
            if careful.any():
                p95 = self._fluid_at(choices, load * (1.0 + careful), true_world).p95_ms
            total = total + share * self._total(rows, facts, load, p95)
        if not follow:
            return total
        allowed = self.actions.masks_for(self.available)
        held = (facts.p95_ms <= self.sla_ms[:, None]) & allowed
        lost = np.flatnonzero(~held.any(axis=-1))
        if len(lost):
            after = fluid_step(
                self.model.rows,
                choices,
                choices,
                load[lost],
                facts.queued[lost],
                self.scenario.interval_s,
                self.scenario.timeout_s,
                factors=self.factors[lost, None, :] if true_world and self.settings.perturbation else None,
            )
            total[lost] += self._total(lost, after, load[lost], after.p95_ms)
        return total

    def _total(self, rows: NDArray[np.intp], facts: FluidStep, load: Floats, p95_ms: Floats) -> Floats:
        """Objective of facts of shape (rows, actions) in the present interval of some rows."""
        return self.objective.terms(
            energy_j=facts.energy_j,
            intensity=self.mean_intensity[rows, self.t[rows]][:, None],
            arrived=load * self.scenario.interval_s,
            duration_s=self.scenario.interval_s,
            accuracy=self._accuracy(facts),
            p95_ms=p95_ms,
            w=self.w[rows, None],
            sla_ms=self.sla_ms[rows, None],
        ).total

    def _fluid_at(self, choices: NDArray[np.intp], load: Floats, true_world: bool) -> FluidStep:
        differs = true_world and self.settings.perturbation > 0.0
        lost = true_world and self.settings.outages
        return fluid_step(
            self.model.rows,
            self.action[:, None],
            choices,
            load,
            self.queued[:, None],
            self.scenario.interval_s,
            self.scenario.timeout_s,
            factors=self.factors[:, None, :] if differs else None,
            kept=self._kept(np.arange(self.n))[:, None] if lost else None,
        )


def perturbed(profile: Profile, service: float, energy: float, interference: float) -> Profile:
    """A profile with its service times, energies above idle and sensitivities multiplied."""

    def times(table: Any, factor: float) -> Any:
        return {v: {s: value * factor for s, value in row.items()} for v, row in table.items()}

    law = profile.interference
    return replace(
        profile,
        service_s=times(profile.service_s, service),
        energy_j=times(profile.energy_j, energy),
        interference=law
        and replace(law, sensitivity={v: value * interference for v, value in law.sensitivity.items()}),
    )
