"""Runs as tasks: what decides each, doing them in one process or several, and keeping what is finished."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from clover_rl import __version__
from clover_rl.agents.budgeted import within
from clover_rl.agents.bundle import Bundle
from clover_rl.agents.clairvoyant import clairvoyant_for
from clover_rl.agents.conditions import PLAIN, Conditions, constant_carbon
from clover_rl.agents.margins import CONTROLLER_VERSIONS, MAKERS
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import make_controller
from clover_rl.agents.run_store import RunStore, content_hash
from clover_rl.agents.runs import RunResult, rescored, run_controller, summarise
from clover_rl.agents.series import hourly
from clover_rl.agents.shown import BlindTwin, StaleFeeds
from clover_rl.agents.static import StaticController
from clover_rl.agents.windows import Window
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.budget import KEEPER_VERSION
from clover_rl.control.controller import Controller
from clover_rl.control.scorer import SCORER_VERSION
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.tables import TABLE_VERSION

__all__ = ["RUN_VERSION", "Bench", "RunTask", "perform", "run_tasks"]

RUN_VERSION = 1
"""Goes up when the same run gives other figures than before, so that kept ones are done anew."""

_KEY_LENGTH = 40


@dataclass(frozen=True)
class RunTask:
    """One run of a controller over a window.

    Attributes:
        window: index of the window.
        controller: its name; a policy's is that of its bundle among the bench's.
        weights: of carbon; several only where the run is the same at each: for a configuration that never
            changes, and within a budget.
        static: such a configuration.
        conditions: what is otherwise than the controller was told.
        budget: accuracy that may be lost a day, as a share of BASE's, by which the weight is moved; None
            keeps it.
    """

    window: int
    controller: str
    weights: tuple[float, ...]
    static: ClusterConfiguration | None = None
    conditions: Conditions = PLAIN
    budget: float | None = None


@dataclass(frozen=True)
class Bench:
    """What all runs of an evaluation have in common.

    Attributes:
        scenario, model: the cluster.
        windows: what to run on.
        policies: name -> bundle.
        margins: of controllers that trust the table, by name.
    """

    scenario: Scenario
    model: ClusterModel
    windows: tuple[Window, ...]
    policies: Mapping[str, Bundle]
    margins: Mapping[str, float]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Of the model and of what computes, as JSON values."""
        return {
            "traces_sha256": self.scenario.traces_hash,
            "profile_hash": self.model.profile.hash,
            "catalogue_hash": self.model.catalogue.hash,
            "table_version": TABLE_VERSION,
            "scorer_version": SCORER_VERSION,
            "run_version": RUN_VERSION,
            "clover_rl": __version__,
            "sla_ms": self.model.sla_ms,
        }

    @cached_property
    def _signals(self) -> list[str]:
        return [window.signals.sha256 for window in self.windows]

    def decides(self, task: RunTask, w: float) -> dict[str, Any]:
        """All that the figures of a run depend on, as JSON values."""
        window = self.windows[task.window]
        static = None if task.static is None else str(task.static)
        name = "static" if static else task.controller  # the same run, whatever it is called
        bundle = self.policies.get(name)
        version = CONTROLLER_VERSIONS.get(name)
        return {
            "scenario": self.scenario.to_public_dict(),
            **self.facts,
            "signals_sha256": self._signals[task.window],
            "steps": window.steps,
            "seed": window.seed,
            "w": w,
            "controller": name,
            "configuration": static,
            "margin": self.margins.get(name),
            **({"controller_version": version} if version else {}),
            "bundle_sha256": bundle.sha256 if bundle else None,
            "conditions": task.conditions.to_dict(),
            **(
                {}
                if task.budget is None
                else {"accuracy_budget": task.budget, "keeper_version": KEEPER_VERSION}
            ),
        }

    def key(self, task: RunTask, w: float) -> str:
        """Name of a run's file."""
        return content_hash(self.decides(task, w))[:_KEY_LENGTH]

    def controller(self, task: RunTask) -> Controller:
        """A task's controller, new, shown what the task's conditions let it see."""
        name, scenario, model, conditions = task.controller, self.scenario, self.model, task.conditions
        if task.static is not None:
            return StaticController(task.static, name)
        window = conditions.window(self.windows[task.window], scenario)
        signals, mean = window.signals, 0.0
        if conditions.blind:
            length = window.steps * scenario.interval_s * scenario.time_scale
            signals, mean = constant_carbon(signals, length)
        found: Controller
        if name in self.policies:
            found = PolicyController(self.policies[name], model)
        elif name == "clairvoyant":
            found = clairvoyant_for(scenario, model, signals, window.steps)
        elif name in MAKERS:
            found = MAKERS[name](scenario, model, signals, self.margins[name])
        else:
            found = make_controller(name, scenario, model)
        if task.budget is not None:
            found = within(found, task.budget, scenario, model)
        if conditions.blind:
            found = BlindTwin(found, mean)
        outages = conditions.outages(window, scenario)
        return StaleFeeds(found, outages) if outages else found


def perform(bench: Bench, task: RunTask, store: RunStore | None = None) -> dict[float, dict[str, Any]]:
    """Do a run, and keep it; one document for each weight."""
    scenario, model = bench.scenario, bench.model
    window = task.conditions.window(bench.windows[task.window], scenario)
    controller = bench.controller(task)
    records = run_controller(
        scenario,
        model,
        controller,
        window.signals,
        steps=window.steps,
        w=task.weights[0],
        seed=window.seed,
        start_at=task.static,
        physics=task.conditions.physics(model),
    )
    found = {}
    for w in task.weights:
        scored = records if w == task.weights[0] else rescored(records, scenario, model, w)
        result = asdict(summarise(scored, model, controller.live_trials, scenario.sci))
        found[w] = {**bench.decides(task, w), "result": result}
        if store is not None:
            epoch = window.signals.carbon.epoch
            about = {
                "carbon": window.carbon,
                "load": window.load,
                "load_factor": window.signals.load_factor,
                "controller": task.controller,
                "configuration_label": None if task.static is None else task.static.label(),
                "knows": controller.knows,
                "space_size": controller.space_size,
                "interval_s": scenario.interval_s,
                "time_scale": scenario.time_scale,
                "start_hour_of_week": window.signals.carbon.hour_of_week(window.signals.start),
                "carbon_epoch_utc": epoch.isoformat() if epoch else None,
                "start_s": window.signals.start,
                "series": hourly(scored, model.profile.application, scenario.time_scale),
            }
            store.put(bench.key(task, w), found[w] | about)
    return found


def run_tasks(
    bench: Bench,
    tasks: Sequence[RunTask],
    *,
    store: RunStore | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, RunResult]:
    """Do the runs that are not kept yet.

    Args:
        bench: what they have in common.
        tasks: the runs.
        store: where finished ones are kept; nowhere when left out.
        jobs: processes.
        progress: called with (runs done, runs in all), runs kept counted as done.

    Returns:
        Key -> what the run achieved.
    """
    found: dict[str, RunResult] = {}
    missing = []
    for task in tasks:
        keys = {w: bench.key(task, w) for w in task.weights}
        for key in keys.values():
            kept = _kept(store, key)
            if kept is not None:
                found[key] = kept
        left = tuple(w for w, key in keys.items() if key not in found)
        if left:
            missing.append(replace(task, weights=left))
    done = len(tasks) - len(missing)
    progress(done, len(tasks))
    for task, documents in _performed(bench, missing, store, jobs):
        for w, document in documents.items():
            found[bench.key(task, w)] = RunResult(**document["result"])
        done += 1
        progress(done, len(tasks))
    return found


def _kept(store: RunStore | None, key: str) -> RunResult | None:
    document = store.get(key) if store else None
    try:
        return RunResult(**document["result"]) if document else None
    except (KeyError, TypeError):
        return None  # of another version, though its key says otherwise: done anew


Performed = tuple[RunTask, dict[float, dict[str, Any]]]


def _performed(
    bench: Bench, tasks: Sequence[RunTask], store: RunStore | None, jobs: int
) -> Iterator[Performed]:
    if jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield task, perform(bench, task, store)
        return
    executor = ProcessPoolExecutor(
        min(jobs, len(tasks)), multiprocessing.get_context("spawn"), _begin, (bench, store)
    )
    try:
        futures: dict[Future[dict[float, dict[str, Any]]], RunTask] = {
            executor.submit(_perform, task): task for task in tasks
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # after Ctrl-C too: the runs under way are finished and kept, the others never begin
        executor.shutdown(wait=True, cancel_futures=True)


_own: tuple[Bench, RunStore | None] | None = None


def _begin(bench: Bench, store: RunStore | None) -> None:
    """A worker process: Ctrl-C is its parent's affair."""
    global _own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _own = bench, store


def _perform(task: RunTask) -> dict[float, dict[str, Any]]:
    assert _own is not None, "the pool begins its workers"
    bench, store = _own
    return perform(bench, task, store)
