"""What a report is made from: folders of `evaluate --out`, its JSON documents, and training records."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clover_rl.errors import InputError

__all__ = ["Row", "Run", "Study", "Training", "number_of", "read_results"]

_KEY = re.compile(r"[0-9A-Za-z_-]{1,128}")
"""Names of run files; anything else would lead out of the folder."""

MOST_BYTES = 512 * 2**20


def number_of(value: Any) -> float | None:
    """A finite number as it is; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class Run:
    """One controller on one window at one weight.

    Attributes:
        figures: what it achieved, as the evaluation's document has it.
        detail: its file in `runs/`, with the course by the hour; empty where there is none.
    """

    figures: Mapping[str, Any]
    detail: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> float | None:
        """A figure; None where it is absent or no number."""
        return number_of(self.figures.get(key))

    @property
    def series(self) -> Mapping[str, Sequence[Any]]:
        """Columns by the hour; empty where the results hold none."""
        found = self.detail.get("series")
        if not isinstance(found, dict) or not isinstance(found.get("hour"), list):
            return {}
        hours = len(found["hour"])
        return {key: item for key, item in found.items() if isinstance(item, list) and len(item) == hours}

    @property
    def causes(self) -> dict[str, float]:
        """Cause -> saving as a share of BASE's carbon per request; empty where it is not split."""
        found = self.figures.get("saving")
        pairs = found.items() if isinstance(found, dict) else ()
        numbers = {str(key): number_of(value) for key, value in pairs if key != "total"}
        return {key: value for key, value in numbers.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Row:
    """One window at one weight of carbon.

    Attributes:
        carbon, load: names of the window's signals.
        w, sla_ms, gap: weight; bound on the p95; J_oracle - J_static. None where the results do not say.
        runs: controller -> its run.
        conditions: what was otherwise than the controllers were told; empty where nothing was.
    """

    carbon: str
    load: str
    w: float
    sla_ms: float | None
    gap: float | None
    runs: Mapping[str, Run]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> tuple[str, str]:
        """What tells windows of a study apart."""
        return self.carbon, self.load

    def relative_carbon(self, name: str) -> float | None:
        """A controller's carbon per request over BASE's: BASE's own run, or its closed form without one."""
        own = self.runs[name].get("carbon_g_per_request")
        base = self.runs["base"].get("carbon_g_per_request") if "base" in self.runs else None
        base = base or self.runs[name].get("base_carbon_g_per_request")
        return own / base if own is not None and base else None


@dataclass(frozen=True, slots=True)
class Study:
    """One evaluation.

    Attributes:
        source: what the user called it.
        document: the evaluation's JSON document.
        rows: windows and weights, as modelled.
        disturbed: the same where something was otherwise than the controllers were told.
    """

    source: str
    document: Mapping[str, Any]
    rows: Sequence[Row]
    disturbed: Sequence[Row] = ()

    @property
    def scenario(self) -> str:
        """Name of the scenario."""
        return str(self.document.get("scenario", "unknown scenario"))

    @property
    def controllers(self) -> list[str]:
        """Names of all controllers, in the order in which they appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row.runs))

    @property
    def members(self) -> list[str]:
        """Controllers that are pooled into another one: training seeds of one recipe."""
        pools = [run.figures.get("members") for row in self.rows for run in row.runs.values()]
        return list(dict.fromkeys(str(name) for pool in pools if isinstance(pool, list) for name in pool))

    @property
    def weights(self) -> list[float]:
        """Weights of carbon, ascending."""
        return sorted({row.w for row in self.rows})

    @property
    def windows(self) -> dict[tuple[str, str], list[Row]]:
        """Window -> its rows by ascending weight."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: row.w):
            found.setdefault(row.window, []).append(row)
        return {window: found[window] for window in dict.fromkeys(row.window for row in self.rows)}

    def nearest_weight(self, w: float | None) -> float:
        """The weight nearest to the one asked for; the lower middle one when none is."""
        weights = self.weights
        if w is None:
            return weights[(len(weights) - 1) // 2]
        return min(weights, key=lambda each: abs(each - w))

    def at_weight(self, w: float) -> list[Row]:
        """The rows at one weight."""
        return [row for row in self.rows if row.w == w]


@dataclass(frozen=True, slots=True)
class Training:
    """A training run's record.

    Attributes:
        source: what the user called it.
        record: training.json.
    """

    source: str
    record: Mapping[str, Any]

    @property
    def curve(self) -> tuple[list[float], list[float]]:
        """Seconds and share of headroom of each validation that has one."""
        history = self.record.get("history")
        points = [
            (seconds, share)
            for item in (history if isinstance(history, list) else [])
            if isinstance(item, dict)
            and (seconds := number_of(item.get("seconds"))) is not None
            and (share := number_of(item.get("headroom_share"))) is not None
        ]
        return [seconds for seconds, _ in points], [share for _, share in points]

    @property
    def phases(self) -> list[tuple[str, float]]:
        """Each phase of training and the second of its first validation."""
        found: dict[str, float] = {}
        history = self.record.get("history")
        for item in history if isinstance(history, list) else []:
            seconds = number_of(item.get("seconds")) if isinstance(item, dict) else None
            if seconds is not None and item.get("phase"):
                found.setdefault(str(item["phase"]), seconds)
        return list(found.items())


def read_results(path: Path) -> tuple[list[Study], list[Training]]:
    """What a folder or file holds: an evaluation, a training record, or, as a shipped policy, both.

    Raises:
        InputError: it cannot be read, or holds neither.
    """
    if not path.is_dir():
        content = _json(path)
        if "history" in content:
            return [], [Training(path.stem, content)]
        return [_study(path.stem, path, content)], []
    studies, trainings = [], []
    if (path / "result.json").is_file():
        studies.append(_study(_called(path), path / "result.json", _json(path / "result.json")))
    if (path / "training.json").is_file():
        trainings.append(Training(_called(path), _json(path / "training.json")))
    if not studies and not trainings:
        raise InputError(
            "holds neither result.json nor training.json",
            where=str(path),
            fix="name a folder that `clover-rl evaluate --out` or `clover-rl train --out` wrote",
        )
    return studies, trainings


def _called(folder: Path) -> str:
    return folder.name or folder.resolve().name


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError("is too large for results", where=str(path), fix="check the path")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path"
        ) from None
    except (ValueError, RecursionError):
        raise InputError("is no JSON", where=str(path), fix="name a file of results") from None
    if not isinstance(content, dict):
        raise InputError("holds no JSON object", where=str(path), fix="name a file of results")
    return content


def _study(source: str, path: Path, content: dict[str, Any]) -> Study:
    rows = content.get("windows")
    if not isinstance(rows, list) or not rows:
        raise InputError(
            "is no document of `clover-rl evaluate --json`: it has no `windows`",
            where=str(path),
            fix="name what `clover-rl evaluate --out` or `--json` wrote",
        )
    found = []
    names = _window_names(rows)
    for index, row in enumerate(rows):
        try:
            found.append(_row(row, names[index], path.parent / "runs"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                "lacks its weight or its controllers",
                where=f"{path}: windows[{index}]",
                fix="evaluate again with this version",
            ) from None
    rows_as_modelled = [row for row in found if not row.conditions]
    if not rows_as_modelled:
        raise InputError(
            "holds no window as modelled, only disturbed ones",
            where=str(path),
            fix="evaluate without conditions as well",
        )
    return Study(source, content, rows_as_modelled, [row for row in found if row.conditions])


def _window_names(rows: Sequence[Any]) -> list[tuple[str, str]]:
    """What each row's window is called; windows drawn from one pair of files are numbered."""
    pairs = [
        (str(row.get("carbon", "")), str(row.get("load", ""))) if isinstance(row, dict) else ("", "")
        for row in rows
    ]
    drawn: dict[tuple[str, str], dict[str, None]] = {}
    for pair, row in zip(pairs, rows, strict=True):
        drawn.setdefault(pair, {})[str(row.get("window")) if isinstance(row, dict) else ""] = None
    return [
        (pair[0], f"{pair[1]} #{1 + list(drawn[pair]).index(str(row.get('window')))}")
        if len(drawn[pair]) > 1
        else pair
        for pair, row in zip(pairs, rows, strict=True)
    ]


def _row(row: Mapping[str, Any], window: tuple[str, str], runs: Path) -> Row:
    w = number_of(row["w"])
    if w is None:
        raise ValueError("no weight")
    controllers = {
        str(name): Run(dict(figures), _detail(runs, figures.get("run")))
        for name, figures in row["controllers"].items()
    }
    if not controllers:
        raise ValueError("no controllers")
    return Row(
        *window,
        w,
        number_of(row.get("sla_ms")),
        number_of(row.get("gap")),
        controllers,
        dict(row.get("conditions") or {}),
    )


def _detail(runs: Path, key: Any) -> dict[str, Any]:
    """A run's own file; empty where there is none, for a document may have come without its runs."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return {}
    path = runs / f"{key}.json"
    return _json(path) if path.is_file() else {}
