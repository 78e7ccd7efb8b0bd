"""The environment on one core: steps per second, scalar, vector and with every request simulated.

All on the shipped four-GPU scenario, with a random action at each step, so that nearly every step is also a
transition. The references are Gymnasium's CartPole, scalar and its own vector twin, in the same run. Seconds
are the process's own, which are those of the clock where nothing else wants the core.

`env_vector_1024_resets` is whole rounds of the scenario's episodes, 576 steps each, and the draw of 1 024 new
ones at the end of each. `env_steady`: steps/s over the last tenth of a million steps, resets included,
against the first tenth; and `env_memory`: how much resident memory grew over them, MB. `env_share_of_ppo`:
the environment's share of the wall time of MaskablePPO with 128 environments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import psutil

from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import load_scenario
from clover_rl.envs.vector import MIGClusterVec

__all__ = ["rows"]

SCENARIO = "h100-efficientnet"
RUNS = 5
WIDTH = 1024


def _per_second(run: Callable[[], int]) -> float:
    """Median steps/s of several runs, after one to warm up; `run` returns how many steps it made."""
    run()
    rates = []
    for _ in range(RUNS):
        began = time.process_time()
        steps = run()
        rates.append(steps / (time.process_time() - began))
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
        began = time.process_time()
        run()
        return steps / (time.process_time() - began)

    timed()
    return statistics.median(timed() for _ in range(RUNS))


def _vector() -> tuple[float, float]:
    """Steps/s without and with new episodes."""
    env = MIGClusterVec(WIDTH, SCENARIO, autoreset_mode="SameStep")
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
    steps(at, length)  # ends the episodes, so that a round begins with new ones
    return alone, _per_second(lambda: steps(0, length))


def _cartpole() -> tuple[float, float]:
    """Steps/s of CartPole, scalar and as the vector twin that Gymnasium ships."""
    env: Any = gym.make("CartPole-v1")
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=20_000)

    def one() -> int:
        for action in actions:
            if any(env.step(action)[2:4]):
                env.reset()
        return len(actions)

    vector: Any = gym.make_vec("CartPole-v1", num_envs=WIDTH, vectorization_mode="vector_entry_point")
    vector.reset(seed=0)
    many = np.random.default_rng(0).integers(2, size=(100, WIDTH))

    def all_() -> int:
        for actions in many:
            vector.step(actions)
        return many.size

    return _per_second(one), _per_second(all_)


def _steady() -> tuple[float, float, float]:
    """Steps/s over the first and the last tenth of a million steps, and growth of memory in MB."""
    env = MIGClusterVec(WIDTH, SCENARIO, days=0.25, autoreset_mode="SameStep")
    env.reset(seed=1)
    rounds = 1_000_000 // WIDTH
    chosen = np.random.default_rng(0).integers(len(env.model.catalogue), size=(rounds, WIDTH))
    process, tenth = psutil.Process(), rounds // 10
    for actions in chosen[:tenth]:  # compiled and touched once
        env.step(actions)
    before = process.memory_info().rss
    seconds = np.empty(rounds)
    for number, actions in enumerate(chosen):
        began = time.process_time()
        env.step(actions)
        seconds[number] = time.process_time() - began
    grown = (process.memory_info().rss - before) / 1e6
    # the same phase of the episodes at both ends, so that as many resets are in each
    length = env.core.steps
    whole = tenth // length * length
    last = (rounds - whole) // length * length
    first_s, last_s = seconds[:whole].sum(), seconds[last : last + whole].sum()
    return whole * WIDTH / first_s, whole * WIDTH / last_s, grown


def _share_of_ppo() -> float:
    """Wall time within the environment over that of MaskablePPO's learning."""
    from sb3_contrib import MaskablePPO

    from clover_rl.envs.sb3 import SB3VecEnv

    env = SB3VecEnv(MIGClusterVec(128, SCENARIO, autoreset_mode="SameStep"))
    spent = 0.0

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                spent += time.perf_counter() - began

        return call

    for name in ("reset", "step_wait", "env_method"):
        setattr(env, name, timed(getattr(env, name)))
    model = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=1024, n_epochs=4, seed=0, device="cpu")
    began = time.perf_counter()
    model.learn(8 * 64 * 128)
    return spent / (time.perf_counter() - began)


def rows() -> list[dict[str, Any]]:
    """Steps/s beside CartPole's in the same run, steadiness, and the share in training."""
    load_scenario(SCENARIO).model()  # built or read from the cache before anything is timed
    scalar = _scalar("table", 2000)
    vector, with_resets = _vector()
    event = _scalar("event", 200)
    cartpole, cartpole_vector = _cartpole()
    first, last, grown = _steady()
    figures: dict[str, tuple[float, float | None, str]] = {
        "env_scalar": (scalar, cartpole, "steps/s"),
        "env_vector_1024": (vector, cartpole_vector, "steps/s"),
        "env_vector_1024_resets": (with_resets, cartpole_vector, "steps/s"),
        "env_event": (event, cartpole, "steps/s"),
        "env_steady": (last, first, "steps/s"),
        "env_memory": (grown, None, "MB"),
        "env_share_of_ppo": (_share_of_ppo(), None, "share of wall time"),
    }
    return [
        {
            "name": name,
            "value": value,
            "unit": unit,
            "reference": reference,
            "ratio": None if reference is None else value / reference,
        }
        for name, (value, reference, unit) in figures.items()
    ]
