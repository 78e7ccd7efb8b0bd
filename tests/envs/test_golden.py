"""Golden traces: a short episode of every shipped scenario stays as it is, to the last count.

Every scenario is played in the fast suite on a part of its catalogue, whose table takes a second, and with
--slow on the whole one. A change that means to change them is followed by
`pytest tests/envs/test_golden.py --write-golden --slow`, and says why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import load_scenario, scenario_names

FOLDER = Path(__file__).parents[1] / "data" / "golden"
GPUS, STEPS, SEED = 1, 12, 20
"""One GPU, so that a table is built in seconds; every law but rolling is in it."""
EPISODES: dict[str, dict[str, Any]] = {
    "table": {},
    "event": {"fidelity": "event"},
    "different": {"sla": (0.8, 1.25), "perturbation": 0.2, "split": "test"},
}
COUNTS = ("arrived", "answered", "timed_out", "queued")


@pytest.fixture(params=scenario_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def played(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """An episode under seeded actions, as plain values."""
    scenario = load_scenario(name, gpus=GPUS)
    env = MIGClusterEnv(scenario, days=0.5 * scenario.time_scale, **arguments)
    observation, info = env.reset(seed=SEED)
    choose = np.random.default_rng(SEED)
    steps = []
    first = observation.astype(float).tolist()
    for _ in range(STEPS):
        observation, reward, _, _, told = env.step(choose.choice(np.flatnonzero(env.action_masks())))
        steps.append(
            {key: told[key] for key in (*COUNTS, "action", "p95_ms", "energy_j", "accuracy", "carbon_g")}
            | {"reward": reward, "configuration": told["configuration"]}
        )
    return {
        "actions": len(env.model.catalogue),
        "info": info,
        "first_observation": first,
        "last_observation": observation.astype(float).tolist(),
        "steps": steps,
    }


def assert_same(found: Any, kept: Any, where: str) -> None:
    if isinstance(kept, dict):
        assert found.keys() == kept.keys(), where
        for key, value in kept.items():
            assert_same(found[key], value, f"{where}.{key}")
    elif isinstance(kept, list):
        assert len(found) == len(kept), where
        for index, (one, other) in enumerate(zip(found, kept, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(kept, float):
        assert found == pytest.approx(kept, rel=1e-9, abs=1e-9), where
    else:
        assert found == kept, where


def check(name: str, path: Path, request: pytest.FixtureRequest) -> None:
    found = {kind: played(name, arguments) for kind, arguments in EPISODES.items()}
    if request.config.getoption("--write-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert_same(found, json.loads(path.read_text(encoding="utf-8")), name)


@pytest.mark.usefixtures("part_of_the_catalogue")
def test_a_short_episode_on_part_of_the_catalogue_is_what_it_was(
    name: str, request: pytest.FixtureRequest
) -> None:
    check(name, FOLDER / "part" / f"{name}.json", request)


@pytest.mark.slow
def test_a_short_episode_is_what_it_was(name: str, request: pytest.FixtureRequest) -> None:
    check(name, FOLDER / f"{name}.json", request)


def test_every_shipped_scenario_has_golden_traces_and_nothing_else_has() -> None:
    for folder in (FOLDER, FOLDER / "part"):
        assert {path.stem for path in folder.glob("*.json")} == set(scenario_names())
