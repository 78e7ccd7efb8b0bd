"""evaluate: controllers on the same windows, hardware, load and arrivals, transitions charged to all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from clover_rl.agents.best_static import CANDIDATES, static_ranking
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.margins import MAKERS, tuned_margin
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import LIVE_CONTROLLERS
from clover_rl.agents.run_store import RunStore
from clover_rl.agents.runs import RunResult
from clover_rl.agents.tasks import Bench, RunTask, run_tasks
from clover_rl.agents.windows import Window
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
        window: the window.
        w, sla_ms: weight of carbon, bound on the p95.
        gap: J_oracle - J_static, absolute.
        best_static: label of the best static configuration.
        results: controller -> what it achieved.
        runs: controller -> key of its run, the name of the run's file in a results folder.
    """

    window: Window
    w: float
    sla_ms: float
    gap: float
    best_static: str
    results: dict[str, RunResult]
    runs: dict[str, str] = field(default_factory=dict)

    def headroom_share(self, name: str) -> float | None:
        """(J - J_static) / (J_oracle - J_static); None where the gap is too small."""
        if self.gap < LEAST_GAP:
            return None
        static = self.results["static"].objective
        return (self.results[name].objective - static) / self.gap

    def to_dict(self) -> dict[str, Any]:
        """As the JSON document shows it."""
        return {
            "carbon": self.window.carbon,
            "load": self.window.load,
            "load_factor": self.window.signals.load_factor,
            "steps": self.window.steps,
            "w": self.w,
            "sla_ms": self.sla_ms,
            "gap": self.gap,
            "best_static": self.best_static,
            "controllers": {
                name: asdict(result)
                | {"headroom_share": self.headroom_share(name), "run": self.runs.get(name)}
                for name, result in self.results.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All windows, and what they were run with."""

    scenario: Scenario
    rows: list[WindowResult]
    margins: dict[str, float]


def evaluate(
    scenario: Scenario,
    model: ClusterModel,
    windows: Sequence[Window],
    *,
    weights: Sequence[float],
    against: Sequence[str] = DEFAULT,
    policies: Sequence[tuple[str, Bundle]] = (),
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
    rankings = {
        (index, w): static_ranking(scenario, model, window.signals, window.steps, w)[:CANDIDATES]
        for index, window in enumerate(windows)
        for w in weights
    }
    fixed = {
        name: index for name, index in (("base", model.base), ("co2opt", model.co2opt)) if name in against
    }
    running = [
        *(name for name in LIVE_CONTROLLERS if name in against and name not in fixed),
        *(["clairvoyant"] if "clairvoyant" in against else []),
        "oracle",
        *names,
    ]
    tasks: list[RunTask] = []
    for at in range(len(windows)):
        statics: dict[int, list[float]] = {index: list(weights) for index in fixed.values()}
        for w in weights:
            for index in rankings[at, w]:
                wanted = statics.setdefault(index, [])
                if w not in wanted:
                    wanted.append(w)
        tasks += [
            RunTask(at, _static_name(model, index), tuple(wanted), index) for index, wanted in statics.items()
        ]
        tasks += [RunTask(at, name, (w,)) for w in weights for name in running]
    found = run_tasks(bench, tasks, store=store, jobs=jobs, progress=progress)
    rows = []
    for at, window in enumerate(windows):
        for w in weights:
            keys = {name: bench.key(RunTask(at, name, (w,), index), w) for name, index in fixed.items()}
            candidates = {
                index: bench.key(RunTask(at, "static", (w,), index), w) for index in rankings[at, w]
            }
            best = max(candidates, key=lambda index: found[candidates[index]].objective)
            keys["static"] = candidates[best]
            keys |= {name: bench.key(RunTask(at, name, (w,)), w) for name in running}
            results = {name: found[key] for name, key in keys.items()}
            gap = results["oracle"].objective - results["static"].objective
            label = model.catalogue[best].label()
            rows.append(WindowResult(window, w, model.sla_ms, gap, label, results, keys))
    return Evaluation(scenario, rows, margins)


def _static_name(model: ClusterModel, index: int) -> str:
    return {model.base: "base", model.co2opt: "co2opt"}.get(index, "static")
