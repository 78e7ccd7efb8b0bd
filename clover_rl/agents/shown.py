"""Controllers that are shown less than there is: a constant intensity, or feeds that stand still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clover_rl.control.controller import Controller, Decision
from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS, ControlState

__all__ = ["BlindTwin", "StaleFeeds"]


class BlindTwin:
    """A controller shown one constant intensity, now, in the past and in every forecast.

    The clock stays, so that what a policy has learned of typical days is not taken from it.

    Args:
        controller: who decides.
        intensity: gCO2/kWh.
    """

    def __init__(self, controller: Controller, intensity: float) -> None:
        self.controller = controller
        self.intensity = intensity
        self.name = f"{controller.name}, blind"
        self.knows = f"{controller.knows}; shown a constant {intensity:.0f} gCO2/kWh"
        self.space_size = controller.space_size

    @property
    def live_trials(self) -> int:
        """The controller's."""
        return self.controller.live_trials

    def reset(self, seed: int) -> None:
        """The controller's."""
        self.controller.reset(seed)

    def decide(self, state: ControlState) -> Decision:
        """Ask the controller, with the intensity hidden."""
        shown = replace(
            state,
            intensity=self.intensity,
            intensity_past=(self.intensity,) * len(PAST_HOURS),
            intensity_forecast=(self.intensity,) * len(FORECAST_HOURS),
        )
        return self.controller.decide(shown)


class StaleFeeds:
    """A controller whose feeds of carbon and of load stand still now and then: it sees the last value known.

    What it measures itself in a live trial (`partial`) goes on, and so do clock and configuration.

    Args:
        controller: who decides.
        outages: (start, end) in seconds of the run, ascending.
    """

    def __init__(self, controller: Controller, outages: Sequence[tuple[float, float]]) -> None:
        self.controller = controller
        self.outages = tuple(outages)
        self.name = controller.name
        self.knows = f"{controller.knows}; {len(self.outages)} outages of its feeds"
        self.space_size = controller.space_size
        self._known: ControlState | None = None

    @property
    def live_trials(self) -> int:
        """The controller's."""
        return self.controller.live_trials

    def reset(self, seed: int) -> None:
        """Forget what was known."""
        self.controller.reset(seed)
        self._known = None

    def decide(self, state: ControlState) -> Decision:
        """Ask the controller, with what was known before the outage."""
        if self._known is None or not any(start <= state.time_s < end for start, end in self.outages):
            self._known = state
            return self.controller.decide(state)
        known = self._known
        return self.controller.decide(
            replace(
                state,
                intervals=known.intervals,
                intensity=known.intensity,
                intensity_past=known.intensity_past,
                intensity_forecast=known.intensity_forecast,
            )
        )
