"""Windows of requests under transitions: p95 measured, as planned, and as what then served would have it.

    python -m tests.serving.control.windows --transitions 60 --out windows.json

says for each window how far its plan is off and why: transitions that took longer than planned, or
answers that took longer than the profile says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clover_rl.serving.routing.dispatcher import CompletedRequest
from tests.serving.control.prediction import overruns, planned_states, predicted_latencies_s
from tests.serving.control.rig import Cluster

__all__ = ["Window", "main", "windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """Some requests in a row; p95 in ms.

    Attributes:
        measured: what it was.
        planned: slices, loads and answers take the profile's times.
        served: what served when is as it was; answers take the profile's times.
        replayed: that, and each instance type takes the time that it took in the median.
        bound: `planned` two standard deviations of the rank of a p95 further up.
        served_bound: `served`, likewise.
        transitions: that were under way in it.
        overrun_s: how much longer than planned the slowest of them took, s.
        held_up_ms: by how much an answer was later than the profile says, median over the window, ms.
    """

    measured: float
    planned: float
    served: float
    replayed: float
    bound: float
    served_bound: float
    transitions: int
    overrun_s: float
    held_up_ms: float


def windows(cluster: Cluster, size: int, load_rps: float) -> list[Window]:
    """Every window of `size` requests in a row.

    Args:
        cluster: after its run.
        size: requests a window.
        load_rps: load that transitions were planned for.
    """
    profile = cluster.profile
    requests = sorted(cluster.completed, key=lambda request: request.arrived_s)
    arrivals = [request.arrived_s for request in requests]
    measured = np.array([request.finished_s - request.arrived_s for request in requests])
    planned = _latencies(cluster, planned_states(profile, cluster.records, load_rps), arrivals)
    states = [(0.0, cluster.states[0][1]), *cluster.states]
    served = _latencies(cluster, states, arrivals)
    replayed = _latencies(cluster, states, arrivals, _medians(requests))
    late = overruns(profile, cluster.records, load_rps)
    more = np.array([1000.0 * _held_up_s(cluster, request) for request in requests])
    sigma = (0.95 * 0.05 / size) ** 0.5
    found = []
    for start in range(0, len(requests) - size + 1, size):
        part = slice(start, start + size)
        first, last = requests[start].arrived_s, requests[start + size - 1].finished_s
        within = [over for began, ended, over in late if began < last and ended > first]
        p95 = [
            1000.0 * float(np.quantile(each[part], 0.95)) for each in (measured, planned, served, replayed)
        ]
        bounds = [1000.0 * float(np.quantile(each[part], 0.95 + 2.0 * sigma)) for each in (planned, served)]
        found.append(
            Window(*p95, *bounds, len(within), max(within, default=0.0), float(np.median(more[part])))
        )
    return found


def _latencies(
    cluster: Cluster,
    states: Sequence[tuple[float, object]],
    arrivals: Sequence[float],
    *more: dict[str, float],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(predicted_latencies_s(cluster.profile, states, arrivals, *more))  # type: ignore[arg-type]


def _medians(requests: Sequence[CompletedRequest]) -> dict[str, float]:
    """Slice type and variant -> median time on an instance, s."""
    times: dict[str, list[float]] = {}
    for request in requests:
        assert request.instance is not None
        assert request.started_s is not None
        times.setdefault(_kind(request.instance), []).append(request.finished_s - request.started_s)
    return {kind: float(np.median(each)) for kind, each in times.items()}


def _kind(instance: str) -> str:
    place, variant = instance.split("/")[1].split(":")
    return f"{place.split('@')[0]}:{variant}"


def _held_up_s(cluster: Cluster, request: CompletedRequest) -> float:
    assert request.instance is not None
    assert request.started_s is not None
    piece, variant = _kind(request.instance).split(":")
    return request.finished_s - request.started_s - cluster.profile.service_s[variant][piece]


def main() -> None:
    """Run transitions and write their windows."""
    from tests.serving.control.test_transitions_under_load import WINDOW, transitions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cluster, sent = asyncio.run(transitions(options.transitions, options.seed, low=50.0, high=200.0))
    found = windows(cluster, WINDOW, 200.0)
    options.out.write_text(json.dumps([asdict(window) for window in found], indent=1))
    print(f"{len(cluster.records)} transitions, {len(sent)} requests, {len(found)} windows")
    for window in found:
        print(
            f"p95 {window.measured:.1f} ms, planned {window.planned:.1f}, served {window.served:.1f}, "
            f"replayed {window.replayed:.1f}; {window.transitions} transitions, over "
            f"{window.overrun_s:.2f} s, answers held up {window.held_up_ms:.2f} ms"
        )


if __name__ == "__main__":
    main()
