"""AnnealingController: Clover's mechanics on a simulated cluster, live trials paid for."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import exp
from pathlib import Path

import numpy as np
import pytest

from clover_rl.agents.annealing import AnnealingController
from clover_rl.agents.annealing_search import AnnealingSearch, IntensityTrigger, TrialFacts
from clover_rl.agents.neighbours import GpuSpace, graph_of
from clover_rl.agents.static import base_controller
from clover_rl.cluster.choices import base_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.objective import BaseLine, Objective
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.loop import ControlLoop, StepRecord
from clover_rl.control.state import ControlState
from clover_rl.errors import InputError
from clover_rl.signals import TraceSignal
from clover_rl.signals.feeds import CarbonFeed, LoadFeed
from clover_rl.simulation.cluster import SimulatedCluster

GPUS = 2
PROFILE = load_profile("h100-efficientnet")
SPACE = GpuSpace(PROFILE)
BASE = base_configuration(PROFILE, GPUS)
OBJECTIVE = Objective(BaseLine.of(PROFILE, GPUS), sla_ms=60.0, w=0.1)
HOUR = 12
"""Intervals of 300 s in an hour."""


def carbon(*points: float) -> CarbonFeed:
    """One point an hour, linear between them; the last one lasts."""
    values = np.array([*points, *[points[-1]] * (49 - len(points))], np.float64)
    times = np.arange(len(values), dtype=np.float64) * 3600.0
    return CarbonFeed(TraceSignal(times, values, "average life-cycle", "gCO2/kWh", "test", "linear"))


def constant_load(rate: float) -> LoadFeed:
    return LoadFeed(
        TraceSignal(np.array([0.0]), np.array([rate]), "load", "requests/s", "test", "step", end_s=1e6)
    )


@dataclass
class Run:
    """A loop whose decisions and observed parts are written down."""

    loop: ControlLoop
    steps: list[StepRecord] = field(default_factory=list)
    decisions: list[tuple[ControlState, Decision]] = field(default_factory=list)
    parts: list[Interval] = field(default_factory=list)

    def go(self, steps: int) -> Run:
        self.steps += [self.loop.step() for _ in range(steps)]
        return self

    @property
    def mean(self) -> float:
        return float(np.mean([step.score.reward for step in self.steps]))

    @property
    def trials(self) -> list[ClusterConfiguration]:
        """What was tried, once for each trial."""
        found: dict[str, ClusterConfiguration] = {}
        for _, decision in self.decisions:
            if decision.reason.startswith("trial"):
                found.setdefault(decision.reason.split(",")[0], decision.configuration)
        return list(found.values())


class Recorded(SimulatedCluster):
    """A simulated cluster that hands every observed part on."""

    parts: list[Interval]

    def observe(self, until: float) -> Interval:
        part = super().observe(until)
        self.parts.append(part)
        return part


def run(
    controller: Controller,
    *,
    rate: float = 40.0,
    feed: CarbonFeed | None = None,
    interval_s: float = 300.0,
    seed: int = 1,
    objective: Objective = OBJECTIVE,
    start: ClusterConfiguration = BASE,
    profile: Profile = PROFILE,
) -> Run:
    cluster = Recorded(profile, start, constant_load(rate), seed=seed, timeout_s=10.0)
    loop = ControlLoop(
        controller=controller,
        cluster=cluster,
        carbon=feed or carbon(250.0),
        profile=profile,
        objective=objective,
        interval_s=interval_s,
        pue=1.5,
        available=(True,) * len(start.gpus),
    )
    result = Run(loop)
    loop.on_decision = lambda state, decision: result.decisions.append((state, decision))
    cluster.parts = result.parts
    controller.reset(seed)
    loop.warm_up()
    return result


MOVING = carbon(250.0, 300.0, 350.0, 420.0, 400.0, 350.0)


@pytest.fixture(scope="module")
def six_hours() -> tuple[AnnealingController, Run]:
    controller = AnnealingController(PROFILE, GPUS)
    return controller, run(controller, feed=MOVING).go(6 * HOUR)


# -- what it achieves and what it costs


def test_it_improves_on_base_within_hours_trials_and_transitions_included(
    six_hours: tuple[AnnealingController, Run],
) -> None:
    _, annealed = six_hours
    base = run(base_controller(PROFILE, GPUS), feed=MOVING).go(6 * HOUR)
    assert annealed.mean > base.mean
    quiet = [i for i, step in enumerate(annealed.steps) if not step.interval.plans]
    gains = [annealed.steps[i].score.reward - base.steps[i].score.reward for i in quiet]
    assert np.mean(gains) > 0.01
    assert all(annealed.steps[i].score.sla_held for i in quiet)


def test_each_live_trial_is_counted_and_its_transition_is_charged_to_the_interval(
    six_hours: tuple[AnnealingController, Run],
) -> None:
    controller, result = six_hours
    assert controller.live_trials == len(result.trials) >= 10
    plans = [plan for step in result.steps for plan in step.interval.plans]
    targets = [plan.target.canonical for plan in plans]
    assert all(trial.canonical in targets for trial in result.trials)
    first = result.steps[0]
    assert len(first.interval.plans) >= 5
    assert sum(first.interval.answered.values()) > 0.95 * first.interval.arrived
    assert len(first.interval.answered) > 1  # requests were answered by the variants on trial


def test_no_configuration_is_ever_run_again(six_hours: tuple[AnnealingController, Run]) -> None:
    controller, result = six_hours
    tried = [graph_of(trial.gpus[0]) for trial in result.trials]
    assert controller.optimisations >= 4
    assert len(set(tried)) == len(tried)
    assert graph_of(BASE.gpus[0]) not in tried  # known from the warm-up
    assert {graph for graph, _ in controller.remembered} == {*tried, graph_of(BASE.gpus[0])}


def test_every_configuration_is_valid_alike_on_all_gpus_and_maximal(
    six_hours: tuple[AnnealingController, Run],
) -> None:
    _, result = six_hours
    for _, decision in result.decisions:
        decision.configuration.check(PROFILE)
        assert len(set(decision.configuration.gpus)) == 1
        assert SPACE.index(decision.configuration.gpus[0]) is not None


def test_a_search_walks_over_neighbours_from_what_is_deployed(
    six_hours: tuple[AnnealingController, Run],
) -> None:
    _, result = six_hours
    first = result.trials[0].gpus[0]
    assert first in [SPACE[int(i)] for i in SPACE.neighbours(BASE.gpus[0])]


def test_the_same_seed_decides_the_same_and_another_one_otherwise(
    six_hours: tuple[AnnealingController, Run],
) -> None:
    controller, first = six_hours
    decisions = [decision for _, decision in first.decisions]
    again = run(AnnealingController(PROFILE, GPUS), feed=MOVING).go(6 * HOUR)
    assert [decision for _, decision in again.decisions] == decisions
    used = AnnealingController(PROFILE, GPUS)
    run(used, feed=MOVING, seed=5).go(HOUR)
    after_reset = run(used, feed=MOVING).go(6 * HOUR)  # the run resets it to the first seed
    assert [decision for _, decision in after_reset.decisions] == decisions
    assert used.live_trials == controller.live_trials
    other = run(AnnealingController(PROFILE, GPUS), feed=MOVING, seed=2).go(1)
    assert other.trials != first.trials[: len(other.trials)]


# -- trials


def test_a_trial_is_judged_by_its_own_window_and_not_by_the_transition_before_it() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller).go(1)
    trial = result.trials[0]
    parts = [p for p in result.parts[1:] if p.configuration.canonical == trial.canonical]
    transition, window = parts[0], parts[1]
    assert transition.plans
    assert not window.plans
    assert transition.duration_s == pytest.approx(transition.plans[0].duration_s, abs=0.01)
    facts = controller.remembered[graph_of(trial.gpus[0]), GPUS]
    assert facts == TrialFacts.of(window, PROFILE.application)


def test_a_trial_lasts_until_enough_requests_are_expected_at_most_its_time() -> None:
    busy, calm = AnnealingController(PROFILE, GPUS), AnnealingController(PROFILE, GPUS)
    run(busy, rate=80.0).go(1)
    run(calm, rate=5.0).go(1)
    tried = [facts for facts in busy.remembered.values() if facts.duration_s < 300.0]
    assert len(tried) >= 2
    assert all(facts.duration_s == pytest.approx(1000 / 80, rel=0.05) for facts in tried)
    assert {round(facts.duration_s, 3) for facts in calm.remembered.values()} == {30.0, 300.0}


def test_a_backlog_from_the_transition_is_waited_for_before_the_window_begins() -> None:
    # at 70/s one GPU alone, which serves at most 47/s, falls behind while the other is recut
    result = run(AnnealingController(PROFILE, GPUS), rate=70.0, seed=2).go(3)
    reasons = [decision.reason for _, decision in result.decisions]
    waits = [i for i, reason in enumerate(reasons) if "backlog" in reason]
    assert waits
    for i in waits:
        assert "transition" in reasons[i - 1]
        partial = result.decisions[i][0].partial
        assert partial is not None
        assert partial.oldest_queued_s * 1000.0 > OBJECTIVE.sla_ms


def test_a_window_goes_on_over_the_end_of_an_interval_without_losing_a_request() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller, interval_s=30.0).go(40)
    crossed = 0
    for trial in result.trials:
        facts = controller.remembered.get((graph_of(trial.gpus[0]), GPUS))
        assert facts is not None
        windows = [
            parts
            for parts in consecutive(result.parts)
            if parts[0].configuration.canonical == trial.canonical
        ]
        assert any(matches(facts, parts) for parts in windows)
        crossed += any(matches(facts, parts) and len(parts) == 2 for parts in windows)
    assert len(result.trials) >= 5
    assert crossed >= 1


def consecutive(parts: list[Interval]) -> Iterator[list[Interval]]:
    for i in range(len(parts)):
        yield parts[i : i + 1]
        yield parts[i : i + 2]


def matches(facts: TrialFacts, parts: list[Interval]) -> bool:
    merged = Interval.merge(parts)
    return (
        facts.arrived == merged.arrived
        and facts.p95_ms == merged.p95_ms
        and facts.accuracy == pytest.approx(merged.accuracy(PROFILE.application), abs=1e-12)
        and facts.energy_j == pytest.approx(merged.energy.joules, rel=1e-9)
        and facts.duration_s == pytest.approx(merged.duration_s, abs=1e-6)
    )


class Refusing:
    """A guard that lets nothing pass: it keeps the cluster as it is, and the wish for a review."""

    name = "refusing"

    def __init__(self, inner: AnnealingController) -> None:
        self.inner = inner
        self.knows = inner.knows
        self.space_size = inner.space_size
        self.live_trials = 0

    def reset(self, seed: int) -> None:
        self.inner.reset(seed)

    def decide(self, state: ControlState) -> Decision:
        return replace(self.inner.decide(state), configuration=state.configuration)


def test_candidates_that_a_guard_refuses_are_no_trials_and_the_search_ends() -> None:
    inner = AnnealingController(PROFILE, GPUS)
    result = run(Refusing(inner)).go(3)
    assert inner.live_trials == 0
    assert set(inner.remembered) == {(graph_of(BASE.gpus[0]), GPUS)}
    assert result.decisions[-1][1].reason == "kept until the intensity moves"
    assert not any(step.interval.plans for step in result.steps)


def test_a_transition_longer_than_an_interval_completes_and_its_trial_is_measured() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller, interval_s=6.0).go(120)  # loading takes 8 to 9 s
    assert controller.live_trials > 0
    assert len(controller.remembered) > 1
    assert result.decisions[-1][1].review_after_s is None


def test_a_deployed_configuration_that_is_not_on_every_gpu_is_put_there_first() -> None:
    start = ClusterConfiguration.uniform(BASE.gpus[0], 1, GPUS)
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller, rate=20.0, start=start).go(1)
    assert result.trials[0] == BASE
    assert (graph_of(BASE.gpus[0]), GPUS) in controller.remembered


def test_a_first_optimisation_without_history_measures_what_serves_at_no_trial() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller)
    result.loop.intervals.clear()
    result.go(1)
    reason = result.decisions[0][1].reason
    assert reason.startswith("what serves, measurement")
    assert result.decisions[0][1].configuration == BASE
    assert controller.remembered[graph_of(BASE.gpus[0]), GPUS].duration_s == pytest.approx(30.0)
    assert controller.live_trials == len(result.trials)


# -- when


def test_it_optimises_once_while_the_intensity_stays() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller, feed=carbon(250.0, 240.0, 260.0)).go(3 * HOUR)
    assert controller.optimisations == 1
    assert len({decision.configuration for _, decision in result.decisions[-HOUR:]}) == 1


def test_it_never_optimises_twice_within_the_gap() -> None:
    controller = AnnealingController(PROFILE, GPUS, min_gap_s=7200.0)
    result = run(controller, feed=carbon(*[100.0, 400.0] * 3)).go(5 * HOUR)
    tried = [state.time_s for state, decision in result.decisions if decision.reason.startswith("trial")]
    assert controller.optimisations == 3
    assert min(tried) == 300.0
    pauses = [b - a for a, b in itertools.pairwise(tried)]
    begins = [tried[0], *(b for b, pause in zip(tried[1:], pauses, strict=True) if pause > 300.0)]
    assert len(begins) == 3
    assert all(b - a >= 7200.0 for a, b in itertools.pairwise(begins))


@pytest.mark.parametrize(("trace", "count"), [("CISO_March", 24), ("CISO_Sep", 17), ("ESO_March", 17)])
def test_the_trigger_fires_as_often_as_the_artifact_on_its_traces(
    shared_data: Path, trace: str, count: int
) -> None:
    with open(shared_data / "carbon" / f"clover_{trace}.csv", newline="") as file:
        points = [float(row["gco2_per_kwh"]) for row in csv.DictReader(file)]
    trigger, fired = IntensityTrigger(), 0
    for intensity in points:
        if trigger.due(intensity):
            trigger.fire(intensity)
            fired += 1
    assert (len(points), fired) == (49, count)


def test_the_trigger_needs_more_than_its_share_of_the_reference_and_counts_from_where_it_fired() -> None:
    trigger = IntensityTrigger()
    assert trigger.due(200.0)
    trigger.fire(200.0)
    assert not trigger.due(212.5)
    assert not trigger.due(187.5)
    assert trigger.due(212.6)
    assert not IntensityTrigger(pue=1.2, fired_at=200.0).due(215.6)
    assert IntensityTrigger(pue=1.2, fired_at=200.0).due(215.7)


def test_without_requests_nothing_is_tried() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller, rate=0.0).go(3)
    assert controller.live_trials == controller.optimisations == 0
    assert all(decision.configuration == BASE for _, decision in result.decisions)


# -- GPUs that may not be used


def test_a_masked_gpu_is_never_used() -> None:
    result = run(AnnealingController(PROFILE, GPUS), rate=25.0)
    result.loop.available = (True, False)
    result.go(HOUR)
    assert result.trials
    for _, decision in result.decisions:
        assert decision.configuration.gpus[1].parked
        assert not decision.configuration.gpus[0].parked


def test_a_gpu_lost_in_the_middle_ends_the_search_and_what_was_learnt_with_it_is_not_mixed_up() -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(controller, rate=25.0, interval_s=100.0, feed=carbon(250.0, 100.0))
    result.go(1)
    assert result.decisions[-1][1].review_after_s is not None
    before = len(result.decisions)
    result.loop.available = (False, True)
    result.go(1)
    lost = [decision for _, decision in result.decisions[before:]]
    assert [decision.review_after_s for decision in lost] == [None]
    assert lost[0].configuration.gpus[0].parked
    result.go(40)
    assert {gpus for _, gpus in controller.remembered} == {1, 2}
    assert all(decision.configuration.gpus[0].parked for _, decision in result.decisions[before:])


def test_without_any_gpu_it_parks_them_all() -> None:
    result = run(AnnealingController(PROFILE, GPUS))
    result.loop.available = (False, False)
    result.go(1)
    assert result.decisions[0][1].configuration == ClusterConfiguration.parked(GPUS)


# -- bad input


def test_a_cluster_of_another_size_is_refused() -> None:
    result = run(AnnealingController(PROFILE, 3))
    with pytest.raises(InputError, match="the cluster has 2 GPUs, the controller was made for 3"):
        result.go(1)


@pytest.mark.parametrize("key", ["trial_requests", "trial_s", "pue"])
def test_arguments_that_are_not_positive_are_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"{key} is 0"):
        AnnealingController(PROFILE, GPUS, **{key: 0})


# -- the search by itself


START = SPACE[SPACE.index(BASE.gpus[0]) or 0]


def facts(loss: float, p95_ms: float = 30.0) -> TrialFacts:
    """A trial whose score differs from a perfect copy of BASE by `loss`, through its energy."""
    energy = float(OBJECTIVE.base.energy_for(1000, 25.0)) * (1.0 + loss / OBJECTIVE.w)
    return TrialFacts(energy, 1000, 25.0, OBJECTIVE.base.accuracy, p95_ms)


def search(seed: int = 0) -> AnnealingSearch:
    return AnnealingSearch(SPACE, np.random.default_rng(seed), START, facts(0.0))


def told(walk: AnnealingSearch, found: TrialFacts | None, live: bool = False) -> GpuConfiguration:
    gpu = walk.propose()
    assert gpu is not None
    walk.tell(gpu, found, objective=OBJECTIVE, intensity=250.0, live=live)
    return gpu


def test_a_score_rescales_the_carbon_by_the_intensity_and_nothing_else() -> None:
    trial = replace(facts(0.02), accuracy=0.8)
    at = [trial.score(OBJECTIVE, intensity) for intensity in (100.0, 200.0, 300.0)]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])
    assert at[0] - at[1] == pytest.approx(0.1 * 1.2 * 100.0 / 250.0)


def test_a_broken_sla_is_punished_also_when_the_score_is_negative() -> None:
    worse, same = facts(0.05, p95_ms=61.0), facts(0.05)
    assert same.score(OBJECTIVE, 250.0) < 0.0
    assert worse.score(OBJECTIVE, 250.0) < same.score(OBJECTIVE, 250.0) - 0.1
    assert not worse.holds(OBJECTIVE)


def test_a_search_stops_after_five_evaluations_without_a_better_one() -> None:
    walk = search()
    for _ in range(4):
        told(walk, facts(0.5))
    best = told(walk, facts(-0.01))
    for _ in range(5):
        told(walk, facts(0.5))
    assert walk.propose() is None
    assert walk.best() == best
    assert walk.evaluations == 10


def test_a_search_stops_after_ten_live_trials() -> None:
    walk = search()
    for i in range(10):
        told(walk, facts(-0.01 * (i + 1)), live=True)
    assert walk.propose() is None
    assert walk.new == 10


def test_a_search_cools_from_100_by_5_to_10_and_then_stops() -> None:
    walk = search()
    temperatures = []
    for i in range(19):
        temperatures.append(walk.temperature)
        told(walk, facts(-0.01 * (i + 1)))
    assert temperatures == list(range(100, 5, -5))
    assert walk.propose() is None


def test_a_search_never_proposes_the_same_twice_and_stops_where_all_neighbours_are_seen() -> None:
    tight = replace(PROFILE, memory_mib={"B1": 963, "B3": 1e9, "B5": 1e9, "B7": 1e9})
    space = GpuSpace(tight)
    walk = AnnealingSearch(space, np.random.default_rng(0), space[0], facts(0.0))
    near = space.neighbours(space[0])
    proposed = []
    while (gpu := walk.propose()) is not None:
        # always better, but never accepted: a walk that stays sees every neighbour once
        proposed.append(gpu)
        walk.tell(gpu, facts(-1e-9 * len(proposed)), objective=OBJECTIVE, intensity=250.0, live=False)
        walk.current = space[0]
    assert sorted(map(str, proposed)) == sorted(str(space[int(i)]) for i in near)


def test_only_configurations_that_keep_the_sla_win() -> None:
    walk = search()
    for _ in range(5):
        told(walk, facts(-2.0, p95_ms=60.5))  # better in spite of the penalty
    assert walk.propose() is None
    assert walk.best() == START


def test_a_start_that_breaks_the_sla_loses_to_any_that_keeps_it() -> None:
    walk = AnnealingSearch(SPACE, np.random.default_rng(0), START, facts(0.0, p95_ms=200.0))
    kept = told(walk, facts(5.0))
    assert walk.best() == kept


def test_a_better_configuration_is_always_accepted_and_a_worse_one_as_the_temperature_says() -> None:
    better = search()
    assert told(better, facts(-1e-6)) == better.current
    runs, loss = 500, 0.003
    for cooled in (0, 4):
        accepted = 0
        for seed in range(runs):
            walk = search(seed)
            for _ in range(cooled):
                told(walk, None)  # cools without moving
            accepted += told(walk, facts(loss)) == walk.current
        expected = exp(-loss / (1e-4 * (100.0 - 5.0 * cooled)))
        assert accepted / runs == pytest.approx(expected, abs=4 * (0.25 / runs) ** 0.5)


def test_a_candidate_that_could_not_be_measured_neither_wins_nor_moves_the_walk() -> None:
    walk = search()
    told(walk, None)
    assert walk.current == walk.best() == START
    assert walk.evaluations == 1


def test_every_neighbour_can_be_drawn_first() -> None:
    near = len(SPACE.neighbours(START))
    drawn = {str(search(seed).propose()) for seed in range(7 * near)}
    assert len(drawn) > 0.97 * near


def test_the_plan_the_loop_applies_is_the_one_the_trial_waits_for() -> None:
    result = run(AnnealingController(PROFILE, GPUS)).go(1)
    plans: list[TransitionPlan] = [plan for part in result.parts for plan in part.plans]
    waits = [d.review_after_s for _, d in result.decisions if "transition" in d.reason]
    assert len(waits) >= 5
    for plan, wait in zip(plans, waits, strict=False):
        assert wait == pytest.approx(plan.duration_s + 1e-3, abs=1e-5)


@dataclass
class Late:
    """A controller that is asked some milliseconds after the moment, as on a real clock."""

    inner: AnnealingController
    by_s: float
    name: str = "late"
    knows: str = "the same"
    space_size: int = 1

    @property
    def live_trials(self) -> int:
        return self.inner.live_trials

    def reset(self, seed: int) -> None:
        self.inner.reset(seed)

    def decide(self, state: ControlState) -> Decision:
        return self.inner.decide(replace(state, time_s=state.time_s + self.by_s))


@pytest.mark.parametrize("by_s", [0.0, 0.002, 0.02])
def test_decisions_that_come_a_little_late_interrupt_no_measurement(by_s: float) -> None:
    controller = AnnealingController(PROFILE, GPUS)
    result = run(Late(controller, by_s)).go(2 * HOUR)
    assert controller.optimisations == 1
    measured = [d.reason for _, d in result.decisions if "measurement" in d.reason]
    assert 5 <= controller.live_trials <= 10
    assert len(measured) <= 2 * controller.live_trials + 2  # none begun anew, some over an interval's end
    assert len(controller.remembered) >= controller.live_trials
