"""Guarded: a controller around a controller; what the model says will break the SLA does not pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.scorer import ActionScorer
from clover_rl.control.state import ControlState
from clover_rl.simulation.model import ClusterModel, Prediction

__all__ = ["GuardSettings", "Guarded"]


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """When the guard steps in.

    Attributes:
        load_margin: proposals are checked at a load this share above the highest of the last two intervals.
        patience: intervals in a row with a broken SLA or too many failures before it falls back.
        failures: share of an interval's requests that may fail.
        rest: intervals that a fallback lasts.
    """

    load_margin: float = 0.05
    patience: int = 3
    failures: float = 0.02
    rest: int = 3


class Guarded:
    """Checks every proposal against the model, watches what really happens, and never raises.

    A proposal whose predicted p95 breaks the SLA is replaced by the best configuration of the catalogue that
    keeps it, or by the one with the largest capacity where none does. After `patience` bad intervals in a
    row it falls back to that choice by itself, with the load read at twice the margin, for `rest` intervals.
    An exception of the controller counts as a refused proposal.

    Args:
        controller: who proposes.
        model: what is believed of the cluster.
        timeout_s: a client stops waiting after this long.
        settings: when to step in.
    """

    def __init__(
        self,
        controller: Controller,
        model: ClusterModel,
        *,
        timeout_s: float,
        settings: GuardSettings | None = None,
    ) -> None:
        self.controller = controller
        self.model = model
        self.settings = settings or GuardSettings()
        self.name = controller.name
        self.knows = controller.knows
        self.space_size = controller.space_size
        self.interventions = 0
        self.predicted: Prediction | None = None
        self._scorer = ActionScorer(model, timeout_s)
        self._bad = 0
        self._resting = 0
        self._seen = float("-inf")

    @property
    def live_trials(self) -> int:
        """The controller's."""
        return self.controller.live_trials

    def reset(self, seed: int) -> None:
        """Forget everything, the controller too."""
        self.controller.reset(seed)
        self.interventions = 0
        self.predicted = None
        self._bad = self._resting = 0
        self._seen = float("-inf")

    def decide(self, state: ControlState) -> Decision:
        """The controller's decision, or a safe one."""
        self._watch(state)
        margin = self.settings.load_margin * (2.0 if self._resting else 1.0)
        rate = max(state.rates[:2]) * (1.0 + margin)
        if self._resting:
            if state.partial is None:
                self._resting -= 1
            decision = self._safe(state, rate, "fallback after intervals over the SLA")
        else:
            decision = self._proposal(state, rate)
        self.predicted = self.model.predict(decision.configuration, state.rates[0])
        return decision

    def _watch(self, state: ControlState) -> None:
        """Count bad intervals in a row, each once."""
        last = state.last
        if last is None or last.end <= self._seen:
            return
        self._seen = last.end
        failed = (last.failed + last.timed_out) / max(last.arrived, 1)
        bad = last.p95_ms > state.objective.sla_ms or failed > self.settings.failures
        self._bad = self._bad + 1 if bad and last.arrived else 0
        if self._bad >= self.settings.patience:
            self._bad, self._resting = 0, self.settings.rest

    def _proposal(self, state: ControlState, rate: float) -> Decision:
        try:
            decision = self.controller.decide(state)
            decision.configuration.check(self.model.profile)
            uses = decision.configuration.active
            refused = "it uses GPUs that are not available" if uses > sum(state.available) else None
            prediction = self.model.predict(decision.configuration, rate)
        except Exception as error:  # whatever a controller does, the service goes on
            return self._safe(state, rate, f"the controller failed ({type(error).__name__}: {error})")
        if refused is None and prediction.p95_ms > state.objective.sla_ms:
            refused = (
                f"predicted p95 {prediction.p95_ms:.0f} ms at {rate:.1f}/s is over the SLA of "
                f"{state.objective.sla_ms:.0f} ms"
            )
        if refused is None:
            return decision
        safe = self._safe(state, rate, f"refused ({decision.reason}): {refused}")
        return Decision(safe.configuration, safe.reason, decision.review_after_s)

    def _safe(self, state: ControlState, rate: float, why: str) -> Decision:
        self.interventions += 1
        return Decision(self._safest(state, rate), f"guard: {why}")

    def _safest(self, state: ControlState, rate: float) -> ClusterConfiguration:
        scores = self._scorer.scores(state, rate, state.intensity)
        table = self.model.table
        steady = np.array([self.model.predict(c, rate).p95_ms for c in self.model.catalogue.configurations])
        fine = np.isfinite(scores) & (steady <= state.objective.sla_ms)
        if fine.any():
            return self.model.catalogue[int(np.where(fine, scores, -np.inf).argmax())]
        allowed = np.where(np.isfinite(scores), table.capacity, -np.inf)
        return self.model.catalogue[int(allowed.argmax())]
