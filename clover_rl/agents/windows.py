"""Windows: the signals that controllers are compared on, from files or generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import EpisodeSignals, Split, draw_signals
from clover_rl.errors import InputError
from clover_rl.signals import TraceSignal, read_load_csv, scale_to_peak
from clover_rl.simulation.model import ClusterModel

__all__ = ["Window", "file_windows", "generated_windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of signals.

    Attributes:
        carbon, load: what they are called in reports.
        signals: the signals.
        steps: intervals scored.
        seed: of arrivals, the same for every controller.
    """

    carbon: str
    load: str
    signals: EpisodeSignals
    steps: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """What a result file's row says of it."""
        carbon = self.signals.carbon
        start = carbon.epoch and carbon.epoch + timedelta(seconds=self.signals.start)
        return {
            "carbon": self.carbon,
            "load": self.load,
            "start_utc": start.isoformat() if start else None,
            "load_factor": self.signals.load_factor,
            "steps": self.steps,
        }


def generated_windows(
    scenario: Scenario, model: ClusterModel, *, count: int, days: float, split: Split, seed: int
) -> list[Window]:
    """Windows drawn as episodes are: the split decides from which grids, or part of the scenario's own files.

    Raises:
        InputError: fewer than one window, or one too short for a step.
    """
    if count < 1:
        raise InputError(f"{count} windows are none", fix="ask for one or more")
    steps = _steps(scenario, days)
    windows = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        signals = draw_signals(scenario, model.baseline.capacity, split, days, rng)
        load = signals.load.name if scenario.load.own(split) else f"generated {index}"
        windows.append(Window(signals.carbon.name, load, signals, steps, seed * 1000 + index))
    return windows


def _steps(scenario: Scenario, days: float) -> int:
    """Whole intervals in a number of days; raises InputError where there is none."""
    if not 0.0 < days < math.inf:
        raise InputError(f"a window of {days:g} days", fix="use a number of days above 0")
    steps = int(days * 86_400.0 / (scenario.interval_s * scenario.time_scale))
    if steps < 1:
        raise InputError(f"a window of {days:g} days has no step", fix="make it longer")
    return steps


def file_windows(
    scenario: Scenario,
    model: ClusterModel,
    *,
    carbon: Sequence[Path],
    load: Sequence[Path],
    start_s: float,
    days: float,
    seed: int,
) -> list[Window]:
    """One window for each pair of a carbon file and a load file.

    The load's offset 0 is the window's start, `start_s` into the carbon file; the first interval warms up.
    The load is scaled so that the 99th percentile of the whole file is the scenario's share of BASE's
    capacity. A window is as long as asked, or as long as its files allow.

    Raises:
        InputError: a wrong file, or one that covers no step.
    """
    windows = []
    loads = [read_load_csv(path) for path in load]
    for path in carbon:
        trace = scenario.read_carbon(path)
        trace = trace.with_forecaster(scenario.forecaster(np.random.default_rng([seed, 7])))
        for raw, load_path in zip(loads, load, strict=True):
            scaled, factor = scale_to_peak(raw, scenario.load.peak_share * model.baseline.capacity)
            windows.append(
                _window(scenario, trace, scaled, factor, start_s, days, seed, path.stem, load_path.stem)
            )
    return windows


def _window(
    scenario: Scenario,
    carbon: TraceSignal,
    load: TraceSignal,
    factor: float,
    start_s: float,
    days: float,
    seed: int,
    carbon_name: str,
    load_name: str,
) -> Window:
    step = scenario.interval_s * scenario.time_scale
    begin = carbon.start_s + start_s
    if not 0.0 <= start_s < carbon.end_s - carbon.start_s:
        raise InputError(
            f"the window starts {start_s:g} s into a trace of {carbon.end_s - carbon.start_s:g} s",
            where=carbon_name,
            fix="use a --start within it",
        )
    available = min(carbon.end_s - begin, load.end_s - load.start_s)
    steps = min(_steps(scenario, days), int(available / step + 1e-9) - 1)
    if steps < 1:
        raise InputError(
            f"the signals cover {available:g} s, less than a warm-up and one interval of {step:g} s",
            where=f"{carbon_name}, {load_name}",
            fix="use longer files or an earlier --start",
        )
    signals = EpisodeSignals(carbon, load, begin + step, load.start_s + step, factor)
    return Window(carbon_name, load_name, signals, steps, seed)
