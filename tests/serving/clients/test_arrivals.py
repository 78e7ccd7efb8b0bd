"""Arrivals: as many as the trace says, at the times it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clover_rl.errors import InputError
from clover_rl.serving.clients.arrivals import poisson_arrivals, trace_arrivals


def test_poisson_arrivals_follow_a_rate_that_changes_and_pauses() -> None:
    def rate(second: float) -> float:
        return 200.0 if second < 20.0 else 0.0 if second < 40.0 else 50.0

    times = np.array(list(poisson_arrivals(rate, 60.0, np.random.default_rng(3))))
    assert np.all(np.diff(times) >= 0)
    counts, _ = np.histogram(times, [0.0, 20.0, 41.0, 60.0])
    assert abs(counts[0] - 4000) < 4 * 4000**0.5
    assert counts[1] <= 60  # the rate is looked at once a second
    assert abs(counts[2] - 950) < 4 * 950**0.5


def test_counts_per_bin_become_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "load.csv"
    path.write_text("offset_s,requests\n0,600\n60,6000\n120,0\n180,600\n")
    times = np.array(list(trace_arrivals(path, 20.0, start_s=60.0, speed=3.0, scale=0.5, seed=1)))
    assert abs(len(times) - 3000) < 4 * 3000**0.5  # the bin of 6 000, half of them, in a third of its time
    assert times[-1] < 20.0
    with pytest.raises(InputError, match="the trace has 240 s and 300 s are asked for"):
        trace_arrivals(path, 100.0, speed=3.0)


def test_recorded_arrivals_are_replayed_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("offset_s,tokens\n0.5,7\n10,1\n10,2\n12,1\n99,1\n")
    assert list(trace_arrivals(path, 5.0, start_s=9.0, speed=2.0)) == [0.5, 0.5, 1.5]
    with pytest.raises(InputError, match="cannot be scaled"):
        trace_arrivals(path, 5.0, scale=2.0)
    with pytest.raises(InputError, match="the trace has 99 s"):
        trace_arrivals(path, 5.0, start_s=100.0)
    with pytest.raises(InputError):
        trace_arrivals(tmp_path / "missing.csv", 5.0)
