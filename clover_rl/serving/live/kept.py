"""Kept: the folder of a comparison, from which a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clover_rl.errors import InputError
from clover_rl.serving.live.calibration import Calibrated, StageResult

__all__ = ["Kept"]


class Kept:
    """Days as measured, the calibration, and the document that sets predictions beside them.

    Args:
        out: the folder.
        identity: what all its days have in common.

    Raises:
        InputError: it holds another comparison.

    Attributes:
        document: what `live.json` holds: `days` (controller -> its comparison), `calibration`, `command`.
        days: controller -> its day as measured.
        stages: of the calibration; empty without one.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self._out = out
        self.file = out / "live.json"
        self._calibration = out / "calibration.json"
        out.mkdir(parents=True, exist_ok=True)
        self.document: dict[str, Any] = {**identity, "days": {}}
        if self.file.is_file():
            self.document = json.loads(self.file.read_text())
            if any(self.document.get(key) != value for key, value in identity.items()):
                raise InputError(
                    "holds days of another comparison", where=str(self.file), fix="name another --out folder"
                )
        else:
            self._write(self.file, self.document)
        order: list[str] = self.document.setdefault("order", [])
        self.days: dict[str, Any] = {name: json.loads(self._raw(name).read_text()) for name in order}
        self.stages: list[StageResult] = []
        if self._calibration.is_file():
            rows = json.loads(self._calibration.read_text())
            self.stages = [StageResult.from_dict(row) for row in rows]

    def fresh(self) -> Path:
        """A new folder for the server's state: a ledger would be gone on with."""
        number = sum(1 for _ in self._out.glob("server-*"))
        return self._out / f"server-{number}"

    def calibrated(self, results: list[StageResult]) -> None:
        """Keep a calibration, unless there is one: what came later was only to warm the card up."""
        if not self.stages:
            self.stages = results
            self._write(self._calibration, [result.to_dict() for result in results])

    def day(self, name: str, raw: dict[str, Any]) -> None:
        """Keep a day as measured."""
        self.days[name] = raw
        self._write(self._raw(name), raw)
        self.document["order"].append(name)
        self._write(self.file, self.document)

    def compared(self, name: str, comparison: dict[str, Any]) -> None:
        """Keep a day's comparison."""
        self.document["days"][name] = comparison

    def finish(self, command: str, found: Calibrated | None) -> None:
        """Write the document, with what the calibration came to."""
        self.document["command"] = command
        if found is not None:
            profile = found.profile
            self.document["calibration"] = {
                "service_ms": {
                    variant: {piece: 1000.0 * s for piece, s in row.items()}
                    for variant, row in profile.service_s.items()
                },
                "energy_j": {variant: dict(row) for variant, row in profile.energy_j.items()},
                "idle_w": profile.power.idle_w,
                "jitter_cv": profile.jitter_cv,
                "front_ms": 1000.0 * found.front_s,
                "power_errors": found.power_errors,
                "stages": [stage.to_dict() for stage in self.stages],
            }
        self._write(self.file, self.document)

    def _raw(self, name: str) -> Path:
        return self._out / f"day-{name}.json"

    @staticmethod
    def _write(path: Path, content: Any) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(path)
