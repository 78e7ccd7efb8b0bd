"""Signals: what varies in time (carbon intensity, load), recorded, generated or forecast."""

from __future__ import annotations

from clover_rl.signals.blurred_truth import CARBONCAST_MAPE_BY_DAY, BlurredTruth
from clover_rl.signals.carbon_generator import generate_carbon
from clover_rl.signals.forecasts import Forecaster, Persistence, TypicalDay, forecast_matrix
from clover_rl.signals.load_generator import generate_load, scale_to_peak
from clover_rl.signals.load_shape import LOAD_RANGES, LoadShape
from clover_rl.signals.readers import read_arrivals_csv, read_carbon_csv, read_load_csv
from clover_rl.signals.signal import (
    AVERAGE_DIRECT,
    AVERAGE_LIFE_CYCLE,
    CARBON_UNIT,
    LOAD_UNIT,
    MARGINAL,
    REQUESTS,
    FloatArray,
    Signal,
    require_kind,
    require_same_kind,
)
from clover_rl.signals.traces import TraceSignal
from clover_rl.signals.typical_days import SEASONS, TEST_ZONES, TRAIN_ZONES

__all__ = [
    "AVERAGE_DIRECT",
    "AVERAGE_LIFE_CYCLE",
    "CARBONCAST_MAPE_BY_DAY",
    "CARBON_UNIT",
    "LOAD_RANGES",
    "LOAD_UNIT",
    "MARGINAL",
    "REQUESTS",
    "SEASONS",
    "TEST_ZONES",
    "TRAIN_ZONES",
    "BlurredTruth",
    "FloatArray",
    "Forecaster",
    "LoadShape",
    "Persistence",
    "Signal",
    "TraceSignal",
    "TypicalDay",
    "forecast_matrix",
    "generate_carbon",
    "generate_load",
    "read_arrivals_csv",
    "read_carbon_csv",
    "read_load_csv",
    "require_kind",
    "require_same_kind",
    "scale_to_peak",
]
