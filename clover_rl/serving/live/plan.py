"""What is compared live, the signals of all days in a row, and what the simulator predicts for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clover_rl.agents.best_static import StaticRuns
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import make_controller
from clover_rl.agents.runs import run_controller
from clover_rl.agents.static import StaticController
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.controller import Controller
from clover_rl.control.guard import Guarded
from clover_rl.control.loop import StepRecord
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["CONTROLLERS", "Contest", "Days", "Processes", "needed_processes", "predict", "repeated"]

CONTROLLERS = ("base", "static", "search", "annealing", "policy")
DAY_S = 86_400.0
RUNS = 12
"""Predictions of a day: one alone has as much chance in its arrivals as the day measured."""
Days = list[list[StepRecord]]
Processes = Counter[tuple[str, str]]
"""(slice type, variant) -> how many are needed at once."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Controllers, in the order of their days, and what all of them meet.

    Attributes:
        scenario, model: the cluster.
        signals: of one day.
        steps: of a day.
        w: weight of carbon.
        seed: of arrivals.
        makers: name -> makes the controller anew.
    """

    scenario: Scenario
    model: ClusterModel
    signals: EpisodeSignals
    steps: int
    w: float
    seed: int
    makers: dict[str, Callable[[], Controller]]

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        model: ClusterModel,
        signals: EpisodeSignals,
        *,
        names: Sequence[str],
        bundle: Bundle | None,
        w: float,
        seed: int,
    ) -> Contest:
        """A contest between controllers by name; `static` is the best static configuration in hindsight.

        Raises:
            InputError: an unknown name, or a policy without its bundle.
        """
        signals = repeated(signals, 2)  # what follows the day is the day again, here as on the server
        steps = round(DAY_S / (scenario.interval_s * scenario.time_scale))
        makers: dict[str, Callable[[], Controller]] = {}
        for name in names:
            if name not in CONTROLLERS:
                raise InputError(f"unknown controller `{name}`", fix=f"use some of {', '.join(CONTROLLERS)}")
            if name == "static":
                index, _ = StaticRuns(scenario, model, signals, steps=steps, seed=seed).best(w)
                best = model.catalogue[index]
                makers[name] = lambda best=best: StaticController(best)  # type: ignore[misc]
            elif name == "policy":
                if bundle is None:
                    raise InputError("a policy is to be compared and none is given", fix="give --policy FILE")
                makers[name] = lambda bundle=bundle: PolicyController(bundle, model)  # type: ignore[misc]
            else:
                makers[name] = lambda name=name: make_controller(name, scenario, model)  # type: ignore[misc]
        return cls(scenario, model, signals, steps, w, seed, makers)

    def guarded(self, name: str) -> Guarded:
        """A controller behind the guard, as the server puts it in charge."""
        return Guarded(self.makers[name](), self.model, timeout_s=self.scenario.timeout_s)


def predict(contest: Contest, runs: int = RUNS) -> dict[str, Days]:
    """Each controller's day at event level, several times over with arrivals of their own.

    A day begins with what the day before left, in the same run.
    """
    found: dict[str, Days] = {name: [] for name in contest.makers}
    for run in range(runs):
        before: ClusterConfiguration | None = None
        for name in contest.makers:
            day = run_controller(
                contest.scenario,
                contest.model,
                contest.guarded(name),
                contest.signals,
                steps=contest.steps,
                w=contest.w,
                seed=contest.seed + run,
                start_at=before,
            )
            before = day[-1].interval.configuration
            found[name].append(day)
    return found


def needed_processes(model: ClusterModel, days: dict[str, Days], most: int) -> Processes:
    """Processes that the configurations of some days find waiting, large slices first, at most so many."""
    configurations = [model.catalogue[model.base]]
    for each in days.values():
        for record in (record for records in each for record in records):
            configurations.append(record.interval.configuration)
            configurations += [decision.configuration for decision in record.decisions]
    wanted: Processes = Counter()
    for configuration in configurations:
        wanted |= Counter((item.placement.slice, item.variant) for item in configuration.instances)
    left, found = most, Counter[tuple[str, str]]()
    for key in sorted(wanted, key=lambda key: (-int(key[0][0]), key)):
        found[key] = min(wanted[key], left)
        left -= found[key]
    return +found


def repeated(signals: EpisodeSignals, days: int) -> EpisodeSignals:
    """The lead day, the day as often as asked, and once more for forecasts; load and carbon alike."""
    carbon, load, lead = signals.carbon, signals.load, signals.start
    shift = signals.load_start
    c_times = np.arange(carbon.start_s, lead + DAY_S * (days + 1) + 1.0, 3600.0)
    c_within = np.where(c_times < lead, c_times, lead + (c_times - lead) % DAY_S)
    width = float(load.times_s[1] - load.times_s[0])
    l_times = np.arange(load.start_s, shift + DAY_S * (days + 1), width)
    l_within = np.where(l_times < shift, l_times, shift + (l_times - shift) % DAY_S)
    return replace(
        signals,
        carbon=replace(carbon, times_s=c_times, values=carbon.values_at(c_within), end_s=float(c_times[-1])),
        load=replace(
            load, times_s=l_times, values=load.values_at(l_within), end_s=float(l_times[-1]) + width
        ),
    )
