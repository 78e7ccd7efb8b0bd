"""References that know more than a controller can: the oracle."""

from __future__ import annotations

from clover_rl.control.controller import Decision
from clover_rl.control.scorer import ActionScorer
from clover_rl.control.state import ControlState
from clover_rl.signals.feeds import CarbonFeed, LoadFeed
from clover_rl.simulation.model import ClusterModel

__all__ = ["OracleController"]


class OracleController:
    """Exhaustive search that is told the interval's mean load and intensity before it begins.

    It is no bound: it looks one interval ahead and trusts the table, with a margin for what chance does to
    the p95 within an interval.

    Args:
        model: what is believed of the cluster.
        carbon, load: the signals of the run.
        timeout_s: a client stops waiting after this long.
        margin: see ActionScorer; tuned on training windows.
    """

    def __init__(
        self,
        model: ClusterModel,
        *,
        carbon: CarbonFeed,
        load: LoadFeed,
        timeout_s: float,
        margin: float,
    ) -> None:
        self.name = "oracle"
        self.knows = "the table, the coming interval's mean load and intensity"
        self.space_size = len(model.catalogue)
        self.live_trials = 0
        self.carbon, self.load = carbon, load
        self.scorer = ActionScorer(model, timeout_s, margin)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, state: ControlState) -> Decision:
        """The best configuration for what is about to happen."""
        end = state.time_s + state.interval_s
        rate = self.load.rate_over(state.time_s, end)
        intensity = self.carbon.mean_over(state.time_s, end)
        return Decision(
            self.scorer.best(state, rate, intensity), f"best on the table at {rate:.1f}/s, foreseen"
        )
