"""Another future in the user's own files changes no observation before it, through the environment itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from clover_rl.control.state import FORECAST_HOURS
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import load_scenario

HOURS, HISTORY_H, INTERVALS_A_HOUR = 80, 24, 12
DECISION = 36
"""Three hours into the episode: on a point of the carbon file and on an edge of the load's bins."""
FURTHEST_H = max(FORECAST_HOURS)


def write(folder: Path, scenario_file: str, *, carbon_h: float, load_h: float, forecast: str) -> Path:
    """A scenario whose files are others from some hours of the episode on; the episode is all that fits."""
    folder.mkdir()
    noise = np.random.default_rng(5)
    carbon = 300.0 + 80.0 * noise.standard_normal(HOURS + 1).cumsum() / 9.0
    load = 900.0 + 200.0 * np.sin(np.arange(12 * HOURS) / 40.0) + 30.0 * noise.standard_normal(12 * HOURS)
    hour = np.arange(HOURS + 1) - HISTORY_H
    carbon[hour > carbon_h] = 3.0 * carbon[hour > carbon_h] + 7.0
    bins = np.arange(12 * HOURS) / 12.0 - HISTORY_H
    load[bins >= load_h] *= 0.6
    load[:60] = 1500.0  # the peak, which scales the load, lies before both
    rows = [f"{3600 * h},{value}" for h, value in enumerate(np.abs(carbon).tolist())]
    (folder / "c.csv").write_text("\n".join(["offset_s,gco2_per_kwh", *rows, ""]))
    rows = [f"{300 * b},{value}" for b, value in enumerate(load.tolist())]
    (folder / "l.csv").write_text("\n".join(["offset_s,requests", *rows, ""]))
    source = Path(scenario_file)
    text = source.read_text().replace("small-profile.yaml", str(source.with_name("small-profile.yaml")))
    path = folder / "own.yaml"
    path.write_text(
        text
        + f"carbon: {{files: [c.csv], forecast: {forecast}}}\nload: {{files: [l.csv], peak_share: 0.7}}\n"
    )
    return path


def observations(path: Path, fidelity: str) -> tuple[NDArray[np.float32], list[str]]:
    """Observations up to the decision and twelve steps on, and the name of each number."""
    days = (HOURS - HISTORY_H) / 24.0 - 300.0 / 86_400.0
    env = gym.make(
        "clover_rl/MIGCluster-v0", scenario=str(path), split="test", fidelity=fidelity, w=0.1, days=days
    ).unwrapped
    assert isinstance(env, MIGClusterEnv)
    first = env.reset(seed=3)[0]
    actions = np.flatnonzero(env.action_masks())
    rows = [env.step(actions[step % len(actions)])[0] for step in range(DECISION + 12)]
    names = [field.name for field in env.observation_codec.fields for _ in range(field.size)]
    return np.stack([first, *rows]), names


@pytest.fixture
def both(tmp_path: Path, scenario_file: str) -> Any:
    def run(
        forecast: str, fidelity: str, *, carbon_h: float, load_h: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
        never = write(tmp_path / "a", scenario_file, carbon_h=1e9, load_h=1e9, forecast=forecast)
        later = write(tmp_path / "b", scenario_file, carbon_h=carbon_h, load_h=load_h, forecast=forecast)
        # the load's scale is the same, or every observation would differ for that alone
        scales = [np.quantile(load_scenario(each).load_traces[0].values, 0.99) for each in (never, later)]
        assert scales[0] == scales[1]
        one, names = observations(never, fidelity)
        return one, observations(later, fidelity)[0], names

    return run


HOUR = DECISION / INTERVALS_A_HOUR


@pytest.mark.parametrize("fidelity", ["table", "event"])
@pytest.mark.parametrize("forecast", ["persistence", "typical-day"])
def test_another_future_changes_no_observation_before_it(both: Any, forecast: str, fidelity: str) -> None:
    one, other, _ = both(forecast, fidelity, carbon_h=HOUR, load_h=HOUR)
    assert np.array_equal(one[: DECISION + 1], other[: DECISION + 1])
    assert (one[DECISION + 1 :] != other[DECISION + 1 :]).any(axis=1).all()


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_a_future_beyond_the_furthest_forecast_changes_nothing_even_where_the_truth_is_blurred(
    both: Any, fidelity: str
) -> None:
    one, other, names = both("blurred", fidelity, carbon_h=HOUR + FURTHEST_H, load_h=HOUR)
    assert np.array_equal(one[: DECISION + 1], other[: DECISION + 1])
    # one step later the furthest forecast meets the change
    changed = {
        name for name, differs in zip(names, one[DECISION + 1] != other[DECISION + 1], strict=True) if differs
    }
    assert "intensity_forecast" in changed
    assert "rate" in changed
    assert not {"intensity", "intensity_past", "clock"} & changed
