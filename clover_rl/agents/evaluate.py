"""evaluate: controllers on the same windows, hardware, load and arrivals, transitions charged to all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from clover_rl.agents.bundle import Bundle
from clover_rl.agents.causes import Causes, Saving
from clover_rl.agents.conditions import PLAIN, Conditions
from clover_rl.agents.margins import MAKERS, tuned_margin
from clover_rl.agents.plan import RowPlan, merged, plan_rows
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import LIVE_CONTROLLERS
from clover_rl.agents.run_store import RunStore
from clover_rl.agents.runs import RunResult
from clover_rl.agents.tasks import Bench, run_tasks
from clover_rl.agents.windows import Window
from clover_rl.control.budget import check_budget
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["CONTROLLERS", "DEFAULT", "LEAST_GAP", "Evaluation", "WindowResult", "evaluate"]

CONTROLLERS = (*LIVE_CONTROLLERS, "static", "oracle", "clairvoyant")
"""Names that can be compared with; `static` is the best static configuration in hindsight."""

DEFAULT = ("base", "co2opt", "static", "search", "annealing", "oracle")
"""Those compared where none are named."""

LEAST_GAP = 0.002
"""Where the oracle is less than this above the best static configuration, shares of headroom say nothing."""


@dataclass(frozen=True, slots=True)
class WindowResult:
    """One window at one weight.

    Attributes:
        index, window: the window, and which one it is.
        w, sla_ms: weight of carbon, bound on the p95.
        gap: J_oracle - J_static, absolute.
        best_static: label of the best static configuration.
        results: controller -> what it achieved.
        runs: controller -> key of its run, the name of the run's file in a results folder.
        conditions: what was otherwise than the controllers were told.
        causes: what the savings are split against, where that was asked for.
        savings: controller -> its saving by cause.
        twins: controller -> key of its blind twin's run.
    """

    index: int
    window: Window
    w: float
    sla_ms: float
    gap: float
    best_static: str
    results: dict[str, RunResult]
    runs: dict[str, str] = field(default_factory=dict)
    conditions: Conditions = PLAIN
    causes: Causes | None = None
    savings: dict[str, Saving] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)

    def headroom_share(self, name: str) -> float | None:
        """(J - J_static) / (J_oracle - J_static).

        None where the gap is too small, or where the oracle's own model is wrong.
        """
        if self.gap < LEAST_GAP or self.conditions.service != 1.0 or self.conditions.energy != 1.0:
            return None
        static = self.results["static"].objective
        return (self.results[name].objective - static) / self.gap

    def to_dict(self) -> dict[str, Any]:
        """As the JSON document shows it."""
        return {
            "window": self.index,
            **self.window.to_dict(),
            "w": self.w,
            "sla_ms": self.sla_ms,
            "gap": self.gap,
            "best_static": self.best_static,
            "conditions": self.conditions.to_dict(),
            "causes": self.causes.to_dict() if self.causes else None,
            "controllers": {name: self._shown(name) for name in self.results},
        }

    def _shown(self, name: str) -> dict[str, Any]:
        saving = self.savings.get(name)
        return asdict(self.results[name]) | {
            "headroom_share": self.headroom_share(name),
            "saving": asdict(saving) if saving else None,
            "run": self.runs.get(name),
            "blind_run": self.twins.get(name),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All windows, and what they were run with; `facts` are of the model: hashes, versions, SLA."""

    scenario: Scenario
    rows: list[WindowResult]
    margins: dict[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    scenario: Scenario,
    model: ClusterModel,
    windows: Sequence[Window],
    *,
    weights: Sequence[float],
    against: Sequence[str] = DEFAULT,
    policies: Sequence[tuple[str, Bundle]] = (),
    causes: Sequence[str] = (),
    conditions: Sequence[Conditions] = (PLAIN,),
    budget: float | None = None,
    store: RunStore | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run every controller on every window and weight at event level.

    The best static configuration and the oracle always run: they bound the headroom.

    Args:
        scenario, model: the cluster.
        windows: what to run on.
        weights: weights of carbon.
        against: names of CONTROLLERS; DEFAULT when left out.
        policies: (name, bundle) pairs.
        causes: controllers whose savings are also split by cause (ALL for all), which takes a blind twin's
            run for each of their runs, and some more of configurations that never change.
        conditions: rows for each of these; those by cause only where nothing departs.
        budget: accuracy that may be lost a day: controllers that heed the weight run once more with the
            weight moved by the budget keeper, under names of their own.
        store: where finished runs are kept, and those that are there are not done again.
        jobs: processes to run in.
        progress: called with (runs done, runs in all).

    Raises:
        InputError: an unknown name, the same name twice, or a weight outside 0 to 1.
        BundleError: a bundle for something else.
    """
    for name in against:
        if name not in CONTROLLERS:
            raise InputError(f"unknown controller `{name}`", fix=f"use some of {', '.join(CONTROLLERS)}")
    if budget is not None:
        check_budget(budget)
    for w in weights:
        if not 0.0 < w < 1.0:
            raise InputError(f"w is {w:g}", fix="use weights of carbon above 0 and below 1")
    names = [name for name, _ in policies]
    for name in names:
        if name in CONTROLLERS or names.count(name) > 1:
            raise InputError(f"two controllers are called `{name}`", fix="rename one of the bundles")
    for _, bundle in policies:
        PolicyController(bundle, model)
    kinds = ["oracle", *(kind for kind in MAKERS if kind in against and kind != "oracle")]
    margins = {kind: tuned_margin(scenario, model, kind) for kind in kinds}
    bench = Bench(scenario, model, tuple(windows), dict(policies), margins)
    weights = tuple(dict.fromkeys(weights))
    plans = [
        plan
        for each in conditions
        for plan in plan_rows(
            bench, weights, against, causes=causes if each.plain else (), conditions=each, budget=budget
        )
    ]
    tasks = merged(bench, (task for plan in plans for task in plan.tasks))
    found = run_tasks(bench, tasks, store=store, jobs=jobs, progress=progress)
    return Evaluation(scenario, [_row(bench, plan, found) for plan in plans], margins, bench.facts)


def _row(bench: Bench, plan: RowPlan, found: Mapping[str, RunResult]) -> WindowResult:
    w, best = plan.w, plan.best_static(bench, found)
    assert best.static is not None, "candidates are static"
    runs = {name: plan.runs[name] for name in ("base", "co2opt") if name in plan.runs}
    runs["static"] = best
    keys = {name: bench.key(task, w) for name, task in (runs | dict(plan.runs)).items()}
    results = {name: found[key] for name, key in keys.items()}
    counterfactuals = plan.causes(bench, found)
    return WindowResult(
        index=plan.at,
        window=bench.windows[plan.at],
        w=w,
        sla_ms=bench.model.sla_ms,
        gap=results["oracle"].objective - results["static"].objective,
        best_static=best.static.label(),
        results=results,
        runs=keys,
        conditions=plan.conditions,
        causes=counterfactuals,
        savings=plan.savings(bench, found, counterfactuals, results["static"]) if counterfactuals else {},
        twins={name: bench.key(task, w) for name, task in plan.twins.items()},
    )
