"""CSV files: what was written is read back, and what does not fit is refused by line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clover_rl.errors import CloverError, InputError
from clover_rl.signals import (
    AVERAGE_DIRECT,
    AVERAGE_LIFE_CYCLE,
    read_arrivals_csv,
    read_carbon_csv,
    read_load_csv,
)

RELAXED = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


@RELAXED
@given(
    values=st.lists(st.floats(0.0, 1e6), min_size=2, max_size=30),
    step_min=st.sampled_from((5, 15, 30, 60)),
    start=st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)),
    stamps=st.booleans(),
)
def test_carbon_written_is_carbon_read(
    tmp_path: Path, values: list[float], step_min: int, start: datetime, stamps: bool
) -> None:
    start = start.replace(microsecond=0, tzinfo=UTC)
    steps = [timedelta(minutes=step_min * i) for i in range(len(values))]
    times = [(start + step).isoformat() if stamps else f"{step.total_seconds():g}" for step in steps]
    header = "timestamp" if stamps else "offset_s"
    rows = [f"{time},{value!r}" for time, value in zip(times, values, strict=True)]
    trace = read_carbon_csv(write(tmp_path, "\n".join([f"{header},gco2_per_kwh", *rows]) + "\n"))
    assert trace.values.tolist() == values
    assert trace.times_s.tolist() == [step.total_seconds() for step in steps]
    assert trace.epoch == (start if stamps else None)
    assert (trace.kind, trace.unit, trace.interpolation) == (AVERAGE_LIFE_CYCLE, "gCO2/kWh", "linear")


@RELAXED
@given(
    counts=st.lists(st.integers(0, 10**7), min_size=2, max_size=30), bin_s=st.sampled_from((0.1, 1, 60, 600))
)
def test_counts_written_are_counts_served(tmp_path: Path, counts: list[int], bin_s: float) -> None:
    rows = [f"{i * bin_s!r},{count}" for i, count in enumerate(counts)]
    trace = read_load_csv(write(tmp_path, "\n".join(["offset_s,requests", *rows])))
    assert trace.end_s == pytest.approx(bin_s * len(counts))
    assert trace.mean_over(0.0, trace.end_s) * trace.end_s == pytest.approx(sum(counts), rel=1e-9, abs=1e-6)
    assert (trace.kind, trace.unit, trace.interpolation) == ("requests", "requests/s", "step")


@RELAXED
@given(offsets=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30).map(sorted))
def test_arrivals_written_are_arrivals_read(tmp_path: Path, offsets: list[float]) -> None:
    rows = [f"{offset!r},12,note" for offset in offsets]
    arrivals = read_arrivals_csv(write(tmp_path, "\n".join(["offset_s,input_tokens,comment", *rows])))
    assert arrivals.dtype == np.float64
    assert arrivals.tolist() == offsets


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "trace.csv:", "empty"),
        ("\n\n", "trace.csv:", "empty"),
        ("offset_s,gco2_per_kwh\n", "trace.csv:", "0 rows"),
        ("offset_s,gco2_per_kwh\n0,1\n", "trace.csv:", "1 rows"),
        ("time,gco2_per_kwh\n0,1\n1,1\n", ":1:", "first column is 'time'"),
        ("gco2_per_kwh,offset_s\n0,1\n1,1\n", ":1:", "first column"),
        ("offset_s,requests\n0,1\n1,1\n", ":1:", "gco2_per_kwh is missing"),
        ("offset_s\n0\n1\n", ":1:", "gco2_per_kwh is missing"),
        ("offset_s,gco2_per_kwh,note\n0,1,a\n1,1,b\n", ":1:", "unknown or repeated columns: 'note'"),
        ("offset_s,gco2_per_kwh,gco2_per_kwh\n0,1,1\n1,1,1\n", ":1:", "repeated"),
        ("offset_s,gco2_per_kwh\n0,1\n1\n", ":3:", "1 fields"),
        ("offset_s,gco2_per_kwh\n0,1\n1,2,3\n", ":3:", "3 fields"),
        ("offset_s,gco2_per_kwh\n0,1\n1,many\n", ":3:", "'many', not a number"),
        ("offset_s,gco2_per_kwh\n0,1\n1,\n", ":3:", "not a number"),
        ("offset_s,gco2_per_kwh\n0,1\n1,1_0\n", ":3:", "not a number"),
        ("offset_s,gco2_per_kwh\n0,1\n1,nan\n", ":3:", "finite"),
        ("offset_s,gco2_per_kwh\n0,1\n1,-inf\n", ":3:", "finite"),
        ("offset_s,gco2_per_kwh\n0,1\n1,-3\n", ":3:", "below 0"),
        ("offset_s,gco2_per_kwh\n-1,1\n0,3\n", ":2:", "below 0"),
        ("offset_s,gco2_per_kwh\n0,1\n2,1\n1,1\n", ":4:", "disorder"),
        ("offset_s,gco2_per_kwh\n0,1\n1,1\n1,1\n", ":4:", "duplicate"),
        ("offset_s,gco2_per_kwh\n0,1\n2,1\n3,1\n4,1\n", ":3:", "gap"),
        ("offset_s,gco2_per_kwh\n0,1\n1,1\n2,1\n5,1\n", ":5:", "gap"),
        ("offset_s,gco2_per_kwh\n0,1\n\n1,1\n", ":3:", "blank line"),
        ('offset_s,gco2_per_kwh\n0,1\n1,"1\n', ":3:", "not CSV"),
        ("timestamp,gco2_per_kwh\nyesterday,1\n", ":2:", "not ISO 8601"),
        ("timestamp,gco2_per_kwh\n2021-01-01T00:00:00,1\n", ":2:", "names no zone"),
        ("timestamp,gco2_per_kwh\n2021-01-01T00:00:00+01:00,1\n", ":2:", "not in UTC"),
        (
            "timestamp,gco2_per_kwh\n2021-01-01T00:00:00Z,1\n2021-01-01T01:00:00Z,1\n2021-01-01T03:00:00Z,1\n"
            "2021-01-01T04:00:00Z,1\n",
            ":4:",
            "gap: 7200 s after the row before",
        ),
    ],
)
def test_a_carbon_file_that_does_not_fit_is_refused_by_line(
    tmp_path: Path, text: str, where: str, what: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_carbon_csv(write(tmp_path, text))
    assert where in str(caught.value)
    assert what in str(caught.value)
    assert caught.value.fix


@RELAXED
@given(
    text=st.text(alphabet='offset_s,gco2perkwh0123456789.-+TZ:"\n\r\x00é ', max_size=80), data=st.booleans()
)
def test_no_text_gets_past_our_own_errors(tmp_path: Path, text: str, data: bool) -> None:
    path = write(tmp_path, ("offset_s,gco2_per_kwh\n0,1\n" if data else "") + text)
    for read in (read_carbon_csv, read_load_csv, read_arrivals_csv):
        message = ""
        try:
            read(path)
        except CloverError as error:
            message = str(error)
        assert not message or message.startswith(str(path))


@RELAXED
@given(row=st.integers(0, 9), field=st.sampled_from(("nan", "x", "-1", "", "inf", "0x10", "1e400", "1;2")))
def test_one_bad_field_is_found_on_its_line(tmp_path: Path, row: int, field: str) -> None:
    rows = [f"{i * 60},{field if i == row else 5}" for i in range(10)]
    with pytest.raises(InputError, match=rf"trace\.csv:{row + 2}: "):
        read_load_csv(write(tmp_path, "\n".join(["offset_s,requests", *rows])))


def test_arrivals_and_bins_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":1: .*raw arrivals; read those with read_arrivals_csv"):
        read_load_csv(write(tmp_path, "offset_s,input_tokens\n0,4\n0.5,3\n"))
    with pytest.raises(InputError, match=r":1: these are counts.*read_load_csv"):
        read_arrivals_csv(write(tmp_path, "offset_s,requests\n0,4\n1,3\n"))


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "trace.csv:", "empty"),
        ("offset_s\n", "trace.csv:", "no rows"),
        ("time\n0\n", ":1:", "first column"),
        ("offset_s\n0\n2\n1\n", ":4:", "comes after"),
        ("offset_s,tokens\n0,1\n1\n", ":3:", "1 fields"),
        ("offset_s\nnan\n", ":2:", "finite"),
        ("offset_s\n-1\n", ":2:", "below 0"),
    ],
)
def test_arrivals_that_do_not_fit_are_refused_by_line(
    tmp_path: Path, text: str, where: str, what: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_arrivals_csv(write(tmp_path, text))
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_carbon_csv(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_carbon_csv(tmp_path)
    path = tmp_path / "image.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not UTF-8"):
        read_carbon_csv(path)


def test_the_kind_is_what_the_caller_says_and_the_name_is_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "grid_lifecycle.csv"
    # A spreadsheet's byte order mark, Windows line ends and trailing blank lines do no harm.
    path.write_bytes(b"\xef\xbb\xbfoffset_s,gco2_per_kwh\r\n0,1\r\n3600,2\r\n\r\n\r\n")
    trace = read_carbon_csv(path, kind=AVERAGE_DIRECT, utc_offset_h=-8.0)
    assert (trace.kind, trace.name, trace.utc_offset_h) == (AVERAGE_DIRECT, "grid_lifecycle", -8.0)
    assert trace.at(1800.0) == 1.5
