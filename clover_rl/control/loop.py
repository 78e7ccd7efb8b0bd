"""ControlLoop: state -> decision -> transition -> interval, the same on a simulated and on a live cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.objective import Objective
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.scoring import Score, score_interval
from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS, RATE_LAGS, ControlState
from clover_rl.signals.feeds import CarbonFeed

__all__ = ["Cluster", "ControlLoop", "StepRecord"]


_PAST_S = tuple(hours * 3600.0 for hours in PAST_HOURS)
_FORECAST_S = tuple(hours * 3600.0 for hours in FORECAST_HOURS)


class Cluster(Protocol):
    """What the loop steers."""

    @property
    def configuration(self) -> ClusterConfiguration:
        """What serves now."""
        ...

    @property
    def target(self) -> ClusterConfiguration:
        """What it serves, or is on its way to."""
        ...

    @property
    def now(self) -> float:
        """Seconds since the run's epoch."""
        ...

    def apply(self, plan: TransitionPlan) -> None:
        """Start a transition."""
        ...

    def observe(self, until: float) -> Interval:
        """Wait for `until` and report the interval since the last call."""
        ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One completed control step.

    Attributes:
        decisions: the first decision and those at reviews, in order.
        interval: merged facts.
        score: under the objective of that step.
        intensity: mean over the interval, gCO2/kWh.
        objective: that was in force.
        decision_s: time that deciding took, s.
    """

    decisions: tuple[Decision, ...]
    interval: Interval
    score: Score
    intensity: float
    objective: Objective
    decision_s: float


@dataclass
class ControlLoop:
    """Runs a controller on a cluster, one interval at a time.

    Attributes:
        controller: who decides; may be replaced between steps.
        cluster: what is steered.
        carbon: intensity over time, in the run's seconds.
        profile: times and application.
        objective: what is maximised; may be replaced between steps.
        interval_s: length of a step, s.
        pue: power usage effectiveness.
        available: per GPU, whether it may be used.
        intervals: the latest completed intervals.
        on_decision: called with each decision before it is applied.
        due: when the interval under way, or the last one, ends.
        under_way: what a step that failed had observed; nothing that was served may go missing.
    """

    controller: Controller
    cluster: Cluster
    carbon: CarbonFeed
    profile: Profile
    objective: Objective
    interval_s: float
    pue: float
    available: tuple[bool, ...]
    intervals: list[Interval] = field(default_factory=list)
    on_decision: Callable[[ControlState, Decision], None] | None = None
    due: float | None = None
    under_way: list[Interval] = field(default_factory=list)

    def state(self, partial: Interval | None = None) -> ControlState:
        """What is known now."""
        now = self.cluster.now
        return ControlState(
            time_s=now,
            interval_s=self.interval_s,
            hour_of_week=self.carbon.hour_of_week(now),
            configuration=self.cluster.configuration,
            intervals=tuple(self.intervals[-RATE_LAGS:]),
            intensity=self.carbon.at(now),
            intensity_past=self.carbon.past(now, _PAST_S),
            intensity_forecast=self.carbon.ahead(now, _FORECAST_S),
            objective=self.objective,
            available=self.available,
            partial=partial,
        )

    def warm_up(self) -> Interval:
        """One interval without a decision, so that the first decision has seen some load; not scored."""
        interval = self.cluster.observe(self._end_of(self.cluster.now))
        self._remember(interval)
        return interval

    def _remember(self, interval: Interval) -> None:
        self.intervals.append(interval)
        del self.intervals[:-RATE_LAGS]

    def step(self) -> StepRecord:
        """One interval: decide, apply, observe, with the early reviews that decisions ask for."""
        start = self.cluster.now
        end = self._end_of(start)
        objective = self.objective
        decisions: list[Decision] = []
        parts = self.under_way = []
        spent = 0.0
        while True:
            state = self.state(parts[-1] if parts else None)
            before = time.perf_counter()
            decision = self.controller.decide(state)
            spent += time.perf_counter() - before
            decisions.append(decision)
            if self.on_decision:
                self.on_decision(state, decision)
            self._apply(decision, state)
            review = decision.review_after_s
            now = self.cluster.now
            until = end if not review or review < 0.0 or now + review >= end else now + review
            parts.append(self.cluster.observe(until))
            if until >= end:
                break
        interval = Interval.merge(parts)
        intensity = self.carbon.mean_over(start, end)
        score = score_interval(interval, objective, intensity, self.profile.application, self.pue)
        self._remember(interval)
        self.under_way = []
        return StepRecord(tuple(decisions), interval, score, intensity, objective, spent)

    def _end_of(self, start: float) -> float:
        """When an interval that starts now ends: a live cluster reports late, which must not add up."""
        planned = start if self.due is None or abs(start - self.due) > self.interval_s / 2 else self.due
        self.due = planned + self.interval_s
        return self.due

    def _apply(self, decision: Decision, state: ControlState) -> None:
        target = self.cluster.target
        stays = target.canonical == decision.configuration.canonical
        if stays and all(gpu.parked or ok for gpu, ok in zip(target.gpus, self.available, strict=True)):
            return  # also when it is still on its way there: a plan must not start anew at each interval
        rate = state.rates[0] if state.intervals else None
        plan = plan_transition(
            self.cluster.configuration,
            decision.configuration,
            self.profile,
            load_rps=rate,
            available=self.available,
        )
        self.cluster.apply(plan)
