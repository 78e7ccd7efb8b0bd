"""Measurement files: one row an instance, rows of one test together, read strictly."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clover_rl.cluster.gpu import CATALOGUE
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError

__all__ = [
    "COLUMNS",
    "MeasuredInstance",
    "Mix",
    "match_profiles",
    "other_card_measurements",
    "packaged_measurements",
    "read_mixes",
]

COLUMNS = ("layout", "test", "gpu_w", "slice", "variant", "served_per_s", "mean_ms", "utilisation")
"""What is read; files may have more columns, as the packaged ones do."""
_FOLDER = CATALOGUE / "measurements"
_BY_ITSELF = re.compile(r"alone|duty")
"""Tests with these names have one busy instance each, so that equal watts do not join two of them."""


@dataclass(frozen=True, slots=True)
class MeasuredInstance:
    """One busy instance of a test, as measured.

    Attributes:
        slice, variant: which pair; the variant's name as in the file.
        served: requests/s.
        mean_ms: mean service time, ms.
        utilisation: share of the time it was busy. Above 1 where a request that began before the window
            was counted whole.
        where: file and line.
    """

    slice: str
    variant: str
    served: float
    mean_ms: float
    utilisation: float
    where: str = ""


@dataclass(frozen=True, slots=True)
class Mix:
    """One test: the instances that were busy on one card at the same time.

    Attributes:
        layout, test: as in the file.
        gpu_w: mean power of the whole card, W.
        instances: the busy ones.
    """

    layout: str
    test: str
    gpu_w: float
    instances: tuple[MeasuredInstance, ...]

    @property
    def where(self) -> str:
        """File and line of its first instance, or layout and test."""
        return self.instances[0].where or f"layout {self.layout}, test {self.test}"


def packaged_measurements() -> tuple[Path, ...]:
    """The files that the shipped H100 profiles were fitted to."""
    return tuple(sorted(_FOLDER.glob("h100_*.csv")))


def other_card_measurements() -> tuple[Path, ...]:
    """Files of three more layouts, measured on another H100: no law is fitted to them."""
    return tuple(sorted((_FOLDER / "other-card").glob("h100_*.csv")))


def read_mixes(path: Path) -> list[Mix]:
    """Tests of a measurement file.

    Rows without a variant (parked, idle) and instances that served nothing are passed over.

    Raises:
        InputError: naming file and line.
    """
    mixes: list[Mix] = []
    grouping = _Grouping()
    for where, row in _rows(path):
        if not row["variant"]:
            grouping = _Grouping()
            continue
        watts = _number(row, "gpu_w", where, above_zero=True)
        test = grouping.test_of(row, watts)
        served = _number(row, "served_per_s", where)
        if served == 0.0:
            continue
        item = MeasuredInstance(
            row["slice"],
            row["variant"],
            served,
            _number(row, "mean_ms", where, above_zero=True),
            _number(row, "utilisation", where),
            where,
        )
        if test.is_empty:
            mixes.append(Mix(row["layout"], row["test"], watts, (item,)))
            test.is_empty = False
        else:
            mixes[-1] = replace(mixes[-1], instances=(*mixes[-1].instances, item))
    if not mixes:
        raise InputError("holds no measured instance", where=str(path), fix="give one row per instance")
    return mixes


class _Test:
    """A test that rows are being added to."""

    def __init__(self, key: tuple[str, str, float]) -> None:
        self.key = key
        self.is_empty = True
        slices = re.findall(r"[0-9]+g(?:\.[a-z]+)?", key[0])
        self.free = {name: slices.count(name) for name in slices}


class _Grouping:
    """Which test a row belongs to: the one before, unless its name, its watts or its slices say otherwise."""

    def __init__(self) -> None:
        self._last: _Test | None = None

    def test_of(self, row: dict[str, str], watts: float) -> _Test:
        key, name = (row["layout"], row["test"], watts), row["slice"]
        test = self._last
        # a slice that the layout has no more of is the first of the same test, run once more
        if not test or test.key != key or _BY_ITSELF.match(row["test"]) or test.free.get(name) == 0:
            test = self._last = _Test(key)
        if name in test.free:
            test.free[name] -= 1
        return test


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """File and line, and the row, of each line after the header."""
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            for name in COLUMNS:
                if name not in header:
                    fix = f"use {', '.join(COLUMNS)}"
                    raise InputError(f"column `{name}` is missing", where=f"{path}:1", fix=fix)
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise InputError(
                        f"expected {len(header)} fields", where=f"{path}:{line}", fix="correct that line"
                    )
                yield f"{path}:{line}", row
    except csv.Error as error:
        where = f"{path}:{line + 1}"
        raise InputError(f"is no CSV ({error})", where=where, fix="correct that line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=str(path), fix="check the path") from None


def _number(row: dict[str, str], name: str, where: str, *, above_zero: bool = False) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0.0 or (above_zero and value == 0.0):
        expected = "a number above 0" if above_zero else "a number of 0 or more"
        raise InputError(
            f"column `{name}`: expected {expected}, found `{row[name]}`", where=where, fix="correct that line"
        )
    return value


def match_profiles(mixes: Iterable[Mix], profiles: Sequence[Profile]) -> list[tuple[Profile, Mix]]:
    """Each test with the profile whose application has its variants.

    Raises:
        InputError: a variant or a slice that no profile knows, or variants of two applications in one test.
    """
    found = []
    for mix in mixes:
        owner = None
        for item in mix.instances:
            profile = next((p for p in profiles if item.variant.lower() in _names(p)), None)
            where = item.where or mix.where
            if profile is None:
                known = " or ".join(f"{', '.join(p.application.variants)}" for p in profiles)
                raise InputError(
                    f"variant `{item.variant}` belongs to no profile", where=where, fix=f"use {known}"
                )
            if owner not in (None, profile):
                raise InputError(
                    f"variant `{item.variant}` is of another application than the test's first",
                    where=where,
                    fix="measure one application at a time",
                )
            owner = profile
            slices = profile.service_s[_names(profile)[item.variant.lower()]]
            if item.slice not in slices:
                raise InputError(
                    f"profile `{profile.name}` has no `{item.variant}` on a slice `{item.slice}`",
                    where=where,
                    fix=f"use {', '.join(slices)}",
                )
        assert owner is not None
        found.append((owner, mix))
    return found


def _names(profile: Profile) -> dict[str, str]:
    return {name.lower(): name for name in profile.application.variants}
