"""evaluate: controllers on the same windows, hardware, load and arrivals, transitions charged to all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from clover_rl.agents.best_static import StaticRuns
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.clairvoyant import clairvoyant_for
from clover_rl.agents.margins import MAKERS, oracle_for, tuned_margin
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import LIVE_CONTROLLERS, make_controller
from clover_rl.agents.runs import RunResult, run_controller, summarise
from clover_rl.agents.windows import Window
from clover_rl.control.controller import Controller
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
    """

    window: Window
    w: float
    sla_ms: float
    gap: float
    best_static: str
    results: dict[str, RunResult]

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
                name: asdict(result) | {"headroom_share": self.headroom_share(name)}
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
    rows = []
    total, done = len(windows) * len(weights), 0
    for window in windows:
        statics = StaticRuns(scenario, model, window.signals, steps=window.steps, seed=window.seed)
        for w in weights:
            rows.append(_row(scenario, model, window, statics, w, against, policies, margins))
            done += 1
            progress(done, total)
    return Evaluation(scenario, rows, margins)


def _row(
    scenario: Scenario,
    model: ClusterModel,
    window: Window,
    statics: StaticRuns,
    w: float,
    against: Sequence[str],
    policies: Sequence[tuple[str, Bundle]],
    margins: dict[str, float],
) -> WindowResult:
    account = scenario.sci
    index, best = statics.best(w)
    results: dict[str, RunResult] = {}
    if "base" in against:
        results["base"] = summarise(statics.run(model.base, w), model, account=account)
    if "co2opt" in against:
        results["co2opt"] = summarise(statics.run(model.co2opt, w), model, account=account)
    results["static"] = best
    wanted: dict[str, Callable[[], Controller]] = {}
    for name in LIVE_CONTROLLERS:
        if name in margins:
            wanted[name] = partial(MAKERS[name], scenario, model, window.signals, margins[name])
        elif name in against and name not in results:
            wanted[name] = partial(make_controller, name, scenario, model)
    if "clairvoyant" in against:
        wanted["clairvoyant"] = partial(clairvoyant_for, scenario, model, window.signals, window.steps)
    wanted["oracle"] = partial(oracle_for, scenario, model, window.signals, margins["oracle"])
    for name, bundle in policies:
        wanted[name] = partial(PolicyController, bundle, model)
    for name, make in wanted.items():
        controller = make()
        records = run_controller(
            scenario, model, controller, window.signals, steps=window.steps, w=w, seed=window.seed
        )
        results[name] = summarise(records, model, controller.live_trials, account)
    gap = results["oracle"].objective - best.objective
    return WindowResult(window, w, model.sla_ms, gap, model.catalogue[index].label(), results)
