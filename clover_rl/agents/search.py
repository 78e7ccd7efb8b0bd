"""SearchController: exhaustive search of the table at every interval, with a load forecast."""

from __future__ import annotations

from clover_rl.agents.load_forecasts import LoadForecast, load_forecast
from clover_rl.control.controller import Decision
from clover_rl.control.scorer import ActionScorer
from clover_rl.control.state import ControlState
from clover_rl.simulation.model import ClusterModel

__all__ = ["SearchController"]


class SearchController:
    """The honest rival: it knows what a policy knows, and the whole table.

    Args:
        model: what is believed of the cluster.
        timeout_s: a client stops waiting after this long.
        margin: see ActionScorer; tuned on training windows.
        forecast: of the load; persistence when left out.
        intensity: taken for the carbon intensity, gCO2/kWh, whatever it is: the carbon-blind twin.
    """

    def __init__(
        self,
        model: ClusterModel,
        *,
        timeout_s: float,
        margin: float = 0.0,
        forecast: LoadForecast | None = None,
        intensity: float | None = None,
    ) -> None:
        self.forecast = forecast or load_forecast("persistence", 1.0)
        self.intensity = intensity
        kind = self.forecast.name
        suffix = "" if kind == "persistence" else f"-{kind}"
        self.name = "search-blind" if intensity is not None else f"search{suffix}"
        sees = "one constant intensity" if intensity is not None else "the present intensity"
        self.knows = f"the table, a {kind} forecast of the load, {sees}"
        self.space_size = len(model.catalogue)
        self.live_trials = 0
        self.scorer = ActionScorer(model, timeout_s, margin)

    def reset(self, seed: int) -> None:
        """Forget what the forecast has learned."""
        self.forecast.reset()

    def decide(self, state: ControlState) -> Decision:
        """The best configuration if the load becomes what is forecast."""
        (rate,) = self.forecast.rates(state, 1)
        intensity = state.intensity if self.intensity is None else self.intensity
        return Decision(self.scorer.best(state, rate, intensity), f"best on the table at {rate:.1f}/s")
