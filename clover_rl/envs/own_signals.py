"""Episodes drawn from the user's own traces, with a part that training never reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from clover_rl.errors import InputError
from clover_rl.signals import TraceSignal

__all__ = ["draw_own"]

DAY_S = 86_400.0


def draw_own(
    traces: Sequence[TraceSignal],
    *,
    train: bool,
    train_share: float,
    length_s: float,
    lead_s: float,
    rng: np.random.Generator,
    moment: datetime | None = None,
) -> tuple[TraceSignal, TraceSignal, float]:
    """One of the traces, and where an episode begins in it.

    Training sees the first `train_share` of a trace, cut off there: neither an episode nor a forecast reaches
    beyond. Testing begins after it, or anywhere where the share is 0; what lies before is known history.
    An episode begins on a point (or bin) of the trace, a day in where the trace is long enough for that.

    Args:
        traces: to choose from.
        train, train_share: which part.
        length_s: how long the episode is, s.
        lead_s: history wanted before it, s.
        rng: draws the trace and the start.
        moment: UTC time at which the episode's other signal begins: the same moment is taken where the trace
            has timestamps and covers it, else the same time of day where there is one.

    Returns:
        The trace to play; the part that a scale may be taken from (where there is one for training, that one,
        so that nothing held back is known); the start, s.

    Raises:
        InputError: the part is shorter than an episode.
    """
    whole = traces[int(rng.integers(len(traces)))]
    points = whole.times_s
    cut = float(points[np.searchsorted(points, whole.start_s + train_share * (whole.end_s - whole.start_s))])
    seen = whole.window(whole.start_s, cut) if cut > whole.start_s else whole
    trace = seen if train else whole
    first = trace.start_s if train else cut
    last = trace.end_s - length_s
    if last < first:
        part = "the part for training" if train else "the part for testing" if train_share else "the file"
        raise InputError(
            f"{part} covers {(trace.end_s - first) / 3600.0:g} h, "
            f"less than an episode of {length_s / 3600.0:g} h",
            where=whole.name,
            fix="use a longer file, a shorter episode or another `train_share`",
        )
    first = min(max(first, trace.start_s + lead_s), last)
    starts = trace.times_s[(trace.times_s >= first) & (trace.times_s <= last)]
    if not len(starts):
        starts = np.array([first])
    if moment is not None and trace.epoch is not None:
        wanted = (moment - trace.epoch).total_seconds()
        if first <= wanted <= last:
            return trace, seen, wanted
        alike = starts[np.isclose((starts - wanted + 1.0) % DAY_S, 1.0)]
        starts = alike if len(alike) else starts
    return trace, seen, float(starts[int(rng.integers(len(starts)))])
