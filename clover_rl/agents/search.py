"""SearchController: exhaustive search of the table at every interval, with a load forecast."""

from __future__ import annotations

from clover_rl.control.controller import Decision
from clover_rl.control.scorer import ActionScorer
from clover_rl.control.state import ControlState
from clover_rl.simulation.model import ClusterModel

__all__ = ["SearchController"]


class SearchController:
    """The honest rival: it knows what a policy knows, and the whole table.

    The load is forecast by persistence (the last completed interval), the intensity is the present one.

    Args:
        model: what is believed of the cluster.
        timeout_s: a client stops waiting after this long.
        margin: see ActionScorer; tuned on training windows.
    """

    def __init__(self, model: ClusterModel, *, timeout_s: float, margin: float = 0.0) -> None:
        self.name = "search"
        self.knows = "the table, the last interval's load, the present intensity"
        self.live_trials = 0
        self.scorer = ActionScorer(model, timeout_s, margin)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, state: ControlState) -> Decision:
        """The best configuration if the load stays as it was."""
        rate = state.rates[0]
        return Decision(self.scorer.best(state, rate, state.intensity), f"best on the table at {rate:.1f}/s")
