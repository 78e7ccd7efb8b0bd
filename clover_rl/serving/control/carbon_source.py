"""The carbon trace that a server follows: a file, or a generated one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import LEAD_S
from clover_rl.errors import InputError
from clover_rl.signals import TEST_ZONES, TraceSignal, generate_carbon

__all__ = ["carbon_trace"]

GENERATED_DAYS = 120.0


def carbon_trace(
    scenario: Scenario, path: Path | None, start_s: float, seed: int
) -> tuple[TraceSignal, float]:
    """A trace with its forecaster, and its time at the run's second 0.

    Args:
        scenario: kind and forecast.
        path: a carbon CSV; None takes the scenario's first, or generates GENERATED_DAYS of a grid that
            training never draws.
        start_s: seconds into the file, or after the generated trace's first day.
        seed: of the generated trace and of the forecaster.

    Raises:
        InputError: a wrong file, or a start beyond its end.
    """
    rng = np.random.default_rng([seed, 11])
    if path is None and scenario.carbon.files:
        path = scenario.path_of(scenario.carbon.files[0])
    if path is None:
        trace = generate_carbon(rng, days=GENERATED_DAYS, zones=TEST_ZONES, kind=scenario.carbon.kind)
        begin = LEAD_S + start_s
    else:
        trace = scenario.read_carbon(path)
        begin = trace.start_s + start_s
    if begin >= trace.end_s:
        raise InputError(
            f"the run would begin {start_s:g} s into a trace that ends before",
            where=str(path or "generated trace"),
            fix="use an earlier --start",
        )
    return trace.with_forecaster(scenario.forecaster(rng)), begin
