"""Pinned windows of real traces, and the suites of docs/results.md that run on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clover_rl.agents.conditions import PLAIN, ROBUST, Conditions
from clover_rl.agents.evaluate import CONTROLLERS
from clover_rl.errors import InputError
from clover_rl.signals import generate_load

__all__ = ["GENERATED", "SERVEGEN", "SUITES", "WINDOWS", "PinnedWindow", "Suite", "load_file"]

LIFE_CYCLE, DIRECT = "average life-cycle", "average direct"
SERVEGEN, GENERATED = "servegen_m-large_10min", "generated"
_LOAD_SEED, _LOAD_DAYS, _LOAD_BIN_S = 2_026, 15.0, 600.0


@dataclass(frozen=True, slots=True)
class PinnedWindow:
    """A stretch of a real carbon trace.

    Attributes:
        name: in folders and tables.
        file: in the traces' folder `carbon`, without `.csv`.
        kind: of its intensity: direct and life-cycle never mix in one figure.
        utc_offset_h: local standard time minus UTC, h.
        start: UTC, or seconds into a file without timestamps.
        days: length.
    """

    name: str
    file: str
    kind: str
    utc_offset_h: float
    start: str
    days: float = 14.0


def _carboncast(zone: str, month: str, utc_offset_h: float) -> PinnedWindow:
    """CarbonCast's life-cycle traces, since the scenarios count life-cycle intensity."""
    name = f"{zone.lower()}-2021-{month}"
    file = f"carboncast_{zone}_2021_lifecycle"
    return PinnedWindow(name, file, LIFE_CYCLE, utc_offset_h, f"2021-{month}-01T00:00:00Z")


WINDOWS = (
    _carboncast("CISO", "07", -8.0),
    _carboncast("CISO", "10", -8.0),
    _carboncast("ERCO", "04", -6.0),
    _carboncast("PJM", "01", -5.0),
    _carboncast("ISNE", "04", -5.0),
    PinnedWindow("gb-2021-04", "em_GB_2021_direct", DIRECT, 0.0, "2021-04-01T00:00:00Z"),
    PinnedWindow("neso-2023-03", "neso_GB_2023_30min", DIRECT, 0.0, "2023-03-01T00:00:00Z"),
    PinnedWindow("neso-2023-09", "neso_GB_2023_30min", DIRECT, 0.0, "2023-09-01T00:00:00Z"),
    PinnedWindow("clover-ciso-march", "clover_CISO_March", DIRECT, 0.0, "0", 2.0),
    PinnedWindow("clover-ciso-sep", "clover_CISO_Sep", DIRECT, 0.0, "0", 2.0),
    PinnedWindow("clover-eso-march", "clover_ESO_March", DIRECT, 0.0, "0", 2.0),
)
"""Eight of 14 days, and Clover's three of 48 hours."""

TWO = (WINDOWS[0], WINDOWS[6])
"""Of a grid with much sun and one with much wind."""

_WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Those of the scenarios, and two more so that losses reach 2 %."""
_FEW = ("base", "static", "search", "search-blind", "annealing", "annealing-load", "oracle")
_SPLIT = ("search", "oracle")


@dataclass(frozen=True, slots=True)
class Suite:
    """Runs that belong together.

    Attributes:
        name: in folders and tables.
        scenario: a shipped name.
        settings: as of `--set`, besides the window's kind and zone.
        windows: of carbon.
        load: SERVEGEN, or GENERATED.
        against: controllers.
        weights: of carbon.
        split: controllers whose savings are split, besides policies.
        conditions: of the rows.
        bundles: stem of the policies' files: NAME*.clover.
        seeds: training seeds at most.
    """

    name: str
    scenario: str
    settings: tuple[str, ...] = ()
    windows: tuple[PinnedWindow, ...] = TWO
    load: str = SERVEGEN
    against: Sequence[str] = _FEW
    weights: Sequence[float] = _WEIGHTS
    split: Sequence[str] = _SPLIT
    conditions: Sequence[Conditions] = (PLAIN,)
    bundles: str = ""
    seeds: int = 1


SUITES = (
    Suite(
        "main",
        "h100-efficientnet",
        windows=WINDOWS,
        against=CONTROLLERS,
        bundles="h100-efficientnet",
        seeds=5,
    ),
    Suite("albert", "h100-albert", bundles="h100-albert"),
    Suite("a100", "a100-efficientnet", bundles="a100-efficientnet"),
    Suite("generated-load", "h100-efficientnet", load=GENERATED, bundles="h100-efficientnet"),
    Suite("ten-gpus", "h100-efficientnet", settings=("gpus=10",), bundles="10x-h100-efficientnet"),
    Suite(
        "robust",
        "h100-efficientnet",
        against=("base", "static", "search", "annealing"),
        weights=(0.1,),
        split=(),
        conditions=ROBUST,
        bundles="h100-efficientnet",
        seeds=5,
    ),
)
"""Those of the page, in its order."""


def load_file(suite: Suite, traces: Path, out: Path) -> Path:
    """The load of a suite: the trace, or one generated from a fixed seed and kept under `out`.

    Raises:
        InputError: it cannot be written.
    """
    if suite.load != GENERATED:
        return traces / "workload" / f"{suite.load}.csv"
    rng = np.random.default_rng(_LOAD_SEED)
    trace = generate_load(rng, days=_LOAD_DAYS, bin_s=_LOAD_BIN_S, randomise=True, start_hour_of_week=0.0)
    # rates are relative: 200 requests/s in the mean make counts that lose nothing when they are rounded
    counts = np.round(trace.values / trace.values.mean() * 200.0 * _LOAD_BIN_S).astype(int)
    rows = [f"{time:g},{count}" for time, count in zip(trace.times_s, counts.tolist(), strict=True)]
    path = out / f"{GENERATED}.csv"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["offset_s,requests", *rows, ""]), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", where=str(path), fix="choose another folder"
        ) from None
    return path
