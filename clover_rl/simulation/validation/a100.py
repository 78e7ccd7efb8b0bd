"""A100: Clover's 18 points, predicted by the shipped profiles, and for each miss the assumption behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from clover_rl.cluster.profile_file import load_profile
from clover_rl.simulation.validation.a100_energy import EnergyFit, Run, fit_energies
from clover_rl.simulation.validation.a100_fit import Times, fit_times
from clover_rl.simulation.validation.a100_points import Point, published_points
from clover_rl.simulation.validation.a100_profile import instance_times
from clover_rl.simulation.validation.a100_runs import EventRun, PointRuns, Seen
from clover_rl.simulation.validation.a100_shape import shape_for

__all__ = ["ASSUMPTIONS", "BUSY_HOST", "TOLERANCE", "Miss", "PredictedPoint", "find_misses", "predict_points"]

Quantity = Literal["energy_j", "p95_ms"]
Fidelity = Literal["event", "table"]

TOLERANCE = 0.05
"""A prediction further off than this, as a share of the published number, is a miss."""
BUSY_HOST = {"efficientnet": (0.05, 0.0), "yolov5": (0.4, 0.2), "albert": (0.1, 0.5)}
"""Coupling and coefficient of variation that fit the p95 best once instances may slow each other: of 0 to 0.4
and 0 to 0.5, both in steps of 0.05."""
ASSUMPTIONS = {
    "event": "the load lasts for ever: the table knows steady states, and backlog only as a fluid",
    "arrivals": "arrivals are Poisson at the nominal rate: one sample was sent, of 1 001 or 2 001 requests",
    "busy_host": "service does not depend on other instances: MIG isolates slices, not the host they share",
    "tail": "a request costs the same energy at any load: busy power seems to last 0.1 s after a request",
}
"""Run that lifts an assumption -> the assumption. Each run lifts those before it too, but `tail` and
`busy_host` concern one quantity each."""


@dataclass(frozen=True, slots=True)
class PredictedPoint:
    """A published point and what every run says of it.

    Attributes:
        point: as published.
        table, event: what the profile predicts at each fidelity.
        arrivals: the profile on exactly the arrivals that were sent.
        busy_host: as `arrivals`, with service that slows when other instances of the host are busy, refitted;
            its energy is `arrivals`'.
        tail: as `arrivals`, with busy power that lasts on after each request, refitted; its p95 is
            `arrivals`'.
    """

    point: Point
    table: Seen
    event: EventRun
    arrivals: Seen
    busy_host: Seen
    tail: Seen

    def run(self, name: str) -> Seen:
        """What the run of a name says; `event` means its median."""
        found = getattr(self, name)
        return found.median if isinstance(found, EventRun) else found

    def off(self, name: str, quantity: Quantity) -> float:
        """Predicted over published, less 1."""
        return float(getattr(self.run(name), quantity) / getattr(self.point, quantity) - 1.0)


@dataclass(frozen=True, slots=True)
class Miss:
    """A prediction that is off by more than `TOLERANCE`.

    Attributes:
        point: where.
        quantity, fidelity: what was predicted, and how.
        off: predicted over published, less 1.
        run: the first run that is no miss itself and at most half as far off as the prediction or a run
            before it; else the one that is least off. `event` may also miss by what chance does.
        off_there: how far that run is off.
        explained: whether that run passes.
        by_chance: whether the published number lies within what 9 of 10 runs at event fidelity give.
    """

    point: Point
    quantity: Quantity
    fidelity: Fidelity
    off: float
    run: str
    off_there: float
    explained: bool
    by_chance: bool

    @property
    def assumption(self) -> str:
        """The assumption that the run lifts."""
        return ASSUMPTIONS[self.run]


def predict_points(points: Sequence[Point] | None = None) -> list[PredictedPoint]:
    """Predict all points with the shipped profiles, and run each with one assumption after the other lifted.

    The energies of all points together are fitted again for `tail`, and the service times of each application
    for `busy_host`; all other runs use the shipped numbers.
    """
    points = published_points() if points is None else points
    runs = {
        (name, kind): PointRuns(load_profile(f"a100-{name}"), kind)
        for name, kind in dict.fromkeys((point.application, point.configuration) for point in points)
    }
    replays = [runs[point.application, point.configuration].replayed(point) for point in points]
    tailed = fit_energies(points, replays, tail=True)
    coupled = {
        name: fit_times([p for p in points if p.application == name], shape_for(name), cv, coupling)
        for name, (coupling, cv) in BUSY_HOST.items()
        if any(point.application == name for point in points)
    }
    return [
        _predicted(point, runs[point.application, point.configuration], replay, tailed, coupled)
        for point, replay in zip(points, replays, strict=True)
    ]


def _predicted(
    point: Point,
    runs: PointRuns,
    replayed: Run,
    tailed: EnergyFit,
    coupled: Mapping[str, Times],
) -> PredictedPoint:
    duration_s = point.requests * point.interarrival_s
    arrivals = runs.on_sample(point)
    times = coupled[point.application]
    slowed_ms = runs.slowed_p95_ms(
        point, instance_times(times, point.configuration), times.coupling, times.cv
    )
    return PredictedPoint(
        point,
        runs.at_table(point.rate, duration_s),
        runs.at_event(point.rate, duration_s),
        arrivals,
        replace(arrivals, p95_ms=slowed_ms),
        replace(arrivals, energy_j=tailed.energy_j(point, replayed)),
    )


def find_misses(predicted: Sequence[PredictedPoint]) -> list[Miss]:
    """Every prediction off by more than `TOLERANCE`, with the run that isolates what is behind it."""
    found = []
    quantities: tuple[Quantity, ...] = ("energy_j", "p95_ms")
    fidelities: tuple[Fidelity, ...] = ("event", "table")
    for item in predicted:
        for quantity in quantities:
            for fidelity in fidelities:
                off = item.off(fidelity, quantity)
                if abs(off) <= TOLERANCE:
                    continue
                candidates = ["arrivals", "tail" if quantity == "energy_j" else "busy_host"]
                if fidelity == "table":
                    candidates.insert(0, "event")
                published = getattr(item.point, quantity)
                low, high = getattr(item.event.low, quantity), getattr(item.event.high, quantity)
                by_chance = bool(low <= published <= high)
                offs = {name: item.off(name, quantity) for name in candidates}
                passing = []
                worst = abs(off)
                for name, there in offs.items():
                    enough = abs(there) <= TOLERANCE or (name == "event" and by_chance)
                    if enough and abs(there) <= worst / 2.0:
                        passing.append(name)
                    worst = max(worst, abs(there))
                best = passing[0] if passing else min(offs.items(), key=lambda pair: abs(pair[1]))[0]
                found.append(
                    Miss(item.point, quantity, fidelity, off, best, offs[best], bool(passing), by_chance)
                )
    return found
