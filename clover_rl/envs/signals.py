"""EpisodeSignals: the carbon and the load of one episode or window, and where they come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS, RATE_LAGS
from clover_rl.envs.own_signals import draw_own
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.signals import (
    TEST_ZONES,
    TRAIN_ZONES,
    TraceSignal,
    forecast_matrix,
    generate_carbon,
    generate_load,
    require_kind,
    scale_to_peak,
)
from clover_rl.signals.feeds import CarbonFeed, LoadFeed

__all__ = ["LEAD_S", "EpisodeSignals", "SignalArrays", "Split", "draw_signals", "sample_signals"]

Split = Literal["train", "test"]

LEAD_S = 86_400.0
"""History before an episode's first decision, in seconds of the signals: the observation looks back a day."""
_HOUR_S = 3600.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EpisodeSignals:
    """Carbon and load over one episode.

    Attributes:
        carbon: gCO2/kWh over the signals' own time, its forecaster set.
        load: requests/s over the signals' own time, scaled to the cluster.
        start: first decision, in the carbon signal's time.
        load_start: the same moment in the load signal's time.
        load_factor: what the load as generated or read was multiplied by.
    """

    carbon: TraceSignal
    load: TraceSignal
    start: float
    load_start: float
    load_factor: float = 1.0

    @property
    def sha256(self) -> str:
        """Of all that a run sees of them: points, kinds, forecaster and start; not what they are called."""
        content = hashlib.sha256()
        for trace in (self.carbon, self.load):
            content.update(trace.times_s.tobytes() + trace.values.tobytes())
            about = [trace.kind, trace.interpolation, trace.end_s, str(trace.epoch), trace.utc_offset_h]
            content.update(repr([*about, trace.forecaster]).encode())
        content.update(repr([self.start, self.load_start]).encode())
        return content.hexdigest()

    def feeds(self, scenario: Scenario, warm_up: int = 0) -> tuple[CarbonFeed, LoadFeed]:
        """Both as a run sees them that decides for the first time after `warm_up` intervals.

        Raises:
            InputError: the intensity is of another kind than the scenario counts.
        """
        require_kind(self.carbon, scenario.carbon.kind, where=self.carbon.name)
        scale = scenario.time_scale
        lead = warm_up * scenario.interval_s * scale
        return (
            CarbonFeed(self.carbon, self.start - lead, scale),
            LoadFeed(self.load, self.load_start - lead, scale),
        )


@dataclass(frozen=True, slots=True)
class SignalArrays:
    """Signals sampled at the steps of an episode; T steps.

    Attributes:
        intensity: at decisions, shape (T + 1,).
        past: at the ages PAST_HOURS, shape (T + 1, 3).
        forecast: at the horizons FORECAST_HOURS, shape (T + 1, 4).
        mean_intensity: over each interval, shape (T,).
        hour_of_week: at decisions, shape (T + 1,).
        rate: mean over each interval, the RATE_LAGS ones before the episode first (where the load is not
            known that early, the oldest known), shape (RATE_LAGS + T,).
    """

    intensity: Floats
    past: Floats
    forecast: Floats
    mean_intensity: Floats
    hour_of_week: Floats
    rate: Floats


def draw_signals(
    scenario: Scenario,
    base_capacity: float,
    split: Split,
    days: float,
    rng: np.random.Generator,
    *,
    bin_s: float | None = None,
) -> EpisodeSignals:
    """Signals of one episode.

    Training draws from five grids and far beyond them, and load shapes at random; testing draws from the two
    grids that training never sees, as they are, or from files that the scenario names. Of files with a
    `train_share` training draws from that part, and testing from the rest. Training also moves the load's
    peak to 0.7 to 1.15 of the scenario's, so that a policy does not rely on it.

    Args:
        scenario: kinds, scales and forecast.
        base_capacity: BASE's capacity, requests/s.
        split: "train" or "test".
        days: length after the lead, in days of the signals.
        rng: draws everything.
        bin_s: bins of a generated load, s; the scenario's when left out.

    Raises:
        InputError: no such split, or a file that is wrong or too short.
    """
    if split not in ("train", "test"):
        raise InputError(f"unknown split `{split}`", fix="use train or test")
    train = split == "train"
    step = scenario.interval_s * scenario.time_scale
    length = days * 86_400.0 + step  # the last step may reach beyond the days
    total = days + LEAD_S / 86_400.0 + max(2.0 / 24.0, step / 86_400.0)
    start = load_start = LEAD_S
    if scenario.carbon.own(split):
        carbon, _, start = draw_own(
            scenario.carbon_traces,
            train=train,
            train_share=scenario.carbon.train_share,
            length_s=length,
            lead_s=LEAD_S,
            rng=rng,
        )
    else:
        carbon = generate_carbon(
            rng,
            days=total,
            zones=TRAIN_ZONES if train else TEST_ZONES,
            randomise=train,
            kind=scenario.carbon.kind,
        )
    if scenario.load.own(split):
        epoch = carbon.epoch if scenario.carbon.own(split) else None
        shape, scaled_by, load_start = draw_own(
            scenario.load_traces,
            train=train,
            train_share=scenario.load.train_share,
            length_s=length,
            lead_s=LEAD_S,
            rng=rng,
            moment=None if epoch is None else epoch + timedelta(seconds=start),
        )
    else:
        shape = scaled_by = generate_load(
            rng,
            days=total,
            bin_s=bin_s or scenario.load.bin_s,
            randomise=True,
            start_hour_of_week=carbon.hour_of_week(start - LEAD_S),
        )
    peak = scenario.load.peak_share * base_capacity
    if train:
        peak *= float(rng.uniform(0.7, 1.15))
    _, factor = scale_to_peak(scaled_by, peak)
    load = shape.scaled(factor)
    carbon = carbon.with_forecaster(scenario.forecaster(rng))
    return EpisodeSignals(carbon, load, start, load_start, factor)


def sample_signals(signals: EpisodeSignals, scenario: Scenario, steps: int) -> SignalArrays:
    """Signals at the steps of an episode.

    Raises:
        SignalEndError: they end before the episode does.
        InputError: the intensity is of another kind than the scenario counts.
    """
    require_kind(signals.carbon, scenario.carbon.kind, where=signals.carbon.name)
    step = scenario.interval_s * scenario.time_scale
    edges = signals.start + step * np.arange(steps + 1)
    carbon = signals.carbon
    first = carbon.start_s
    ages = np.array(PAST_HOURS)[:, None] * _HOUR_S
    past = carbon.values_at(np.maximum(edges - ages, first)).T
    horizons = np.array(FORECAST_HOURS) * _HOUR_S
    load_edges = signals.load_start + step * np.arange(-RATE_LAGS, steps + 1)
    unknown = int(np.searchsorted(load_edges, signals.load.start_s))
    rate = signals.load.means_between(load_edges[unknown:])
    if unknown:
        rate = np.concatenate([np.full(unknown, rate[0]), rate])
    return SignalArrays(
        intensity=carbon.values_at(edges),
        past=past,
        forecast=forecast_matrix(carbon, carbon.forecaster, edges, horizons),
        mean_intensity=carbon.means_between(edges),
        hour_of_week=carbon.hours_of_week(edges),
        rate=rate,
    )
