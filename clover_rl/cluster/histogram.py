"""Histogram: latencies counted in logarithmic bins, so that parts of an interval merge exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "BIN_SHIFT", "FIRST_BIN", "Histogram", "bin_edges_ms", "quantile_ms"]

SUB_BINS_LOG2 = 6
"""Each octave is cut into 64 equal bins: a bin is at most 1.6 % wide."""
BIN_SHIFT = 52 - SUB_BINS_LOG2
"""Shifting the bits of a float64 right by this leaves exponent and sub-bin: the bin, up to an offset."""
_LOWEST_OCTAVE, _HIGHEST_OCTAVE = -7, 21
FIRST_BIN = (1023 + _LOWEST_OCTAVE) << SUB_BINS_LOG2
BINS = (_HIGHEST_OCTAVE - _LOWEST_OCTAVE) << SUB_BINS_LOG2
"""Bins from 7.8 microseconds to 2 097 seconds; what lies outside counts in the first or last one."""


def bin_edges_ms() -> NDArray[np.float64]:
    """Lower edges of all bins and the upper edge of the last, ms, shape (BINS + 1,)."""
    bits = (np.arange(BINS + 1, dtype=np.int64) + FIRST_BIN) << BIN_SHIFT
    return bits.view(np.float64)


_EDGES = bin_edges_ms()


def quantile_ms(counts: NDArray[np.int64], q: float, beyond: int = 0) -> float:
    """Quantile of a histogram, interpolated linearly within its bin.

    Args:
        counts: requests per bin, shape (BINS,).
        q: which quantile, 0 to 1.
        beyond: requests that never got an answer and count as infinitely late.

    Returns:
        Latency in ms; 0 when nothing was counted, infinity when the quantile falls on an unanswered request.
    """
    total = int(counts.sum()) + beyond
    if total == 0:
        return 0.0
    rank = q * total
    cumulative = np.cumsum(counts)
    if rank > cumulative[-1] or not cumulative[-1]:
        return float("inf")
    index = int(np.searchsorted(cumulative, rank, side="left" if rank else "right"))
    below = float(cumulative[index - 1]) if index else 0.0
    inside = (rank - below) / float(counts[index]) if counts[index] else 0.0
    return float(_EDGES[index] + inside * (_EDGES[index + 1] - _EDGES[index]))


class Histogram:
    """Latency counts, ms, in logarithmic bins.

    Args:
        counts: requests per bin, shape (BINS,); all zero when left out.
    """

    __slots__ = ("counts",)

    def __init__(self, counts: NDArray[np.int64] | None = None) -> None:
        self.counts = np.zeros(BINS, np.int64) if counts is None else counts

    @property
    def total(self) -> int:
        """Requests counted."""
        return int(self.counts.sum())

    def add(self, latency_ms: float) -> None:
        """Count one request."""
        value = np.float64(max(latency_ms, 2.0**_LOWEST_OCTAVE))
        index = (int(value.view(np.int64)) >> BIN_SHIFT) - FIRST_BIN
        self.counts[min(max(index, 0), BINS - 1)] += 1

    def quantile_ms(self, q: float, beyond: int = 0) -> float:
        """See `quantile_ms`."""
        return quantile_ms(self.counts, q, beyond)

    def mean_ms(self) -> float:
        """Mean of the bins' centres, ms; 0 when empty."""
        total = self.total
        if not total:
            return 0.0
        return float(np.dot(self.counts, (_EDGES[:-1] + _EDGES[1:]) / 2) / total)

    def share_over(self, limit_ms: float) -> float:
        """Share of counted requests slower than `limit_ms`, resolved to the bin."""
        total = self.total
        if not total:
            return 0.0
        index = int(np.searchsorted(_EDGES[1:], limit_ms, side="right"))
        return float(self.counts[index:].sum() / total)

    def merged(self, others: Sequence[Histogram]) -> Histogram:
        """Sum of this histogram and others."""
        counts = self.counts.copy()
        for other in others:
            counts += other.counts
        return Histogram(counts)

    def sparse(self) -> list[list[int]]:
        """Non-empty bins as [[index, count], ...], for storage."""
        return [[int(i), int(self.counts[i])] for i in np.flatnonzero(self.counts)]

    @classmethod
    def from_sparse(cls, pairs: Sequence[Sequence[int]]) -> Histogram:
        """Inverse of `sparse`."""
        histogram = cls()
        for index, count in pairs:
            histogram.counts[index] = count
        return histogram

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and bool(np.array_equal(self.counts, other.counts))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram(total={self.total}, p95_ms={self.quantile_ms(0.95):.3g})"
