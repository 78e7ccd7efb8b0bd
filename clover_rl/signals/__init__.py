"""Signals: what varies in time (carbon intensity, load), recorded, generated or forecast."""

from __future__ import annotations

from clover_rl.signals.forecasts import Forecaster, Persistence, TypicalDay, forecast_matrix
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
    require_same_kind,
)
from clover_rl.signals.traces import TraceSignal

__all__ = [
    "AVERAGE_DIRECT",
    "AVERAGE_LIFE_CYCLE",
    "CARBON_UNIT",
    "LOAD_UNIT",
    "MARGINAL",
    "REQUESTS",
    "FloatArray",
    "Forecaster",
    "Persistence",
    "Signal",
    "TraceSignal",
    "TypicalDay",
    "forecast_matrix",
    "read_arrivals_csv",
    "read_carbon_csv",
    "read_load_csv",
    "require_same_kind",
]
