"""One controller over one window at event level, and what it achieved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.carbon import SciAccount
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.controller import Controller
from clover_rl.control.loop import ControlLoop, StepRecord
from clover_rl.control.scoring import score_interval
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics

__all__ = ["RunResult", "rescored", "run_controller", "summarise"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a controller achieved over a window.

    Attributes:
        objective: mean objective per interval, transitions included.
        carbon_term, accuracy_term, penalty_term: its means by term, which add up to it.
        carbon_g_per_request: gCO2 per answered request, PUE included.
        base_carbon_g_per_request: BASE's in closed form at the same intensities, for the arrived requests.
        accuracy: request-weighted.
        accuracy_loss: share of BASE's accuracy lost.
        p95_over_sla: mean over intervals with arrivals, each capped at 10.
        sla_held: share of intervals with arrivals in which p95 <= SLA.
        transitions: changes of configuration.
        live_trials: configurations deployed only to try them.
        decision_us: mean time of a decision, microseconds.
        requests, answered, timed_out: counts.
        embodied_g_per_request: the cluster's embodied carbon over the window, gCO2e per answered request;
            None where the scenario does not count it.
        sci_g_per_request: carbon_g_per_request and embodied_g_per_request together (ISO/IEC 21031).
    """

    objective: float
    carbon_g_per_request: float
    base_carbon_g_per_request: float
    accuracy: float
    accuracy_loss: float
    p95_over_sla: float
    sla_held: float
    transitions: int
    live_trials: int
    decision_us: float
    requests: int
    answered: int
    timed_out: int
    carbon_term: float
    accuracy_term: float
    penalty_term: float
    embodied_g_per_request: float | None = None
    sci_g_per_request: float | None = None


def run_controller(
    scenario: Scenario,
    model: ClusterModel,
    controller: Controller,
    signals: EpisodeSignals,
    *,
    steps: int,
    w: float,
    seed: int,
    start_at: ClusterConfiguration | None = None,
    physics: Physics | None = None,
    arrivals_s: NDArray[np.float64] | None = None,
) -> list[StepRecord]:
    """Run a controller through a window at event level, after one interval of warm-up.

    Everyone starts with BASE (or `start_at`) and meets the same signals and the same seed of arrivals.

    Args:
        scenario, model: what the controller knows.
        controller: who decides.
        signals: carbon and load.
        steps: of the window.
        w: weight of carbon.
        seed: of arrivals.
        start_at: what serves at first.
        physics: what really holds, where that is not the model's profile.
        arrivals_s: requests that are replayed, s from the warm-up's start, instead of Poisson ones.

    Raises:
        SignalEndError: the signals are shorter than the window.
    """
    carbon, load = signals.feeds(scenario, warm_up=1)
    first = start_at or model.catalogue[model.base]
    laws = physics or model.physics
    cluster = SimulatedCluster(
        laws.profile,
        first,
        load,
        seed=seed,
        timeout_s=scenario.timeout_s,
        physics=laws,
        arrivals_s=arrivals_s,
    )
    loop = ControlLoop(
        controller=controller,
        cluster=cluster,
        carbon=carbon,
        profile=model.profile,
        objective=scenario.objective(model, w),
        interval_s=scenario.interval_s,
        pue=scenario.pue,
        available=(True,) * model.gpus,
    )
    controller.reset(seed)
    loop.warm_up()
    return [loop.step() for _ in range(steps)]


def rescored(
    records: Sequence[StepRecord], scenario: Scenario, model: ClusterModel, w: float
) -> list[StepRecord]:
    """The same run under another weight: only for controllers that do not look at it."""
    objective = scenario.objective(model, w)
    application = model.profile.application
    return [
        replace(
            record,
            objective=objective,
            score=score_interval(record.interval, objective, record.intensity, application, scenario.pue),
        )
        for record in records
    ]


def summarise(
    records: Sequence[StepRecord],
    model: ClusterModel,
    live_trials: int = 0,
    account: SciAccount | None = None,
) -> RunResult:
    """Totals of a run; with SCI where there is an account of it."""
    intervals = [record.interval for record in records]
    answered: dict[str, int] = {}
    for interval in intervals:
        for name, count in interval.answered.items():
            answered[name] = answered.get(name, 0) + count
    count = sum(answered.values())
    requests = sum(interval.arrived for interval in intervals)
    accuracy = model.profile.application.accuracy_of(answered)
    held = [record.score.sla_held for record in records if record.score.sla_held is not None]
    ratios = [
        min(record.score.p95_ms / record.objective.sla_ms, 10.0)
        for record in records
        if record.interval.arrived
    ]
    decided = sum(len(record.decisions) for record in records)
    emitted = sum(record.score.carbon_g for record in records)
    sci = (
        account.over(emitted, sum(interval.duration_s for interval in intervals), count) if account else None
    )
    return RunResult(
        objective=float(np.mean([record.score.reward for record in records])),
        carbon_g_per_request=emitted / max(count, 1),
        base_carbon_g_per_request=sum(record.score.base_carbon_g for record in records) / max(requests, 1),
        accuracy=accuracy,
        accuracy_loss=max(1.0 - accuracy / model.baseline.accuracy, 0.0),  # not -1e-16 for BASE
        p95_over_sla=float(np.mean(ratios)) if ratios else 0.0,
        sla_held=float(np.mean(held)) if held else 1.0,
        transitions=sum(len(interval.plans) for interval in intervals),
        live_trials=live_trials,
        decision_us=1e6 * sum(record.decision_s for record in records) / max(decided, 1),
        requests=requests,
        answered=count,
        timed_out=sum(interval.timed_out for interval in intervals),
        carbon_term=float(np.mean([record.score.carbon_term for record in records])),
        accuracy_term=float(np.mean([record.score.accuracy_term for record in records])),
        penalty_term=float(np.mean([record.score.penalty_term for record in records])),
        embodied_g_per_request=sci.embodied_g_per_request if sci else None,
        sci_g_per_request=sci.g_per_request if sci else None,
    )
