"""Traces from CSV files; what does not fit is refused with file, line and fix."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path

import numpy as np

from clover_rl.errors import InputError
from clover_rl.signals.signal import AVERAGE_LIFE_CYCLE, CARBON_UNIT, LOAD_UNIT, REQUESTS, FloatArray
from clover_rl.signals.traces import TraceSignal

__all__ = ["read_arrivals_csv", "read_carbon_csv", "read_load_csv"]

_TIME_COLUMNS = ("timestamp", "offset_s")
_STEP_TOLERANCE = 1e-6


def read_carbon_csv(
    path: str | PathLike[str], *, kind: str = AVERAGE_LIFE_CYCLE, utc_offset_h: float = 0.0
) -> TraceSignal:
    """Carbon intensity: columns `timestamp` (UTC, ISO 8601) or `offset_s`, then `gco2_per_kwh`.

    The kind is what the caller says; it is never guessed from the file. With timestamps, offset 0 is the
    first one and becomes the trace's epoch. Raises InputError naming FILE:LINE for anything that is not a
    gapless, ordered list of numbers of 0 or more.
    """
    rows = _read_series(Path(path), "gco2_per_kwh")
    return TraceSignal(
        times_s=rows.times_s,
        values=rows.values,
        kind=kind,
        unit=CARBON_UNIT,
        name=Path(path).stem,
        interpolation="linear",
        epoch=rows.epoch,
        utc_offset_h=utc_offset_h,
    )


def read_load_csv(path: str | PathLike[str], *, utc_offset_h: float = 0.0) -> TraceSignal:
    """Load: columns `timestamp` (UTC, ISO 8601) or `offset_s`, then `requests`, the count of that bin.

    The time is where the bin starts. The trace is in requests/s.
    Raises InputError as `read_carbon_csv` does, and for a file of raw arrivals.
    """
    rows = _read_series(Path(path), "requests")
    return TraceSignal(
        times_s=rows.times_s,
        values=rows.values / rows.step_s,
        kind=REQUESTS,
        unit=LOAD_UNIT,
        name=Path(path).stem,
        interpolation="step",
        end_s=float(rows.times_s[-1]) + rows.step_s,
        epoch=rows.epoch,
        utc_offset_h=utc_offset_h,
    )


def read_arrivals_csv(path: str | PathLike[str]) -> FloatArray:
    """Raw arrivals: one request a line, `offset_s` first, further columns ignored; (n,) ascending seconds.

    Several requests may arrive at one time. Raises InputError naming FILE:LINE.
    """
    source = Path(path)
    rows = _rows(source)
    header = _header(source, rows)
    if "requests" in header:
        raise InputError(
            "these are counts per bin, not single arrivals",
            where=f"{source}:1",
            fix="read them with read_load_csv",
        )
    if header[0] != "offset_s":
        raise InputError(
            f"the first column is {header[0]!r}", where=f"{source}:1", fix="name it offset_s (seconds)"
        )
    offsets: list[float] = []
    for line, row in rows:
        where = f"{source}:{line}"
        _require_width(row, header, where)
        offset = _number(row[0], "offset_s", where)
        if offsets and offset < offsets[-1]:
            raise InputError(
                f"the arrival at {offset:g} s comes after one at {offsets[-1]:g} s",
                where=where,
                fix="sort the rows by offset_s",
            )
        offsets.append(offset)
    if not offsets:
        raise InputError("the file has a header and no rows", where=str(source), fix="give one row a request")
    return np.array(offsets, dtype=np.float64)


@dataclass(frozen=True)
class _Series:
    times_s: FloatArray
    values: FloatArray
    step_s: float
    epoch: datetime | None


def _read_series(source: Path, value_column: str) -> _Series:
    rows = _rows(source)
    header = _header(source, rows)
    time_column = _require_columns(source, header, value_column)
    lines: list[int] = []
    times: list[float] = []
    values: list[float] = []
    epoch: datetime | None = None
    for line, row in rows:
        where = f"{source}:{line}"
        _require_width(row, header, where)
        if time_column == "offset_s":
            time = _number(row[0], time_column, where)
        else:
            stamp = _utc(row[0], where)
            epoch = epoch or stamp
            time = (stamp - epoch).total_seconds()
        lines.append(line)
        times.append(time)
        values.append(_number(row[1], value_column, where))
    if len(times) < 2:
        raise InputError(
            f"the file has {len(times)} rows of data", where=str(source), fix="a trace needs at least 2"
        )
    step = _require_constant_step(source, lines, np.array(times))
    return _Series(np.array(times), np.array(values), step, epoch)


def _rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row, the header first; a blank line may only end the file."""
    blank: int | None = None
    line = 1
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                # A quoted field may hold a line break: the reader counts the row's last line.
                line = reader.line_num
                if not any(field.strip() for field in row):
                    blank = blank or line
                    continue
                if blank is not None:
                    raise InputError("a blank line amid the rows", where=f"{source}:{blank}", fix="remove it")
                yield line, [field.strip() for field in row]
    except OSError as error:
        raise InputError(
            f"the file cannot be read ({error.strerror})", where=str(source), fix="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("the file is not UTF-8 text", where=str(source), fix="save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(
            f"the line is not CSV ({error})", where=f"{source}:{line + 1}", fix="check quotes and line breaks"
        ) from error


def _header(source: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    for _, header in rows:
        return header
    raise InputError("the file is empty", where=str(source), fix="give a header line and rows of data")


def _require_columns(source: Path, header: list[str], value_column: str) -> str:
    """The name of the time column; raises InputError unless the header is exactly time, value."""
    where = f"{source}:1"
    fix = f"the columns must be timestamp (UTC) or offset_s, then {value_column}"
    if header[0] == "offset_s" and value_column == "requests" and "requests" not in header:
        raise InputError(
            f"there is no column requests beside {', '.join(header)}; this looks like raw arrivals",
            where=where,
            fix=f"read those with read_arrivals_csv; here {fix}",
        )
    if header[0] not in _TIME_COLUMNS:
        raise InputError(f"the first column is {header[0]!r}", where=where, fix=fix)
    if value_column not in header:
        raise InputError(f"the column {value_column} is missing", where=where, fix=fix)
    unknown = [name for name in header[1:] if name != value_column]
    if unknown or len(header) != 2:
        named = ", ".join(repr(name) for name in unknown or header)
        raise InputError(f"unknown or repeated columns: {named}", where=where, fix=fix)
    return header[0]


def _require_width(row: list[str], header: list[str], where: str) -> None:
    if len(row) != len(header):
        raise InputError(
            f"{len(row)} fields where the header names {len(header)}",
            where=where,
            fix=f"give {', '.join(header)}",
        )


def _number(text: str, column: str, where: str) -> float:
    try:
        # float() takes "1_000" and non-ASCII digits, which no other CSV reader does.
        if "_" in text or not text.isascii():
            raise ValueError(text)
        number = float(text)
    except ValueError:
        raise InputError(
            f"{column} is {text!r}, not a number", where=where, fix="correct it, or cut the trace there"
        ) from None
    if not math.isfinite(number):
        raise InputError(
            f"{column} is {text!r}, not a finite number",
            where=where,
            fix="fill it or cut the trace there",
        )
    if number < 0.0:
        raise InputError(f"{column} is {text}, below 0", where=where, fix="correct it; 0 or more is allowed")
    return number


def _utc(text: str, where: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"timestamp is {text!r}, not ISO 8601", where=where, fix="write it like 2021-01-01T00:00:00Z"
        ) from None
    if stamp.tzinfo is None:
        raise InputError(
            f"timestamp {text} names no zone", where=where, fix="write UTC, like 2021-01-01T00:00:00Z"
        )
    if stamp.utcoffset() != timedelta(0):
        raise InputError(f"timestamp {text} is not in UTC", where=where, fix="convert the file to UTC")
    return stamp.astimezone(UTC)


def _require_constant_step(source: Path, lines: list[int], times: FloatArray) -> float:
    """The file's step in seconds: its median, which one gap does not move."""
    steps = np.diff(times)
    for problem, fix in (("disorder", "sort the rows by time"), ("duplicate", "keep one row a time")):
        bad = np.flatnonzero(steps < 0.0 if problem == "disorder" else steps == 0.0)
        if len(bad):
            i = int(bad[0]) + 1
            raise InputError(
                f"{problem}: the time {times[i]:g} s does not come after {times[i - 1]:g} s",
                where=f"{source}:{lines[i]}",
                fix=fix,
            )
    step = float(np.median(steps))
    bad = np.flatnonzero(np.abs(steps - step) > _STEP_TOLERANCE * max(step, 1.0))
    if len(bad):
        i = int(bad[0]) + 1
        raise InputError(
            f"gap: {steps[i - 1]:g} s after the row before, where the file's step is {step:g} s",
            where=f"{source}:{lines[i]}",
            fix="fill the missing rows, or cut the trace there",
        )
    return step
