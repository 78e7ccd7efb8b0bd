"""Histogram: quantiles within a bin of the truth, exact merging and storage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.histogram import BINS, Histogram, bin_edges_ms

WIDEST_BIN = 1 / 64
latencies = st.lists(st.floats(0.01, 2e6), min_size=1, max_size=60)


def histogram_of(values: object) -> Histogram:
    histogram = Histogram()
    for value in np.asarray(values, np.float64):
        histogram.add(float(value))
    return histogram


@given(values=latencies, q=st.floats(0.01, 1.0))
def test_quantiles_lie_within_a_bin_of_the_order_statistic(values: list[float], q: float) -> None:
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert histogram_of(values).quantile_ms(q) == pytest.approx(exact, rel=WIDEST_BIN * 1.001)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
def test_quantiles_of_many_latencies_agree_with_numpy(q: float) -> None:
    values = np.random.default_rng(5).lognormal(3.0, 0.7, 20_000)
    assert histogram_of(values).quantile_ms(q) == pytest.approx(np.quantile(values, q), rel=WIDEST_BIN)


@given(values=latencies)
def test_the_mean_lies_within_half_a_bin(values: list[float]) -> None:
    assert histogram_of(values).mean_ms() == pytest.approx(np.mean(values), rel=WIDEST_BIN)


def test_every_latency_counts_in_the_bin_that_holds_it() -> None:
    edges = bin_edges_ms()
    assert edges.shape == (BINS + 1,)
    assert np.all(np.diff(edges) / edges[:-1] <= WIDEST_BIN)
    for index in (0, 1, 63, 64, 1000, BINS - 1):
        for value in (edges[index], np.nextafter(edges[index + 1], 0)):
            assert histogram_of([value]).sparse() == [[index, 1]]


def test_latencies_out_of_range_count_in_the_outer_bins() -> None:
    assert histogram_of([0.0, 1e-9]).sparse() == [[0, 2]]
    assert histogram_of([1e9, float("inf")]).sparse() == [[BINS - 1, 2]]


def test_nothing_counted_has_quantile_and_mean_zero() -> None:
    assert Histogram().quantile_ms(0.95) == 0.0
    assert Histogram().mean_ms() == 0.0
    assert Histogram().share_over(1.0) == 0.0
    assert Histogram().total == 0


@pytest.mark.parametrize(("beyond", "finite"), [(0, True), (5, True), (6, False), (1000, False)])
def test_unanswered_requests_are_infinitely_late(beyond: int, finite: bool) -> None:
    histogram = histogram_of(np.full(95, 10.0))
    assert np.isfinite(histogram.quantile_ms(0.95, beyond)) == finite


@given(counted=st.integers(1, 5000))
def test_exactly_five_percent_unanswered_still_has_a_p95(counted: int) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[700] = 19 * counted
    assert np.isfinite(Histogram(counts).quantile_ms(0.95, beyond=counted))


def test_only_unanswered_requests_have_no_finite_quantile() -> None:
    assert Histogram().quantile_ms(0.5, beyond=1) == float("inf")


def test_the_lowest_quantile_is_the_fastest_request() -> None:
    assert histogram_of([50.0, 60.0]).quantile_ms(0.0) == pytest.approx(50.0, rel=WIDEST_BIN)


def test_the_share_over_a_limit_leaves_out_what_is_faster() -> None:
    histogram = histogram_of([15.9, 16.1, 20.0, 40.0])
    assert histogram.share_over(16.0) == 0.75
    assert histogram.share_over(30.0) == 0.25
    assert histogram.share_over(1000.0) == 0.0
    assert histogram.share_over(0.001) == 1.0


@given(one=latencies, other=latencies, third=latencies)
def test_merging_equals_counting_together(one: list[float], other: list[float], third: list[float]) -> None:
    a, b, c = map(histogram_of, (one, other, third))
    together = histogram_of(one + other + third)
    assert a.merged([b, c]) == together
    assert a.merged([b]).merged([c]) == together
    assert c.merged([a, b]) == together
    assert a == histogram_of(one), "merging must leave its parts alone"


@given(values=latencies)
def test_sparse_storage_comes_back_as_it_was(values: list[float]) -> None:
    histogram = histogram_of(values)
    stored = json.loads(json.dumps(histogram.sparse()))
    assert Histogram.from_sparse(stored) == histogram
    assert sum(count for _, count in stored) == len(values)


def test_histograms_differ_by_their_counts() -> None:
    assert histogram_of([1.0]) != histogram_of([2.0])
    assert histogram_of([1.0]) != "histogram"
    assert repr(histogram_of([1.0])).startswith("Histogram(total=1, p95_ms=1")
