"""Loads for clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clover_rl.signals import LOAD_UNIT, REQUESTS, TraceSignal

MakeLoad = Callable[..., TraceSignal]


@pytest.fixture(scope="session")
def load() -> MakeLoad:
    """A load of equal bins: rates in requests/s, width in s."""

    def make(*rates: float, bin_s: float = 1e6) -> TraceSignal:
        starts = bin_s * np.arange(len(rates), dtype=np.float64)
        return TraceSignal(
            starts, np.array(rates), REQUESTS, LOAD_UNIT, "load", "step", end_s=bin_s * len(rates)
        )

    return make
