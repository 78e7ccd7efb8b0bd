"""The user's own traces: found beside the scenario, drawn from, and never trained on where held back."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from clover_rl.agents.windows import generated_windows
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.signals import draw_signals
from clover_rl.errors import InputError
from clover_rl.serving.control.carbon_source import carbon_trace
from clover_rl.simulation.model import ClusterModel

HOURS = 240
FIRST = datetime(2021, 3, 1, tzinfo=UTC)
DAYS = 0.5

Write = Any


def write_carbon(path: Path, *, hours: int = HOURS, first: datetime | None = FIRST) -> None:
    """Hour h holds 100 + h, so that a value says where it lies."""
    rows = [
        f"{h * 3600 if first is None else (first + timedelta(hours=h)).isoformat()},{100 + h}"
        for h in range(hours)
    ]
    header = "offset_s" if first is None else "timestamp"
    path.write_text("\n".join([f"{header},gco2_per_kwh", *rows, ""]))


def write_load(path: Path, *, hours: int = HOURS, first: datetime | None = FIRST) -> None:
    rows = [
        f"{h * 3600 if first is None else (first + timedelta(hours=h)).isoformat()},{1000 + h}"
        for h in range(hours)
    ]
    header = "offset_s" if first is None else "timestamp"
    path.write_text("\n".join([f"{header},requests", *rows, ""]))


@pytest.fixture
def own(tmp_path: Path, scenario_file: str) -> Path:
    """The small scenario with files of its own, in another folder than the tests run in."""
    source = Path(scenario_file)
    text = source.read_text().replace("small-profile.yaml", str(source.with_name("small-profile.yaml")))
    text += "carbon: {files: [c.csv], train_share: 0.5}\nload: {files: [sub/l.csv], train_share: 0.5}\n"
    path = tmp_path / "own.yaml"
    path.write_text(text)
    (tmp_path / "sub").mkdir()
    write_carbon(tmp_path / "c.csv")
    write_load(tmp_path / "sub" / "l.csv")
    return path


def draw(scenario: Scenario, model: ClusterModel, split: Any, seed: int) -> Any:
    return draw_signals(scenario, model.baseline.capacity, split, DAYS, np.random.default_rng(seed))


def test_training_draws_before_the_cut_and_testing_after_it(own: Path, small_model: ClusterModel) -> None:
    scenario = load_scenario(own)
    starts: dict[str, list[float]] = {"train": [], "test": []}
    for seed in range(200):
        for split in starts:
            found = draw(scenario, small_model, split, seed)
            assert found.carbon.name == "c"
            assert found.load.name == "l"
            starts[split].append(found.start)
            if split == "train":
                assert found.carbon.values.max() <= 100 + HOURS / 2
                assert found.carbon.end_s <= HOURS / 2 * 3600.0
    cut = HOURS / 2 * 3600.0
    length = DAYS * 86_400.0
    assert 86_400.0 <= min(starts["train"]) < 90_000.0 + 3600.0
    assert cut - length - 3 * 3600.0 < max(starts["train"]) <= cut - length
    assert cut <= min(starts["test"]) < cut + 3 * 3600.0
    assert (HOURS - 4) * 3600.0 - length < max(starts["test"]) <= (HOURS - 1) * 3600.0 - length


def test_nothing_held_back_reaches_training_not_even_the_scale(own: Path, small_model: ClusterModel) -> None:
    before = [draw(load_scenario(own), small_model, "train", seed) for seed in range(5)]
    for name, column in (("c.csv", "gco2"), ("sub/l.csv", "requests")):
        path = own.parent / name
        lines = path.read_text().splitlines()
        assert column in lines[0]
        # the point at the cut itself ends the training part
        held_back = [f"{line.split(',')[0]},99999" for line in lines[HOURS // 2 + 2 :]]
        path.write_text("\n".join([*lines[: HOURS // 2 + 2], *held_back, ""]))
    after = [draw(load_scenario(own), small_model, "train", seed) for seed in range(5)]
    for one, other in zip(before, after, strict=True):
        assert one.start == other.start
        assert one.load_factor == other.load_factor
        for mine, theirs in ((one.carbon, other.carbon), (one.load, other.load)):
            assert mine.values.tolist() == theirs.values.tolist()
        asked = np.array([one.start + 11 * 3600.0])
        horizons = np.array([3600.0, 86_400.0])
        forecast = one.carbon.forecaster.matrix(one.carbon, asked, horizons)
        assert forecast.tolist() == other.carbon.forecaster.matrix(other.carbon, asked, horizons).tolist()


def test_without_a_share_training_stays_on_generated_signals(own: Path, small_model: ClusterModel) -> None:
    scenario = load_scenario(own, carbon={"files": ["c.csv"]}, load={"files": ["sub/l.csv"]})
    train, test = (draw(scenario, small_model, split, 3) for split in ("train", "test"))
    assert train.carbon.name.startswith("generated ")
    assert train.load.name == "generated load"
    assert (test.carbon.name, test.load.name) == ("c", "l")
    plain = draw(load_scenario(own, carbon={}, load={}), small_model, "train", 3)
    assert train.carbon.values.tolist() == plain.carbon.values.tolist()
    assert train.load.values.tolist() == plain.load.values.tolist()


def test_one_signal_may_be_the_users_own_and_the_other_generated_on_its_clock(
    own: Path, small_model: ClusterModel
) -> None:
    scenario = load_scenario(own, carbon={"files": ["c.csv"], "utc_offset_h": -8}, load={})
    found = draw(scenario, small_model, "test", 1)
    assert found.load.name == "generated load"
    assert found.load.hour_of_week(found.load_start) == pytest.approx(found.carbon.hour_of_week(found.start))
    hours = (FIRST + timedelta(seconds=found.start)).hour - 8
    assert found.carbon.hour_of_week(found.start) % 24 == hours % 24
    other = draw(load_scenario(own, carbon={}), small_model, "test", 1)
    assert other.carbon.name.startswith("generated ")
    assert other.load.name == "l"


def test_files_with_timestamps_are_played_at_the_same_moment(own: Path, small_model: ClusterModel) -> None:
    scenario = load_scenario(own)
    for split in ("train", "test"):
        for seed in range(20):
            found = draw(scenario, small_model, split, seed)
            assert found.start == found.load_start
    # another year: the same time of day
    write_load(own.parent / "sub" / "l.csv", first=FIRST + timedelta(days=365, hours=5))
    scenario = load_scenario(own)
    found = [draw(scenario, small_model, "test", seed) for seed in range(20)]
    assert all((one.start - one.load_start) % 86_400.0 == 5 * 3600.0 for one in found)
    write_load(own.parent / "sub" / "l.csv", first=None)
    scenario = load_scenario(own)
    found = [draw(scenario, small_model, "test", seed) for seed in range(20)]
    assert len({(one.start - one.load_start) % 86_400.0 for one in found}) > 1


def test_a_short_file_is_played_with_less_history_and_one_too_short_is_refused(
    own: Path, small_model: ClusterModel
) -> None:
    write_carbon(own.parent / "c.csv", hours=20)
    scenario = load_scenario(own, carbon={"files": ["c.csv"]}, load={})
    found = draw(scenario, small_model, "test", 0)
    assert 0.0 <= found.start <= 19 * 3600.0 - DAYS * 86_400.0
    write_carbon(own.parent / "c.csv", hours=12)
    with pytest.raises(InputError, match=r"c: the file covers 11 h, less than an episode of 12.0833 h"):
        draw(load_scenario(own, carbon={"files": ["c.csv"]}), small_model, "test", 0)
    for split, part in (("train", "training"), ("test", "testing")):
        with pytest.raises(InputError, match=f"c: the part for {part} covers"):
            draw(load_scenario(own), small_model, split, 0)


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_an_environment_plays_the_files_by_name_of_the_scenario_alone(own: Path, fidelity: str) -> None:
    arguments = {"scenario": str(own), "split": "test", "fidelity": fidelity, "days": 0.25, "w": 0.1}
    env = gym.make("clover_rl/MIGCluster-v0", **arguments)
    assert env.spec is not None
    assert json.loads(env.spec.to_json())["kwargs"]["scenario"] == str(own)
    assert isinstance(env.unwrapped, MIGClusterEnv)
    _, info = env.reset(seed=4)
    intensities = []
    truncated = False
    while not truncated:
        _, _, _, truncated, info = env.step(0)
        intensities.append(info["intensity"])
    assert len(intensities) == 72
    # 100 + h at hour h: the mean over 5 minutes rises by a twelfth
    assert np.diff(intensities) == pytest.approx(1.0 / 12.0)
    assert 100 + HOURS / 2 <= intensities[0] < 100 + HOURS


def test_windows_are_named_after_the_files(own: Path, small_model: ClusterModel) -> None:
    scenario = load_scenario(own)
    windows = generated_windows(scenario, small_model, count=2, days=DAYS, split="test", seed=1)
    assert [(window.carbon, window.load) for window in windows] == [("c", "l")] * 2
    train = generated_windows(
        load_scenario(own, load={}), small_model, count=1, days=DAYS, split="train", seed=1
    )
    assert [(window.carbon, window.load) for window in train] == [("c", "generated 0")]


def test_a_server_follows_the_scenarios_own_carbon(own: Path) -> None:
    trace, begin = carbon_trace(load_scenario(own), None, 3600.0, 0)
    assert (trace.name, begin, trace.at(begin)) == ("c", 3600.0, 101.0)


def test_files_are_read_once_and_again_after_pickling(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = load_scenario(own)
    assert scenario.carbon_traces is scenario.carbon_traces
    again = pickle.loads(pickle.dumps(scenario))
    assert "carbon_traces" not in again.__dict__
    monkeypatch.chdir("/")
    assert again.carbon_traces[0].values.tolist() == scenario.carbon_traces[0].values.tolist()
    assert again.traces_hash == scenario.traces_hash
    write_carbon(own.parent / "c.csv", hours=HOURS - 1)
    assert load_scenario(own).traces_hash != scenario.traces_hash


def test_a_scenario_written_elsewhere_finds_its_files_and_published_names_no_folder(
    own: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenario = load_scenario(own)
    elsewhere = tmp_path_factory.mktemp("run") / "scenario.yaml"
    elsewhere.write_text(json.dumps(scenario.to_dict(absolute=True)))
    moved = load_scenario(elsewhere)
    assert moved.traces_hash == scenario.traces_hash
    assert moved.loaded_profile == scenario.loaded_profile
    shown = json.dumps(scenario.to_public_dict())
    assert str(own.parent) not in shown
    assert scenario.to_public_dict()["load"]["files"] == ["l.csv"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("c.csv", None, r"c\.csv: the file cannot be read"),
        ("c.csv", "timestamp,gco2_per_kwh\n2021-03-01T00:00:00Z,x\n", r"c\.csv:2: gco2_per_kwh is 'x'"),
        ("sub/l.csv", "offset_s,tokens\n0,1\n", r"l\.csv:1: there is no column requests"),
    ],
)
def test_a_wrong_file_is_named_when_an_episode_is_drawn(
    own: Path, small_model: ClusterModel, name: str, text: str | None, sentence: str
) -> None:
    path = own.parent / name
    path.unlink()
    if text:
        path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        draw(load_scenario(own), small_model, "test", 0)
