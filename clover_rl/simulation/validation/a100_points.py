"""Points that Clover's authors measured on two A100 40 GB, and the load under which they did."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.gpu import CATALOGUE
from clover_rl.cluster.profile import Profile

__all__ = [
    "APPLICATIONS",
    "GPUS",
    "STATIC_PAIRS",
    "Point",
    "configuration",
    "published_points",
    "sent_arrivals",
]

APPLICATIONS = ("efficientnet", "yolov5", "albert")
"""Each has a shipped profile `a100-NAME`."""
GPUS = 2
"""Cards of the artifact's machine."""
STATIC_PAIRS = {
    "efficientnet": {"3g": "B3", "4g": "B3"},
    "yolov5": {"3g": "l", "4g": "x"},
    "albert": {"3g": "base", "4g": "large"},
}
"""Variant on each slice of STATIC, in the order of the artifact's sweep: `[3, 4]` with `33`, `lx`, `01`."""


@dataclass(frozen=True, slots=True)
class Point:
    """One published point.

    Attributes:
        application: name of the application.
        configuration: BASE or STATIC.
        interarrival_s: mean time between requests that the generator was told, s.
        requests: number of requests that energy was divided by; one more was answered.
        energy_j: energy of both cards per request, J.
        p95_ms: 95th percentile of latency over the answered requests, queueing included, ms.
        accuracy: over the answered requests.
    """

    application: str
    configuration: str
    interarrival_s: float
    requests: int
    energy_j: float
    p95_ms: float
    accuracy: float

    @property
    def rate(self) -> float:
        """Nominal load, requests/s."""
        return 1.0 / self.interarrival_s

    @property
    def profile_name(self) -> str:
        """Name of the shipped profile."""
        return f"a100-{self.application}"


def published_points() -> tuple[Point, ...]:
    """The 18 points (source: arrival sweep in the artifact of Clover, SC'23)."""
    with (CATALOGUE / "measurements" / "a100_clover.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Point(
                row["application"],
                row["configuration"],
                float(row["interarrival_s"]),
                int(row["requests"]),
                float(row["energy_j"]),
                float(row["p95_ms"]),
                float(row["accuracy"]),
            )
            for row in csv.DictReader(file)
        )


def sent_arrivals(point: Point) -> NDArray[np.float64]:
    """When the artifact's generator sent its requests, s, shape (requests + 1,).

    The first is sent at once, the gaps after it are exponential from NumPy's legacy generator seeded with 1
    before every point. So all points of one length saw the same sample, scaled. The time that the generator
    itself took between two requests is not in it.
    """
    gaps = np.random.RandomState(1).exponential(point.interarrival_s, point.requests)
    return np.concatenate(([0.0], np.cumsum(gaps)))


def configuration(profile: Profile, name: str) -> ClusterConfiguration:
    """BASE or STATIC on the two cards: the largest variant on 7g, or 4g + 3g with `STATIC_PAIRS`."""
    if name == "BASE":
        gpu = f"7g@0:{profile.application.largest.name}"
    else:
        pairs = STATIC_PAIRS[profile.application.name]
        gpu = f"4g@0:{pairs['4g']}+3g@4:{pairs['3g']}"
    return ClusterConfiguration.parse("|".join([gpu] * GPUS), profile)
