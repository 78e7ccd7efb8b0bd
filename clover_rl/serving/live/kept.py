"""Kept: the folder of a comparison, from which a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clover_rl.errors import InputError
from clover_rl.jsonfile import plain, write_json
from clover_rl.serving.live.calibration import Calibrated, StageResult

__all__ = ["Kept"]


class Kept:
    """Days as measured, calibrations, and the document that sets predictions beside them.

    Each run of a comparison has a calibration of its own, as idle power depends on how many processes wait.

    Args:
        out: the folder.
        identity: what all its days have in common.

    Raises:
        InputError: it holds another comparison.

    Attributes:
        document: what `live.json` holds: `days` (controller -> its comparison), `runs` (each its controllers
            and what its calibration came to), `command`.
        days: controller -> its day as measured.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self._out = out
        self.file = out / "live.json"
        out.mkdir(parents=True, exist_ok=True)
        self.document: dict[str, Any] = {**identity, "runs": [], "days": {}}
        if self.file.is_file():
            self.document = json.loads(self.file.read_text())
            if any(self.document.get(key) != value for key, value in identity.items()):
                raise InputError(
                    "holds days of another comparison", where=str(self.file), fix="name another --out folder"
                )
        else:
            write_json(self.file, plain(self.document))
        self.days: dict[str, Any] = {
            name: json.loads(self._raw(name).read_text()) for run in self.runs for name in run["controllers"]
        }

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Runs so far, as the document has them."""
        found: list[dict[str, Any]] = self.document["runs"]
        return found

    def begin(self) -> Path:
        """Begin a run; a new folder for its server's state, as a ledger would be gone on with."""
        self.runs.append({"controllers": [], "stages": []})
        number = len(self.runs)
        while (folder := self._out / f"server-{number}").exists():
            number += 1  # of a run that ended before it had anything to keep
        return folder

    def calibrated(self, results: list[StageResult]) -> None:
        """Keep the calibration of the run under way."""
        self.runs[-1]["stages"] = [result.to_dict() for result in results]
        write_json(self.file, plain(self.document))

    def stages(self, run: int) -> list[StageResult]:
        """A run's calibration; empty without one."""
        return [StageResult.from_dict(row) for row in self.runs[run]["stages"]]

    def day(self, name: str, raw: dict[str, Any]) -> None:
        """Keep a day of the run under way as measured."""
        raw = self.days[name] = plain(raw)
        write_json(self._raw(name), raw)
        self.runs[-1]["controllers"].append(name)
        write_json(self.file, plain(self.document))

    def compared(self, name: str, comparison: dict[str, Any]) -> None:
        """Keep a day's comparison."""
        self.document["days"][name] = comparison

    def came_to(self, run: int, found: Calibrated) -> None:
        """Keep what a run's calibration came to."""
        profile = found.profile
        self.runs[run]["calibrated"] = {
            "service_ms": {
                variant: {piece: 1000.0 * s for piece, s in row.items()}
                for variant, row in profile.service_s.items()
            },
            "energy_j": {variant: dict(row) for variant, row in profile.energy_j.items()},
            "idle_w": profile.power.idle_w,
            "jitter_cv": profile.jitter_cv,
            "front_ms": 1000.0 * found.front_s,
            "power_errors": found.power_errors,
        }

    def finish(self, command: str) -> None:
        """Write the document."""
        self.document["command"] = command
        write_json(self.file, plain(self.document))

    def _raw(self, name: str) -> Path:
        return self._out / f"day-{name}.json"
