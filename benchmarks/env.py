"""The environment on one core: steps per second, scalar, vector and with every request simulated.

All on the shipped four-GPU scenario, with a random action at each step, so that nearly every step is also a
transition. `env_vector_1024_with_resets` is a whole round of episodes, drawing new signals included.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import load_scenario
from clover_rl.envs.vector import MIGClusterVec

__all__ = ["rows"]

SCENARIO = "h100-efficientnet"
RUNS = 5
WIDTH = 1024
ROUND_DAYS = 2.0


def _per_second(run: Callable[[], int]) -> float:
    """Median steps/s of several runs, after one to warm up; `run` returns how many steps it made."""
    run()
    rates = []
    for _ in range(RUNS):
        began = time.perf_counter()
        steps = run()
        rates.append(steps / (time.perf_counter() - began))
    return statistics.median(rates)


def _scalar(fidelity: Any, steps: int) -> float:
    env = MIGClusterEnv(SCENARIO, fidelity=fidelity, days=7.0)
    chosen = np.random.default_rng(0).integers(len(env.model.catalogue), size=steps)
    assert steps <= env.core.steps

    def run() -> int:
        for action in chosen:
            env.step(action)
        return steps

    def timed() -> float:
        env.reset(seed=1)
        began = time.perf_counter()
        run()
        return steps / (time.perf_counter() - began)

    timed()
    return statistics.median(timed() for _ in range(RUNS))


def _vector() -> tuple[float, float]:
    """Steps/s without and with new episodes."""
    env = MIGClusterVec(WIDTH, SCENARIO, days=ROUND_DAYS, autoreset_mode="SameStep")
    env.reset(seed=1)
    length = env.core.steps
    chosen = np.random.default_rng(0).integers(len(env.model.catalogue), size=(length, WIDTH))

    def steps(first: int, last: int) -> int:
        for actions in chosen[first:last]:
            env.step(actions)
        return (last - first) * WIDTH

    edges = iter(np.linspace(0, length - 1, RUNS + 2).astype(int).tolist())
    at = next(edges)

    def part() -> int:
        nonlocal at
        first, at = at, next(edges)
        return steps(first, at)

    alone = _per_second(part)
    began = time.perf_counter()
    made = steps(at, length) + steps(0, length)  # ends one round of episodes and plays another
    return alone, made / (time.perf_counter() - began)


def rows() -> list[dict[str, Any]]:
    """Steps/s; the vector's reference is the scalar environment in the same run."""
    load_scenario(SCENARIO).model()  # built or read from the cache before anything is timed
    scalar = _scalar("table", 2000)
    vector, with_resets = _vector()
    event = _scalar("event", 200)
    figures = {
        "env_scalar": (scalar, None),
        "env_vector_1024": (vector, scalar),
        "env_vector_1024_with_resets": (with_resets, scalar),
        "env_event": (event, None),
    }
    return [
        {
            "name": name,
            "value": value,
            "unit": "steps/s",
            "reference": reference,
            "ratio": None if reference is None else value / reference,
        }
        for name, (value, reference) in figures.items()
    ]
