"""RowPlan: the runs that one row of an evaluation needs; static ones are shared by a window's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clover_rl.agents.best_static import CANDIDATES, static_ranking
from clover_rl.agents.budgeted import within_name
from clover_rl.agents.causes import Causes, Saving
from clover_rl.agents.conditions import PLAIN, Conditions
from clover_rl.agents.frontier import FrontierPoint, proposals
from clover_rl.agents.margins import MAKERS
from clover_rl.agents.registry import LIVE_CONTROLLERS
from clover_rl.agents.runs import RunResult
from clover_rl.agents.tasks import Bench, RunTask
from clover_rl.cluster.configuration import ClusterConfiguration

__all__ = ["ALL", "RowPlan", "merged", "plan_rows"]

ALL = "all"
"""Stands for every controller where savings are split."""

_FIXED = ("base", "co2opt")


@dataclass(frozen=True)
class RowPlan:
    """Runs of one window at one weight under some conditions.

    Attributes:
        at: index of the window.
        w: weight of carbon.
        conditions: of all runs.
        runs: controller -> its run, but for the best static configuration's.
        candidates: runs among which the best static configuration is.
        pool: configurations that never change, for the split by cause; none where it was not asked for.
        pool_w: weight at which the pool's runs, and BASE's, are scored.
        twins: controller -> the run of its blind twin.
    """

    at: int
    w: float
    conditions: Conditions
    runs: Mapping[str, RunTask]
    candidates: Sequence[RunTask]
    pool: Sequence[ClusterConfiguration] = ()
    pool_w: float = 0.0
    twins: Mapping[str, RunTask] = field(default_factory=dict)

    @property
    def tasks(self) -> Iterable[RunTask]:
        """All runs."""
        yield from self.runs.values()
        yield from self.candidates
        yield from self.twins.values()
        for configuration in self.pool:
            yield self._pooled(configuration)

    def _pooled(self, configuration: ClusterConfiguration) -> RunTask:
        return RunTask(self.at, "static", (self.pool_w,), configuration, self.conditions)

    def best_static(self, bench: Bench, found: Mapping[str, RunResult]) -> RunTask:
        """The best of the candidates."""
        return max(self.candidates, key=lambda task: found[bench.key(task, self.w)].objective)

    def causes(self, bench: Bench, found: Mapping[str, RunResult]) -> Causes | None:
        """The counterfactuals that do not depend on the controller; None where they were not asked for."""
        if not self.pool:
            return None
        largest = bench.model.profile.application.largest.name
        runs = {item: (bench.key(self._pooled(item), self.pool_w), self.pool_w) for item in self.pool}
        for task in self.candidates:
            if task.static is not None:
                runs.setdefault(task.static, (bench.key(task, self.w), self.w))
        return Causes(
            [FrontierPoint.of(item, largest, found[key], at, self.w) for item, (key, at) in runs.items()]
        )

    def savings(
        self, bench: Bench, found: Mapping[str, RunResult], causes: Causes, static: RunResult
    ) -> dict[str, Saving]:
        """Savings by cause: of the best static configuration, and of every controller with a twin."""
        savings = {"static": causes.static(static.carbon_g_per_request, static.accuracy_loss)}
        for name, twin_task in self.twins.items():
            run, twin = (found[bench.key(task, self.w)] for task in (self.runs[name], twin_task))
            savings[name] = causes.following(
                run.carbon_g_per_request,
                run.accuracy_loss,
                twin.carbon_g_per_request,
                twin.accuracy_loss,
            )
        return savings


def plan_rows(
    bench: Bench,
    weights: Sequence[float],
    against: Sequence[str],
    *,
    causes: Sequence[str] = (),
    conditions: Conditions = PLAIN,
    budget: float | None = None,
) -> list[RowPlan]:
    """One for each window and weight.

    Args:
        bench: windows, policies and the cluster.
        weights: of carbon.
        against: controllers besides the policies, the best static configuration and the oracle.
        causes: controllers whose savings are split, ALL for all: with the runs that this needs.
        conditions: of all runs.
        budget: of accuracy; controllers that heed the weight run once more within it.
    """
    scenario, model = bench.scenario, bench.model
    fixed = {
        name: model.catalogue[index]
        for name, index in zip(_FIXED, (model.base, model.co2opt), strict=True)
        if name in against
    }
    running = [
        *(name for name in LIVE_CONTROLLERS if name in against and name not in _FIXED),
        *(["clairvoyant"] if "clairvoyant" in against else []),
        "oracle",
        *bench.policies,
    ]
    plans = []
    for at, own in enumerate(bench.windows):
        window = conditions.window(own, scenario)
        pool = proposals(scenario, model, window.signals, window.steps, weights) if causes else []
        for w in weights:
            ranking = static_ranking(scenario, model, window.signals, window.steps, w)[:CANDIDATES]
            plans.append(
                RowPlan(
                    at,
                    w,
                    conditions,
                    runs={
                        **{name: RunTask(at, name, (w,), item, conditions) for name, item in fixed.items()},
                        **{name: RunTask(at, name, (w,), None, conditions) for name in running},
                        **{
                            within_name(name, budget): RunTask(at, name, (w,), None, conditions, budget)
                            for name in running
                            if budget is not None and (name in MAKERS or name in bench.policies)
                        },
                    },
                    candidates=[
                        RunTask(at, "static", (w,), model.catalogue[index], conditions) for index in ranking
                    ],
                    pool=pool,
                    pool_w=weights[0],
                    twins={
                        name: RunTask(at, name, (w,), None, replace(conditions, blind=True))
                        for name in running
                        if ALL in causes or name in causes
                    },
                )
            )
    return plans


def merged(bench: Bench, tasks: Iterable[RunTask]) -> list[RunTask]:
    """The same runs, those that are the same at every weight once for all their weights."""
    model = bench.model
    names = {model.catalogue[index]: name for name, index in (("base", model.base), ("co2opt", model.co2opt))}
    found: dict[RunTask, dict[float, None]] = {}
    for task in tasks:
        if task.static is None and task.budget is None:
            found.setdefault(task, dict.fromkeys(task.weights))
            continue
        name = task.controller if task.static is None else names.get(task.static, "static")
        alike = replace(task, controller=name, weights=())
        found.setdefault(alike, {}).update(dict.fromkeys(task.weights))
    return [replace(task, weights=tuple(weights)) for task, weights in found.items()]
