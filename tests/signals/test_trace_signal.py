"""Reading a trace: between points, over windows, and not past its end."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.carbon import IntensityKind
from clover_rl.errors import InputError, SignalEndError
from clover_rl.signals import (
    AVERAGE_DIRECT,
    AVERAGE_LIFE_CYCLE,
    CARBON_UNIT,
    LOAD_UNIT,
    MARGINAL,
    REQUESTS,
    FloatArray,
    Persistence,
    Signal,
    TraceSignal,
    require_kind,
    require_same_kind,
)
from clover_rl.signals.traces import Interpolation


def array(*numbers: float) -> FloatArray:
    return np.array(numbers, dtype=np.float64)


def carbon(values: list[float], *, step_s: float = 3600.0, epoch: datetime | None = None) -> TraceSignal:
    times = array(*(step_s * i for i in range(len(values))))
    return TraceSignal(
        times, np.array(values), AVERAGE_LIFE_CYCLE, CARBON_UNIT, "grid", "linear", epoch=epoch
    )


def load(values: list[float], *, bin_s: float = 600.0) -> TraceSignal:
    times = array(*(bin_s * i for i in range(len(values))))
    return TraceSignal(times, np.array(values), REQUESTS, LOAD_UNIT, "load", "step")


@st.composite
def traces(draw: st.DrawFn) -> TraceSignal:
    widths = draw(st.lists(st.floats(1.0, 5000.0), min_size=2, max_size=20))
    times = draw(st.floats(0.0, 1e4)) + np.concatenate(([0.0], np.cumsum(widths)))
    values = draw(st.lists(st.floats(0.0, 1e4), min_size=len(times), max_size=len(times)))
    interpolation: Interpolation = draw(st.sampled_from(("linear", "step")))
    return TraceSignal(times, np.array(values), "kind", "unit", "drawn", interpolation)


def test_a_trace_is_a_signal() -> None:
    assert isinstance(carbon([1.0, 2.0]), Signal)


def test_carbon_is_linear_between_points_and_covers_its_last_point() -> None:
    trace = carbon([100.0, 200.0, 50.0])
    assert trace.at(0.0) == 100.0
    assert trace.at(1800.0) == 150.0
    assert trace.at(5400.0) == 125.0
    assert trace.at(7200.0) == 50.0
    assert trace.end_s == 7200.0


def test_load_is_constant_within_a_bin_and_covers_its_last_bin() -> None:
    trace = load([3.0, 5.0])
    assert [trace.at(t) for t in (0.0, 599.9, 600.0, 1199.0, 1200.0)] == [3.0, 3.0, 5.0, 5.0, 5.0]
    assert trace.end_s == 1200.0


@pytest.mark.parametrize("t", [-1e-9, 7200.0001, 1e9, float("nan"), float("inf")])
def test_no_value_outside_the_trace(t: float) -> None:
    trace = carbon([100.0, 200.0, 50.0])
    for ask in (trace.at, lambda t: trace.values_at([0.0, t]), lambda t: trace.forecast(t, 3600.0, 300.0)):
        with pytest.raises(SignalEndError, match="covers 0 to 7200 s"):
            ask(t)
    with pytest.raises(SignalEndError):
        trace.window(0.0, t if t > 0 else 7201.0)


@given(traces(), st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_many_values_equal_single_ones_bit_by_bit(trace: TraceSignal, shares: list[float]) -> None:
    times = [min(trace.start_s + share * (trace.end_s - trace.start_s), trace.end_s) for share in shares]
    times += trace.times_s.tolist()
    assert trace.values_at(times).tolist() == [trace.at(t) for t in times]
    assert trace.values_at(trace.times_s).tolist() == trace.values.tolist()
    assert trace.hours_of_week(times).tolist() == [trace.hour_of_week(t) for t in times]


@given(traces(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_mean_is_the_exact_integral(trace: TraceSignal, a: float, b: float) -> None:
    span = trace.end_s - trace.start_s
    t0, t1 = sorted((trace.start_s + 0.999 * a * span, trace.start_s + 0.999 * b * span))
    cuts = np.unique(np.concatenate(([t0], trace.times_s[(trace.times_s > t0) & (trace.times_s < t1)], [t1])))
    # Between two cuts both interpolations are straight, so the value amid them is their mean.
    pieces = [(end - start) * trace.at(0.5 * (start + end)) for start, end in pairwise(cuts.tolist())]
    expected = sum(pieces) / (t1 - t0) if t1 - t0 > 1.0 else trace.at(t0)
    if t1 - t0 > 1.0:
        assert trace.mean_over(t0, t1) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert trace.mean_over(t0, t0) == trace.at(t0)


def test_means_between_edges_equal_single_means() -> None:
    for trace in (carbon([100.0, 200.0, 50.0, 75.0]), load([3.0, 5.0, 0.0, 8.0])):
        edges = np.linspace(0.0, trace.end_s, 14)
        singles = [trace.mean_over(a, b) for a, b in pairwise(edges.tolist())]
        assert trace.means_between(edges).tolist() == singles
        with pytest.raises(InputError, match="ascend"):
            trace.means_between([10.0, 5.0])
        with pytest.raises(SignalEndError):
            trace.means_between([0.0, trace.end_s + 1.0])


def test_segments_are_the_bins_clipped_to_the_window() -> None:
    trace = load([3.0, 5.0, 7.0])
    assert trace.segments(0.0, 1800.0) == [(0.0, 600.0, 3.0), (600.0, 1200.0, 5.0), (1200.0, 1800.0, 7.0)]
    assert trace.segments(500.0, 700.0) == [(500.0, 600.0, 3.0), (600.0, 700.0, 5.0)]
    assert trace.segments(600.0, 900.0) == [(600.0, 900.0, 5.0)]
    assert trace.segments(900.0, 900.0) == []
    assert trace.segments(1800.0, 1800.0) == []


@given(traces(), st.floats(0.0, 0.999), st.floats(0.0, 0.999))
def test_segments_tile_the_window_and_hold_its_requests(trace: TraceSignal, a: float, b: float) -> None:
    if trace.interpolation == "linear":
        with pytest.raises(InputError, match="no bins"):
            trace.segments(trace.start_s, trace.end_s)
        return
    span = trace.end_s - trace.start_s
    t0, t1 = sorted((trace.start_s + a * span, trace.start_s + b * span))
    pieces = trace.segments(t0, t1)
    if pieces:
        assert (pieces[0][0], pieces[-1][1]) == (t0, t1)
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
    requests = sum((end - start) * rate for start, end, rate in pieces)
    assert requests == pytest.approx(trace.mean_over(t0, t1) * (t1 - t0), rel=1e-9, abs=1e-4)


def test_segments_refuse_windows_they_cannot_fill() -> None:
    trace = load([3.0, 5.0])
    for t0, t1 in ((-1.0, 5.0), (0.0, 1201.0), (1300.0, 1400.0)):
        with pytest.raises(SignalEndError):
            trace.segments(t0, t1)
    with pytest.raises(InputError, match="ends before it starts"):
        trace.segments(100.0, 50.0)


@given(traces(), st.floats(0.0, 0.9), st.floats(0.01, 0.1), st.floats(0.0, 1.0))
def test_a_window_reads_like_the_trace_it_was_cut_from(
    trace: TraceSignal, start: float, width: float, share: float
) -> None:
    span = trace.end_s - trace.start_s
    t0, t1 = trace.start_s + start * span, trace.start_s + (start + width) * 0.999 * span
    if t1 <= t0:
        return
    cut = trace.window(t0, t1)
    assert cut.start_s == 0.0
    assert cut.end_s == t1 - t0
    assert cut.mean_over(0.0, cut.end_s) == pytest.approx(trace.mean_over(t0, t1), rel=1e-6, abs=1e-6)
    t = share * cut.end_s
    if trace.interpolation == "linear":
        assert cut.at(t) == pytest.approx(trace.at(min(t0 + t, t1)), rel=1e-9, abs=1e-6)


def test_a_window_keeps_the_clock_right() -> None:
    epoch = datetime(2021, 1, 1, tzinfo=UTC)
    trace = carbon([1.0, 2.0, 3.0, 4.0], epoch=epoch)
    cut = trace.window(5400.0, 9000.0)
    assert cut.epoch == epoch + timedelta(minutes=90)
    assert cut.hour_of_week(600.0) == pytest.approx(trace.hour_of_week(6000.0))
    assert cut.times_s.tolist() == [0.0, 1800.0, 3600.0]
    assert cut.values.tolist() == [2.5, 3.0, 3.5]
    with pytest.raises(InputError, match="empty"):
        trace.window(5.0, 5.0)


def test_hour_of_week_is_local_and_wraps_on_monday() -> None:
    friday = datetime(2021, 1, 1, tzinfo=UTC)
    trace = TraceSignal(
        array(0.0, 3600.0), array(1.0, 1.0), "k", "u", "n", "linear", epoch=friday, utc_offset_h=-8.0
    )
    assert trace.hour_of_week(0.0) == 3 * 24 + 16.0
    assert trace.hour_of_week(3.0 * 86400.0 + 9.0 * 3600.0) == 1.0
    assert carbon([1.0, 2.0]).hour_of_week(169.0 * 3600.0) == 1.0


def test_scaling_multiplies_values_and_nothing_else() -> None:
    trace = load([3.0, 5.0]).scaled(2.0)
    assert trace.values.tolist() == [6.0, 10.0]
    assert trace.end_s == 1200.0
    for factor in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="scaled"):
            trace.scaled(factor)


def test_a_trace_cannot_be_changed_from_outside() -> None:
    values = np.array([1.0, 2.0])
    trace = TraceSignal(np.array([0.0, 1.0]), values, "k", "u", "n", "linear")
    values[0] = 9.0
    assert trace.at(0.0) == 1.0
    with pytest.raises(ValueError, match="read-only"):
        trace.values[0] = 9.0


def test_a_trace_survives_pickling() -> None:
    trace = carbon([100.0, 200.0], epoch=datetime(2021, 1, 1, tzinfo=UTC))
    again = pickle.loads(pickle.dumps(trace))
    assert again.at(1800.0) == trace.at(1800.0)
    assert again.epoch == trace.epoch


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([], [], "shapes"),
        ([0.0, 1.0], [1.0], "shapes"),
        ([0.0, float("nan")], [1.0, 1.0], "finite"),
        ([0.0, 1.0], [1.0, float("inf")], "finite"),
        ([0.0, 0.0], [1.0, 1.0], "ascend"),
        ([1.0, 0.0], [1.0, 1.0], "ascend"),
        ([0.0, 1.0], [1.0, -1.0], "negative"),
    ],
)
def test_arrays_that_are_no_trace_are_refused(times: list[float], values: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TraceSignal(array(*times), array(*values), "k", "u", "n", "step", end_s=10.0)


def test_an_end_or_epoch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="last bin starts"):
        TraceSignal(array(0.0, 1.0), array(1.0, 1.0), "k", "u", "n", "step", end_s=1.0)
    with pytest.raises(InputError, match="last point"):
        TraceSignal(array(0.0, 1.0), array(1.0, 1.0), "k", "u", "n", "linear", end_s=2.0)
    with pytest.raises(InputError, match="single bin"):
        TraceSignal(array(0.0), array(1.0), "k", "u", "n", "step")
    for zone in (None, timezone(timedelta(hours=1))):
        with pytest.raises(InputError, match="not in UTC"):
            carbon([1.0, 2.0], epoch=datetime(2021, 1, 1, tzinfo=zone))


def test_signals_of_two_kinds_do_not_mix() -> None:
    life_cycle = carbon([1.0, 2.0])
    direct = TraceSignal(array(0.0, 1.0), array(1.0, 1.0), AVERAGE_DIRECT, CARBON_UNIT, "d", "linear")
    assert require_same_kind([life_cycle, life_cycle.scaled(2.0)]) == AVERAGE_LIFE_CYCLE
    with pytest.raises(InputError, match=r"average life-cycle .* average direct"):
        require_same_kind([life_cycle, direct])
    with pytest.raises(InputError, match="no signal"):
        require_same_kind([])


@pytest.mark.parametrize("kind", [AVERAGE_LIFE_CYCLE, AVERAGE_DIRECT, MARGINAL])
def test_a_signal_keeps_its_kind_and_serves_no_figure_of_another(kind: str) -> None:
    signal = TraceSignal(array(0.0, 1.0), array(1.0, 1.0), kind, CARBON_UNIT, "mine", "linear")
    for same in (signal, signal.scaled(0.5), signal.window(0.0, 0.5), signal.with_forecaster(Persistence())):
        require_kind(same, kind)
        for other in {AVERAGE_LIFE_CYCLE, AVERAGE_DIRECT, MARGINAL} - {kind}:
            with pytest.raises(InputError, match=f"^mine: the signal is {kind}, and {other} is counted"):
                require_kind(same, other, where="mine")


def test_the_kinds_are_those_that_carbon_is_accounted_in() -> None:
    assert {AVERAGE_LIFE_CYCLE, AVERAGE_DIRECT, MARGINAL} == set(get_args(IntensityKind))
