"""fitted_profile: a profile out of measurements, its laws, and how well they predict what was kept out."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clover_rl.cluster.application import Application
from clover_rl.cluster.gpu import GpuModel
from clover_rl.cluster.profile import Interference, PowerModel, Profile, TransitionTimes
from clover_rl.serving.measuring.bench import COLUMNS
from clover_rl.serving.measuring.campaign import Measured, median_idle_w
from clover_rl.serving.measuring.plan import FITTED, KEPT_OUT
from clover_rl.simulation.validation.fit import fit_laws
from clover_rl.simulation.validation.measurements import Mix, read_mixes
from clover_rl.simulation.validation.replay import Errors, Replayed, replay_mixes, summary

__all__ = ["OWN_EXPONENT", "Fitted", "duty_errors", "fitted_profile", "write_rows"]

OWN_EXPONENT = 0.35
"""Of the law of neighbours: as EfficientNet's and ALBERT's, which it was chosen on (docs/h100.md)."""
CONSTANT = 1.03
"""Service times alone with p95 / p50 below this are taken as constant."""
Q95 = 1.6449
"""Normal quantile: p95 / p50 of a lognormal is exp(1.6449 sigma)."""
Table = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A profile and what speaks for it.

    Attributes:
        profile: as fitted.
        kept_out: errors on the mixed configurations that no law was fitted to.
        replayed: those tests, one by one.
        fit: errors on the tests that the laws were fitted to.
        duty: relative errors of power at part load, alone on the card.
    """

    profile: Profile
    kept_out: Errors
    replayed: list[Replayed]
    fit: Errors
    duty: list[float]


def write_rows(measured: Measured, path: Path) -> None:
    """Every row as CSV, in the form of the packaged measurements."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for stage in measured["stages"].values():
            writer.writerows(stage["rows"])


def fitted_profile(
    measured: Measured, rows: Path, application: Application, model: GpuModel, name: str
) -> Fitted:
    """Times and energies from the tests alone, laws from the fitted layouts, errors from the kept-out ones.

    Args:
        measured: everything.
        rows: its rows as `write_rows` wrote them.
        application, model: what was measured.
        name: of the profile.

    Raises:
        InputError: rows that cannot be read.
    """
    idle_w = median_idle_w(measured)
    service, energy, spread = _alone(measured)
    loads: Mapping[str, Mapping[str, float]] = measured["loads"]
    stages = measured["stages"].values()
    first = Profile(
        name=name,
        gpu=model,
        application=application,
        service_s={v: {s: ms / 1000.0 for s, ms in row.items()} for v, row in service.items()},
        energy_j=energy,
        memory_mib={v: loads[v]["memory_mib"] for v in application.variants},
        jitter_cv=0.0 if spread < CONSTANT else math.log(spread) / Q95,
        power=PowerModel(measured["parked_w"], idle_w, measured["limit_w"], 0.4),
        interference=Interference(
            dict.fromkeys(application.variants, 0.5),
            dict.fromkeys(application.variants, 0.5),
            _sms(measured),
            model.sms,
            OWN_EXPONENT,
        ),
        times=TransitionTimes(
            statistics.median(t for stage in stages for t in stage["create_s"]),
            statistics.median(t for stage in stages for t in stage["destroy_s"]),
            {v: loads[v]["load_s"] for v in application.variants},
        ),
        provenance={},
        partition="mps",
    )
    mixes = read_mixes(rows)
    fitted = fit_laws(_on(FITTED, mixes), first)
    replayed = replay_mixes(_mixed(_on(KEPT_OUT, mixes)), fitted)
    return Fitted(
        profile=fitted,
        kept_out=summary(replayed),
        replayed=replayed,
        fit=summary(replay_mixes(_on(FITTED, mixes), fitted)),
        duty=duty_errors(mixes, fitted),
    )


def duty_errors(mixes: list[Mix], profile: Profile) -> list[float]:
    """Predicted over measured power - 1 of one instance at part load: idle plus requests/s x energy."""
    found = []
    for mix in mixes:
        if mix.test.startswith("duty"):
            (item,) = mix.instances
            watts = profile.power.idle_w + item.served * profile.energy_j[item.variant][item.slice]
            found.append(watts / mix.gpu_w - 1.0)
    return found


def _on(layouts: tuple[str, ...], mixes: list[Mix]) -> list[Mix]:
    return [mix for mix in mixes if mix.layout in layouts and len(mix.instances) > 1]


def _mixed(mixes: list[Mix]) -> list[Mix]:
    return [mix for mix in mixes if mix.test.startswith("mix")]


def _alone(measured: Measured) -> tuple[Table, Table, float]:
    """Mean ms and J above idle by variant and slice; median of p95 / p50."""
    service: Table = {}
    energy: Table = {}
    spreads = []
    for stage in measured["stages"].values():
        # the card grows warm: each layout's own idle power
        idle_w = statistics.mean(float(row["gpu_w"]) for row in stage["rows"] if row["test"] == "idle")
        for row in stage["rows"]:
            if row["test"] == "alone":
                variant, piece = row["variant"], row["slice"]
                service.setdefault(variant, {})[piece] = float(row["mean_ms"])
                joules = (float(row["gpu_w"]) - idle_w) / float(row["served_per_s"])
                energy.setdefault(variant, {})[piece] = joules
                spreads.append(float(row["p95_ms"]) / float(row["p50_ms"]))
    return service, energy, statistics.median(spreads)


def _sms(measured: Measured) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, stage in measured["stages"].items():
        found |= dict(zip(name.split(), stage["sms"], strict=True))
    return found
