"""Calibration: what this very card does, measured as it is served, before any day that is to be predicted.

Cards of one model differ by some percent, and a profile measured without a server lacks the hop to the
instance. So some stages of constant load are served first, on the same card, by the same server, and the
profile's times and energies are replaced by what they show. Nothing of a day goes into it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import Layout, multiset_layouts
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.provenance import Provenance
from clover_rl.errors import ServingError
from clover_rl.simulation.physics import Physics

__all__ = ["Calibrated", "PairTime", "Stage", "StageResult", "calibrated", "stages"]

WARM_UP_S, WHOLE_S, MIXED_S, SETTLE_S = 10.0, 4.0, 3.5, 0.5
"""Length of a stage, s: the first, which warms the card up and tells nothing; with a whole card; with slices;
and what is left out at the beginning of each."""
WARM_UP_LOAD, WHOLE_LOADS, MIXED_LOAD = 0.7, (0.2, 0.65), 0.45
"""Load as share of the capacity, BASE's at most, which is what a day's load is made for: two, so that idle
power and energy per request can be told apart."""
CONSTANT_CV = 0.02
"""Service times that vary less count as constant."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A constant load on one configuration.

    Attributes:
        configuration: what serves.
        rate: Poisson arrivals, requests/s.
        seconds: how long power is read, after SETTLE_S.
        counts: False for the warm-up, in which every two requests are sent together.
    """

    configuration: ClusterConfiguration
    rate: float
    seconds: float
    counts: bool = True


@dataclass(frozen=True, slots=True)
class PairTime:
    """A variant on a slice type in a stage: requests/s, requests, how long one kept an instance, ms.

    The median, and half of what lies between the 16th and the 84th percentile: one request that was held up
    by something else on the machine is no property of the card.
    """

    variant: str
    slice: str
    rate: float
    requests: int
    median_ms: float
    spread_ms: float


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage showed.

    Attributes:
        configuration: as text.
        watts: of all GPUs.
        pairs: by variant and slice type.
        counts: False for the warm-up.
        kind: of the power: measured or modelled.
        front_ms: of two requests sent together, how much later the second one reaches the queue, median, ms;
            None where none were.
    """

    configuration: str
    watts: float
    pairs: tuple[PairTime, ...]
    counts: bool = True
    kind: str = "measured"
    front_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> StageResult:
        """Inverse of `to_dict`."""
        pairs = tuple(PairTime(**pair) for pair in content["pairs"])
        return cls(**{**content, "pairs": pairs})


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A profile of one card, and how well it fits what it was made from.

    Attributes:
        profile: times, energies, jitter and idle power replaced.
        power_errors: fitted / measured power - 1 of each stage that counts.
        front_s: time that the way to the queue takes per request, one after the other, s.
    """

    profile: Profile
    power_errors: list[float]
    front_s: float


def stages(profile: Profile, gpus: int) -> list[Stage]:
    """Every variant on a whole card under two loads, high and low in turn; then others in company."""
    physics, variants = Physics(profile), list(profile.application.variants)
    layouts = multiset_layouts(profile.gpu)
    whole = next(layout for layout in layouts if len(layout.placements) == 1 and _is_whole(layout, profile))
    cards = [(_uniform(whole, [variant], gpus)) for variant in variants]
    largest = cards[-1]
    most = physics.capacity(largest)
    found = [Stage(largest, WARM_UP_LOAD * most, WARM_UP_S, counts=False)]
    for turn, loads in enumerate((WHOLE_LOADS, WHOLE_LOADS[::-1])):
        for index, card in enumerate(reversed(cards)):
            load = loads[(index + turn * len(cards)) % 2]
            found.append(Stage(card, load * min(physics.capacity(card), most), WHOLE_S))
    return found + [
        Stage(mixed, MIXED_LOAD * min(physics.capacity(mixed), most), MIXED_S)
        for mixed in _mixed(profile, layouts, gpus)
    ]


def calibrated(profile: Profile, results: Sequence[StageResult], gpus: int) -> Calibrated:
    """The profile with what the stages showed.

    Times: median time busy over the slowdown that the profile's law gives in that company; a pair that no
    stage had gets the shipped time and the median of what the others differ by. Power: least squares of idle
    power, one energy for each variant on a whole card, and one factor on the shipped energies of all others.

    Args:
        profile: as shipped.
        results: of `stages`.
        gpus: of the cluster.

    Raises:
        ServingError: a stage without a request.
    """
    used = [result for result in results if result.counts]
    if not all(result.pairs for result in used):
        raise ServingError("a stage of the calibration was served nothing", where="live-compare")
    physics = Physics(profile)
    times: dict[tuple[str, str], list[tuple[float, int]]] = {}
    spread, rows, watts, slow = [], [], [], []
    for result in used:
        configuration = ClusterConfiguration.parse(result.configuration, profile)
        point = physics.at(configuration, sum(pair.rate for pair in result.pairs))
        slowdown = {
            (item.variant, item.placement.slice): float(after / alone)
            for item, after, alone in zip(
                configuration.instances,
                point.service_s,
                physics.arrays(configuration).service_s,
                strict=True,
            )
        }
        for pair in result.pairs:
            alone_ms = pair.median_ms / slowdown[pair.variant, pair.slice]
            times.setdefault((pair.variant, pair.slice), []).append((alone_ms, pair.requests))
            spread.append((pair.requests, (pair.spread_ms / pair.median_ms) ** 2))
        watts.append(result.watts)
        rows.append(result.pairs)
        slow.append(slowdown)
    service = _service(profile, times)
    idle_w, energy, errors = _power(profile, rows, slow, watts, gpus)
    cv = float(np.sqrt(np.average([v for _, v in spread], weights=[n for n, _ in spread])))
    source = Provenance("measured", "this card, as served, before the days that are compared")
    new = replace(
        profile,
        service_s=service,
        energy_j=energy,
        jitter_cv=cv if cv > CONSTANT_CV else 0.0,
        power=replace(profile.power, idle_w=idle_w, parked_w=min(idle_w, profile.power.parked_w)),
        provenance={**profile.provenance, "service": source, "energy": source, "power.idle_w": source},
    )
    front = [result.front_ms for result in results if result.front_ms is not None]
    return Calibrated(new, errors, statistics.median(front) / 1000.0 if front else 0.0)


def _service(
    profile: Profile, times: Mapping[tuple[str, str], list[tuple[float, int]]]
) -> dict[str, dict[str, float]]:
    means = {
        key: float(np.average([ms for ms, _ in each], weights=[n for _, n in each])) / 1000.0
        for key, each in times.items()
    }
    more = statistics.median(s - profile.service_s[variant][piece] for (variant, piece), s in means.items())
    return {
        variant: {piece: means.get((variant, piece), s + more) for piece, s in row.items()}
        for variant, row in profile.service_s.items()
    }


def _power(
    profile: Profile,
    rows: Sequence[Sequence[PairTime]],
    slow: Sequence[Mapping[tuple[str, str], float]],
    watts: Sequence[float],
    gpus: int,
) -> tuple[float, dict[str, dict[str, float]], list[float]]:
    """Idle power of a GPU, W, energies, J, and the fit's relative errors."""
    exponent = profile.power.slowdown_exponent
    alone = sorted({(row[0].variant, row[0].slice) for row in rows if len(row) == 1})
    matrix = np.zeros((len(rows), len(alone) + 2))
    for index, (row, slowdown) in enumerate(zip(rows, slow, strict=True)):
        matrix[index, 0] = gpus
        for pair in row:
            key = pair.variant, pair.slice
            factor = pair.rate * slowdown[key] ** exponent
            if key in alone:
                matrix[index, 1 + alone.index(key)] += factor
            else:
                matrix[index, -1] += factor * profile.energy_j[pair.variant][pair.slice]
    if not matrix[:, -1].any():
        matrix = matrix[:, :-1]
    scale = 1.0 / np.asarray(watts)  # every stage counts alike
    found = np.linalg.lstsq(matrix * scale[:, None], np.ones(len(rows)), rcond=None)[0]
    own = dict(zip(alone, found[1 : 1 + len(alone)].tolist(), strict=True))
    others = float(found[-1]) if len(found) == len(alone) + 2 else 1.0
    energy = {
        variant: {piece: own.get((variant, piece), joules * others) for piece, joules in row.items()}
        for variant, row in profile.energy_j.items()
    }
    return float(found[0]), energy, (matrix @ found * scale - 1.0).tolist()


def _is_whole(layout: Layout, profile: Profile) -> bool:
    slices = profile.gpu.slices
    return slices[layout.placements[0].slice].size == max(piece.size for piece in slices.values())


def _mixed(profile: Profile, layouts: Sequence[Layout], gpus: int) -> Iterator[ClusterConfiguration]:
    """Configurations that together have every pair which no whole card has."""
    variants = list(profile.application.variants)
    left = {
        (variant, piece)
        for variant, row in profile.service_s.items()
        for piece in row
        if profile.fits(variant, profile.gpu.slice_type(piece))
        and not any(_is_whole(each, profile) and each.placements[0].slice == piece for each in layouts)
    }
    while left:
        best: tuple[int, Layout, list[str]] | None = None
        for layout in layouts:
            for shift in range(len(variants)):
                chosen = [variants[(shift + at) % len(variants)] for at in range(len(layout.placements))]
                pairs = [(v, place.slice) for v, place in zip(chosen, layout.placements, strict=True)]
                new = len(left & set(pairs))
                # of layouts that have as many new ones, the one with the fewest slices: less company
                if new and (best is None or (new, -len(pairs)) > (best[0], -len(best[2]))):
                    best = new, layout, chosen
        if best is None:
            return
        _, layout, chosen = best
        left -= {(v, place.slice) for v, place in zip(chosen, layout.placements, strict=True)}
        yield _uniform(layout, chosen, gpus)


def _uniform(layout: Layout, variants: Sequence[str], gpus: int) -> ClusterConfiguration:
    placed = tuple(
        PlacedVariant(place, variant) for place, variant in zip(layout.placements, variants, strict=True)
    )
    return ClusterConfiguration.uniform(GpuConfiguration(placed), gpus, gpus)
