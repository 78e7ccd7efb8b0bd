"""AnnealingController: Clover's simulated annealing over configuration graphs, with live trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from clover_rl.agents.annealing_search import AnnealingSearch, IntensityTrigger, TrialFacts
from clover_rl.agents.neighbours import GpuSpace, Graph, graph_of
from clover_rl.cluster.choices import base_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.control.controller import Decision
from clover_rl.control.state import ControlState
from clover_rl.errors import InputError

__all__ = ["AnnealingController"]

ATTEMPT_LIMIT = 5
"""Times a transition or a trial may begin again before its configuration is given up."""
_TICK_S = 1e-6
_LATE_S = 0.05
"""On a real clock a decision comes some milliseconds after the part before it ended; a part that was missed
leaves a longer gap."""
_SLACK_S = 1e-3
"""Waited beyond a plan's duration, so that rounding never asks a moment too early."""


@dataclass
class _Trial:
    """A trial under way: the transition, a wait for its backlog where there is one, then the measurement.

    Attributes:
        gpu: what is tried, on every available GPU.
        target: the cluster with it.
        source: the cluster when the trial began.
        live: it changes the cluster; otherwise what serves is only measured.
        stage: which of the three.
        ends_at: when the stage is over, s.
        parts: what was observed since the measurement began.
        attempts: transitions and measurements that had to begin again.
    """

    gpu: GpuConfiguration
    target: ClusterConfiguration
    source: ClusterConfiguration
    live: bool
    stage: str = "transition"
    ends_at: float = 0.0
    parts: list[Interval] = field(default_factory=list)
    attempts: int = 0


class AnnealingController:
    """Clover's optimizer (SC'23), live trials included.

    It searches the configuration of one GPU and repeats it on every available GPU; none of them is ever
    parked. It optimises at the first decision and then whenever intensity x PUE has moved far enough (see
    IntensityTrigger) and `min_gap_s` has passed since the last optimisation began; otherwise it keeps what it
    chose. The optimisation begins at what is deployed. A configuration evaluated before, on as many GPUs, is
    not run again: its energy per request, accuracy and p95 are taken to be as they were (the load, too:
    Clover's is constant) and its carbon is rescaled by the intensity of the moment.

    A trial is live: the candidate is deployed, and every request of the trial, of the transition before it
    and of the way back counts in the intervals. So that the candidate is judged by itself, the trial's window
    begins when the planned transition is over; what was observed until then is left out of its facts. Where
    the transition leaves requests older than the SLA in the queue, the window waits once more for up to its
    own length. The window lasts until `trial_requests` are expected at the last interval's rate, at most
    `trial_s`. It goes on over the end of an interval: the part before is the completed interval less the
    parts already seen of it, which is exact since counts, histograms and energy add up. A transition cut by
    an interval's end is waited for anew, a measurement with a gap is begun anew, and after five such attempts
    the candidate is given up; at once when nothing was done to deploy it, as where a guard refuses it.

    What is deployed costs no trial where it is the start: memory knows it, or else the last interval, when it
    ran undisturbed, or else it is measured as it serves.

    Args:
        profile: of the cluster; only its geometry, its times and its application are used.
        gpus: size of the cluster.
        trial_requests, trial_s: a trial ends with whichever comes sooner.
        intensity_trigger, reference_g_per_kwh, reference_pue: see IntensityTrigger.
        pue: of the cluster.
        min_gap_s: shortest time between two optimisations, in the cluster's seconds: an hour of the signals,
            so 3600 / time_scale.
        load_trigger: also optimise when the last interval's load has moved by more than this share since the
            last optimisation; None never looks at the load, as Clover does not. What memory knows then holds
            for another load, so it is forgotten.
        search: how candidates are proposed and accepted.

    Attributes:
        live_trials: see Controller.
        optimisations: searches begun since `reset`.
        remembered: (graph of one GPU, GPUs available) -> what was found of it, in no order.

    Raises:
        InputError: an argument out of its range.
    """

    knows = "its own live trials and the present intensity"

    def __init__(
        self,
        profile: Profile,
        gpus: int,
        *,
        trial_requests: int = 1000,
        trial_s: float = 30.0,
        intensity_trigger: float = 0.05,
        pue: float = 1.5,
        reference_g_per_kwh: float = 250.0,
        reference_pue: float = 1.5,
        min_gap_s: float = 3600.0,
        load_trigger: float | None = None,
        search: type[AnnealingSearch] = AnnealingSearch,
    ) -> None:
        limits = {"gpus": gpus, "trial_requests": trial_requests, "trial_s": trial_s, "pue": pue}
        for key, value in limits.items():
            if not value > 0:
                raise InputError(f"{key} is {value}", where="annealing", fix="make it positive")
        self.name = "annealing" if load_trigger is None else "annealing-load"
        self.profile = profile
        self.gpus = gpus
        self.trial_requests, self.trial_s = trial_requests, trial_s
        self.min_gap_s = min_gap_s
        self.space = GpuSpace(profile)
        self.space_size = len(self.space.configurations)  # each repeated on every GPU
        self.load_trigger, self._search_kind = load_trigger, search
        self._trigger_settings = (intensity_trigger, pue, reference_g_per_kwh, reference_pue)
        self._base = base_configuration(profile, 1).gpus[0]
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Forget everything, memory included."""
        self.live_trials = 0
        self.optimisations = 0
        self._rng = np.random.default_rng(seed)
        self._trigger = IntensityTrigger(*self._trigger_settings)
        self.remembered: dict[tuple[Graph, int], TrialFacts] = {}
        self._search: AnnealingSearch | None = None
        self._trial: _Trial | None = None
        self._chosen: GpuConfiguration | None = None
        self._available: tuple[bool, ...] = ()
        self._began_at = -np.inf
        self._load_then: float | None = None
        self._decided_at: float | None = None
        self._parts: list[Interval] = []

    def decide(self, state: ControlState) -> Decision:
        """Go on with the optimisation under way, begin one when it is due, or keep what was chosen.

        Raises:
            InputError: the cluster has another number of GPUs than this controller was made for.
        """
        if len(state.available) != self.gpus:
            raise InputError(
                f"the cluster has {len(state.available)} GPUs, the controller was made for {self.gpus}",
                where="annealing",
                fix="make it with the cluster's number of GPUs",
            )
        piece = self._since_last_decision(state)
        self._decided_at = state.time_s
        if not any(state.available):
            self._give_up()
            return Decision(ClusterConfiguration.parked(self.gpus), "no GPU is available")
        if state.available != self._available:
            self._give_up()
            self._available = state.available
        if self._trial:
            return self._go_on(self._trial, state, piece)
        return self._begin(state) if self._due(state) else self._keep(state)

    # -- the optimisation

    def _due(self, state: ControlState) -> bool:
        if state.last is not None and not state.last.arrived:
            return False  # a trial without requests proves nothing
        waited = state.time_s - self._began_at >= self.min_gap_s - _TICK_S
        return waited and (self._trigger.due(state.intensity) or self._load_moved(state))

    def _load_moved(self, state: ControlState) -> bool:
        """Whether the load has moved so far that what is known of it no longer holds."""
        if self.load_trigger is None or self._load_then is None:
            return False
        return abs(state.rates[0] - self._load_then) > self.load_trigger * self._load_then

    def _begin(self, state: ControlState) -> Decision:
        self._trigger.fire(state.intensity)
        if self._load_moved(state):
            self.remembered.clear()
        self._load_then = state.rates[0]
        self._began_at = state.time_s
        self.optimisations += 1
        start = self._deployed(state)
        key = self._key(start, state)
        facts = self.remembered.get(key) or self._undisturbed(start, state)
        if facts is None:
            return self._deploy(start, state)
        self.remembered[key] = facts
        self._search = self._search_kind(self.space, self._rng, start, facts)
        return self._next(self._search, state)

    def _next(self, search: AnnealingSearch, state: ControlState) -> Decision:
        """The next live trial; what memory knows is evaluated on the way. At the end the winner."""
        while (gpu := search.propose()) is not None:
            known = self.remembered.get(self._key(gpu, state))
            if known is None:
                return self._deploy(gpu, state)
            search.tell(gpu, known, objective=state.objective, intensity=state.intensity, live=False)
        self._chosen, self._search = search.best(), None
        kept = "kept" if self._chosen is search.start else "chosen"
        reason = f"{kept} after {search.evaluations} evaluations, {search.new} of them live"
        return Decision(self._repeat(self._chosen, state), reason)

    def _keep(self, state: ControlState) -> Decision:
        target = self._repeat(self._chosen or self._deployed(state), state)
        return Decision(target, "kept until the intensity moves")

    def _give_up(self) -> None:
        """End an optimisation early, with the best it has found."""
        if self._search:
            self._chosen = self._search.best()
        elif self._trial:
            self._chosen = self._trial.gpu
        self._search = self._trial = None

    # -- trials

    def _deploy(self, gpu: GpuConfiguration, state: ControlState) -> Decision:
        target = self._repeat(gpu, state)
        live = target.canonical != state.configuration.canonical
        self._trial = trial = _Trial(gpu, target, state.configuration, live)
        if not live:
            return self._measure(trial, state)
        self.live_trials += 1
        return self._wait_for_transition(trial, state)

    def _wait_for_transition(self, trial: _Trial, state: ControlState) -> Decision:
        # the loop plans with the same arguments, so this is the plan it applies
        rate = state.rates[0] if state.intervals else None
        plan = plan_transition(state.configuration, trial.target, self.profile, load_rps=rate)
        return self._stage(trial, "transition", state, plan.duration_s + _SLACK_S)

    def _measure(self, trial: _Trial, state: ControlState) -> Decision:
        trial.parts.clear()
        return self._stage(trial, "measurement", state, self._window_s(state))

    def _stage(self, trial: _Trial, stage: str, state: ControlState, seconds: float) -> Decision:
        trial.stage, trial.ends_at = stage, state.time_s + seconds
        return self._wait(trial, state)

    def _wait(self, trial: _Trial, state: ControlState) -> Decision:
        what = f"trial {self.live_trials}" if trial.live else "what serves"
        reason = f"{what}, {trial.stage}: {trial.target.label()}"
        return Decision(trial.target, reason, max(trial.ends_at - state.time_s, _TICK_S))

    def _window_s(self, state: ControlState) -> float:
        rate = state.rates[0]
        return min(self.trial_requests / rate, self.trial_s) if rate else self.trial_s

    def _go_on(self, trial: _Trial, state: ControlState, piece: Interval | None) -> Decision:
        """What the trial waits for, or what comes after it."""
        measuring = trial.stage == "measurement"
        moved = state.configuration.canonical != trial.target.canonical
        if moved or (measuring and piece is None):
            trial.attempts += 1
            refused = piece is not None and not piece.plans and state.configuration == trial.source
            if refused or trial.attempts >= ATTEMPT_LIMIT:
                return self._finish(trial, None, state)
            return self._wait_for_transition(trial, state) if moved else self._measure(trial, state)
        if measuring and piece is not None:
            trial.parts.append(piece)
        if state.time_s < trial.ends_at - _TICK_S:
            return self._wait(trial, state)
        if measuring:
            merged = Interval.merge(trial.parts)
            return self._finish(trial, TrialFacts.of(merged, self.profile.application), state)
        late = piece is not None and piece.oldest_queued_s * 1000.0 > state.objective.sla_ms
        if late and trial.stage == "transition":
            return self._stage(trial, "backlog", state, self._window_s(state))
        return self._measure(trial, state)

    def _finish(self, trial: _Trial, facts: TrialFacts | None, state: ControlState) -> Decision:
        """Tell the search what the trial found and go on with it."""
        self._trial = None
        if facts is not None:
            self.remembered[self._key(trial.gpu, state)] = facts
        elif trial.live and state.configuration == trial.source:
            self.live_trials -= 1  # refused: it was never deployed
        if self._search is None:
            self._search = self._search_kind(self.space, self._rng, trial.gpu, facts)
        else:
            self._search.tell(
                trial.gpu, facts, objective=state.objective, intensity=state.intensity, live=True
            )
        return self._next(self._search, state)

    # -- what is known

    def _key(self, gpu: GpuConfiguration, state: ControlState) -> tuple[Graph, int]:
        return graph_of(gpu), sum(state.available)

    def _repeat(self, gpu: GpuConfiguration, state: ControlState) -> ClusterConfiguration:
        """The configuration on every available GPU, the others parked."""
        parked = GpuConfiguration()
        return ClusterConfiguration(tuple(gpu if usable else parked for usable in state.available))

    def _deployed(self, state: ControlState) -> GpuConfiguration:
        """The configuration most GPUs have now: BASE's where all are parked.

        In the middle of a transition, when that is no maximal layout, what was chosen last.
        """
        active = Counter(gpu for gpu in state.configuration.gpus if not gpu.parked)
        if not active:
            return self._chosen or self._base
        common = min(active, key=lambda gpu: (-active[gpu], gpu))
        return self._chosen if self._chosen and self.space.index(common) is None else common

    def _undisturbed(self, gpu: GpuConfiguration, state: ControlState) -> TrialFacts | None:
        """Facts of what is deployed from the last interval, where nothing else ran in it."""
        last = state.last
        target = self._repeat(gpu, state).canonical
        if last is None or last.plans or last.configuration.canonical != target:
            return None
        if state.configuration.canonical != target:
            return None
        return TrialFacts.of(last, self.profile.application)

    def _since_last_decision(self, state: ControlState) -> Interval | None:
        """What was observed since the last decision; None when that is not known."""
        if self._decided_at is None:
            return None
        if state.partial is not None:
            self._parts.append(state.partial)
            return state.partial if abs(state.partial.start - self._decided_at) <= _LATE_S else None
        parts, self._parts = self._parts, []
        last = state.last
        if last is None or abs(last.end - state.time_s) > _LATE_S:
            return None
        edges = [last.start, *(part.end for part in parts)]
        whole = all(abs(part.start - edge) <= _LATE_S for part, edge in zip(parts, edges, strict=False))
        if not whole or abs(edges[-1] - self._decided_at) > _LATE_S:
            return None
        return _rest(last, parts) if parts else last


def _rest(whole: Interval, parts: list[Interval]) -> Interval:
    """What is left of an interval after its first parts: the inverse of `Interval.merge`."""
    seen = Interval.merge(parts)
    answered = Counter(whole.answered)
    answered.subtract(seen.answered)
    return Interval(
        start=seen.end,
        duration_s=whole.end - seen.end,
        arrived=whole.arrived - seen.arrived,
        answered={name: count for name, count in answered.items() if count},
        timed_out=whole.timed_out - seen.timed_out,
        failed=whole.failed - seen.failed,
        queued=whole.queued,
        oldest_queued_s=whole.oldest_queued_s,
        latency=Histogram(whole.latency.counts - seen.latency.counts),
        energy=Energy(whole.energy.joules - seen.energy.joules, whole.energy.kind),
        configuration=whole.configuration,
        plans=whole.plans[len(seen.plans) :],
    )
