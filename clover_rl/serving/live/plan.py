"""What is compared live, the signals of all days in a row, and what the simulator predicts for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clover_rl.agents.best_static import StaticRuns
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import make_controller
from clover_rl.agents.runs import run_controller
from clover_rl.agents.static import StaticController
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.geometry import multiset_layouts
from clover_rl.control.controller import Controller
from clover_rl.control.guard import Guarded
from clover_rl.control.loop import StepRecord
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals
from clover_rl.errors import InputError
from clover_rl.serving.clients.arrivals import poisson_arrivals
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics

__all__ = [
    "CONTROLLERS",
    "Contest",
    "Days",
    "Processes",
    "needed_processes",
    "predict",
    "predict_sent",
    "repeated",
    "spaced",
]

Floats = NDArray[np.float64]

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
        arrivals_s: the requests of every day, s from its beginning, shape (n,).
    """

    scenario: Scenario
    model: ClusterModel
    signals: EpisodeSignals
    steps: int
    w: float
    seed: int
    makers: dict[str, Callable[[], Controller]]
    arrivals_s: Floats

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
        _, feed = signals.feeds(scenario)
        day_s = steps * scenario.interval_s
        arrivals = poisson_arrivals(
            lambda t: feed.rate_over(t, t + 0.01), day_s, np.random.default_rng([seed, 5])
        )
        return cls(scenario, model, signals, steps, w, seed, makers, np.array(list(arrivals)))

    def with_warm_up(self) -> Floats:
        """The requests of a day behind those of its last step as warm-up, s from the warm-up's start."""
        step = self.scenario.interval_s
        last = self.arrivals_s - (self.steps - 1) * step
        return np.concatenate([last[last >= 0.0], self.arrivals_s + step])

    def guarded(self, name: str) -> Guarded:
        """A controller behind the guard, as the server puts it in charge."""
        return Guarded(self.makers[name](), self.model, timeout_s=self.scenario.timeout_s)


def predict(contest: Contest, runs: int = RUNS, physics: Physics | None = None) -> dict[str, Days]:
    """Each controller's day at event level, several times over with arrivals of their own.

    A day begins with what the day before left, in the same run.

    Args:
        contest: who, under which signals.
        runs: how often.
        physics: what really holds, where that is not what the controllers' model believes.
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
                physics=physics,
            )
            before = day[-1].interval.configuration
            found[name].append(day)
    return found


def predict_sent(
    contest: Contest, name: str, first: str, physics: Physics, front_s: float
) -> list[StepRecord]:
    """A controller's day with the very requests that every live day sends.

    Args:
        contest: whose requests.
        name: of the controller.
        first: configuration that the day begins with.
        physics: what is taken to hold.
        front_s: time that the way to the queue takes per request, one after the other, s.
    """
    return run_controller(
        contest.scenario,
        contest.model,
        contest.guarded(name),
        contest.signals,
        steps=contest.steps,
        w=contest.w,
        seed=contest.seed,
        start_at=ClusterConfiguration.parse(first, contest.model.profile),
        physics=physics,
        arrivals_s=spaced(contest.with_warm_up(), front_s),
    )


def spaced(arrivals_s: Floats, front_s: float) -> Floats:
    """When requests leave a stage that takes `front_s` for each, one after the other, less that time, s."""
    steps = front_s * np.arange(len(arrivals_s))
    return np.asarray(np.maximum.accumulate(arrivals_s - steps) + steps)


def needed_processes(
    model: ClusterModel, days: dict[str, Days], most: int, also: Sequence[ClusterConfiguration] = ()
) -> Processes:
    """Processes that the configurations of some days find waiting, at most so many.

    One of each pair comes first, BASE's and those of the configurations `also` before the others; then as
    many as those days need at once; then one more of what they often need all of.
    """
    configurations = [model.catalogue[model.base], *also]
    for each in days.values():
        for record in (record for records in each for record in records):
            configurations.append(record.interval.configuration)
            configurations += [decision.configuration for decision in record.decisions]
    needs = [Counter((item.placement.slice, item.variant) for item in c.instances) for c in configurations]
    wanted: Processes = Counter()
    for need in needs:
        wanted |= need
    first = {key for need in needs[: 1 + len(also)] for key in need}
    found: Processes = Counter()
    for key in sorted(wanted, key=lambda key: (key not in first, -int(key[0][0]), key))[:most]:
        found[key] = 1
    while sum(found.values()) < min(most, sum(wanted.values())):
        short = (key for key in wanted if 0 < found[key] < wanted[key])
        found[max(short, key=lambda key: (wanted[key] / found[key], int(key[0][0]), key))] += 1
    while days and sum(found.values()) < most:  # room for what no simulated day needed: where it was close
        close = Counter(
            key for need in needs for key in need if need[key] == found[key] < _fits(model, key[0])
        )
        if not close:
            break
        found[max(close, key=lambda key: (close[key], key))] += 1
    return found


def _fits(model: ClusterModel, piece: str) -> int:
    """Most slices of a type that all GPUs can have."""
    layouts = multiset_layouts(model.profile.gpu)
    return model.gpus * max(layout.multiset.count(piece) for layout in layouts)


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
