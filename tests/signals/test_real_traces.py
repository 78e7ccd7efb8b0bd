"""The recorded traces beside the repository: every one of them reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clover_rl.signals import BlurredTruth, read_arrivals_csv, read_carbon_csv, read_load_csv

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded traces (../shared/data) are not here")


def test_every_recorded_carbon_trace_reads() -> None:
    paths = sorted((DATA / "carbon").glob("*.csv"))
    assert paths
    for path in paths:
        trace = read_carbon_csv(path)
        assert 10.0 < trace.mean_over(0.0, trace.end_s) < 1000.0, path.name
        assert trace.end_s >= 48 * 3600.0


def test_every_recorded_load_reads_as_bins_or_as_arrivals() -> None:
    for path in sorted((DATA / "workload").glob("*.csv")):
        if "arrivals" in path.stem:
            arrivals = read_arrivals_csv(path)
            assert len(arrivals) > 1000
            assert (np.diff(arrivals) >= 0.0).all()
        else:
            assert read_load_csv(path).values.max() > 0.0


def test_arrivals_and_their_one_second_bins_agree() -> None:
    trace = read_load_csv(DATA / "workload" / "azure_llm_2023_conv_1s.csv")
    arrivals = read_arrivals_csv(DATA / "workload" / "azure_llm_2023_conv_arrivals.csv")
    counts, _ = np.histogram(arrivals, bins=np.append(trace.times_s, trace.end_s))
    assert counts.sum() == len(arrivals)
    assert np.abs(counts - trace.values).sum() <= 0.01 * len(arrivals)


def test_the_blurred_truth_is_as_wrong_on_a_real_year_as_the_forecast_it_imitates() -> None:
    trace = read_carbon_csv(DATA / "carbon" / "carboncast_CISO_2021_direct.csv", kind="average direct")
    issued = 86400.0 * np.arange(340, dtype=np.float64)
    horizons = 3600.0 * np.arange(1, 97, dtype=np.float64)
    truth = trace.values_at(issued[:, None] + horizons)
    forecast = np.stack([BlurredTruth(seed).matrix(trace, issued, horizons) for seed in range(4)])
    by_day = np.abs(forecast / truth - 1.0).reshape(-1, 4, 24).mean(axis=(0, 2))
    assert by_day == pytest.approx((0.075, 0.171, 0.228, 0.252), rel=0.15)
