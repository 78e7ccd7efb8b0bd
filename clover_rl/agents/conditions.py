"""Conditions: what is otherwise in a run than the controllers were told; those of the robustness table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from clover_rl.agents.windows import Window
from clover_rl.envs.core import perturbed
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals
from clover_rl.signals import TraceSignal
from clover_rl.simulation.model import ClusterModel
from clover_rl.simulation.physics import Physics

__all__ = ["PLAIN", "ROBUST", "Conditions", "constant_carbon"]

DAY_S = 86_400.0
_BURSTS, _OUTAGES = 11, 12


@dataclass(frozen=True, slots=True)
class Conditions:
    """Departures of a run from what the controllers' model and feeds say.

    Attributes:
        blind: the controller is shown the window's mean intensity, constant; scored with the true one.
        service, energy: factors on the true service times and energies above idle, unknown to the model.
        bursts_per_day: added to the load, at times drawn once for each window, each of `burst_minutes` at
            `burst_factor` times the load.
        burst_factor, burst_minutes: of these.
        outage_hours: once a day, at an hour drawn once for each window, the feeds of carbon and load stand
            still for so long; the controller sees the last value, the score uses the truth.
    """

    blind: bool = False
    service: float = 1.0
    energy: float = 1.0
    bursts_per_day: float = 0.0
    burst_factor: float = 1.5
    burst_minutes: float = 15.0
    outage_hours: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether nothing departs."""
        return not self.to_dict()

    @property
    def name(self) -> str:
        """For tables."""
        parts = []
        if self.blind:
            parts.append("blind")
        if self.service != 1.0 or self.energy != 1.0:
            parts.append(f"service x {self.service:g}, energy x {self.energy:g}")
        if self.bursts_per_day:
            parts.append(
                f"{self.bursts_per_day:g} bursts a day of {self.burst_minutes:g} min x {self.burst_factor:g}"
            )
        if self.outage_hours:
            parts.append(f"feeds out for {self.outage_hours:g} h a day")
        return "; ".join(parts) or "as modelled"

    def to_dict(self) -> dict[str, Any]:
        """What departs, as JSON values."""
        content = asdict(self)
        plain = {field.name: field.default for field in fields(self)}
        departs = {name for name, value in content.items() if value != plain[name]}
        if not self.bursts_per_day:
            departs -= {"burst_factor", "burst_minutes"}
        elif departs:
            departs |= {"burst_factor", "burst_minutes"}
        return {name: content[name] for name in content if name in departs}

    def window(self, window: Window, scenario: Scenario) -> Window:
        """The window as it really is: with the bursts."""
        if not self.bursts_per_day:
            return window
        signals = window.signals
        step = scenario.interval_s * scenario.time_scale
        length = window.steps * step
        rng = np.random.default_rng([window.seed, _BURSTS])
        count = int(rng.poisson(self.bursts_per_day * length / DAY_S))
        starts = np.sort(signals.load_start + rng.uniform(0.0, length, count))
        load = _with_bursts(signals.load, starts, 60.0 * self.burst_minutes, self.burst_factor)
        return replace(window, signals=replace(signals, load=load))

    def physics(self, model: ClusterModel) -> Physics:
        """What really holds."""
        if self.service == self.energy == 1.0:
            return model.physics
        return Physics(perturbed(model.profile, self.service, self.energy, 1.0))

    def outages(self, window: Window, scenario: Scenario) -> list[tuple[float, float]]:
        """When the feeds stand still, (start, end) in seconds of the run."""
        if not self.outage_hours:
            return []
        first = scenario.interval_s  # a run warms up for one interval
        day = DAY_S / scenario.time_scale
        length = self.outage_hours * 3600.0 / scenario.time_scale
        days = max(int(np.ceil(window.steps * scenario.interval_s / day)), 1)
        rng = np.random.default_rng([window.seed, _OUTAGES])
        # an hour in at the earliest, so that there is a last value
        starts = [
            first + n * day + rng.uniform(day / 24.0, max(day - length, day / 12.0)) for n in range(days)
        ]
        return [(start, start + length) for start in starts]


PLAIN = Conditions()
"""As modelled."""

ROBUST = (
    PLAIN,
    *(Conditions(service=factor, energy=factor) for factor in (1.1, 1.2, 0.9, 0.8)),
    Conditions(bursts_per_day=8.0),
    Conditions(outage_hours=4.0),
)
"""Rows of the robustness table."""


def _with_bursts(load: TraceSignal, starts: Any, length_s: float, factor: float) -> TraceSignal:
    ends = np.minimum(starts + length_s, load.end_s)
    edges = np.concatenate((load.times_s, starts, ends))
    times = np.unique(edges[(edges >= load.start_s) & (edges < load.end_s)])
    inside = ((times[:, None] >= starts) & (times[:, None] < ends)).any(axis=1)
    values = load.values_at(times) * np.where(inside, factor, 1.0)
    return replace(load, times_s=times, values=values, end_s=load.end_s)


def constant_carbon(signals: EpisodeSignals, length_s: float) -> tuple[EpisodeSignals, float]:
    """Signals with the window's mean intensity all the time, and that mean, gCO2/kWh."""
    carbon = signals.carbon
    mean = carbon.mean_over(signals.start, signals.start + length_s)
    flat = replace(carbon, values=np.full(len(carbon.values), mean))
    return replace(signals, carbon=flat), mean
