"""Recording an episode to Parquet and playing it again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TransformReward

import clover_rl  # noqa: F401  (registers the environments)
from clover_rl.envs import recording
from clover_rl.envs.recording import METADATA_KEY, RecordEpisode
from clover_rl.envs.replay import read_recording, replay
from clover_rl.errors import InputError, MissingExtraError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'clover-rl[record]'")
parquet = pytest.importorskip("pyarrow.parquet")

NAME = "clover_rl/MIGCluster-v0"


def recorder(scenario: str, folder: Path, trigger: Any = None, **arguments: Any) -> RecordEpisode:
    env = gym.make(NAME, **({"scenario": scenario, "days": 0.05} | arguments))
    return RecordEpisode(env, folder, episode_trigger=trigger)


def play(env: gym.Env[Any, Any], seed: int | None, steps: int = 10_000) -> list[tuple[Any, ...]]:
    observation, info = env.reset(seed=seed)
    rows: list[tuple[Any, ...]] = [(observation, info)]
    env.action_space.seed(7)
    for _ in range(steps):
        action = env.action_space.sample()
        rows.append((action, *env.step(action)))
        if rows[-1][4]:
            break
    return rows


def rewrite(path: Path, column: str | None = None, at: int = 0, value: Any = None, **metadata: Any) -> None:
    """The file with one value of a column, or some metadata, changed."""
    table = parquet.read_table(path)
    content = json.loads(table.schema.metadata[METADATA_KEY]) | metadata
    if column:
        values = table[column].to_pylist()
        values[at] = value(values[at])
        index = table.column_names.index(column)
        table = table.set_column(index, column, pa.array(values, type=table.schema.field(column).type))
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(content).encode()})
    parquet.write_table(table, path)


@pytest.fixture
def recorded(scenario_file: str, tmp_path: Path) -> Path:
    env = recorder(scenario_file, tmp_path, w=0.1)
    play(env, 3)
    return env.files[0]


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_every_episode_is_replayed_bit_by_bit(scenario_file: str, tmp_path: Path, fidelity: str) -> None:
    env = recorder(scenario_file, tmp_path, fidelity=fidelity)
    for seed in (3, None, None, 5):  # None goes on with the generator, whose state is in the file
        play(env, seed)
    assert [path.name for path in env.files] == [f"episode-{k:06d}.parquet" for k in range(4)]
    for path in env.files:
        found = replay(path)
        assert (found.identical, found.difference, found.notes, found.steps) == (True, None, (), 14)
    first, second = (read_recording(path).observations for path in env.files[:2])
    assert not np.array_equal(first, second)


def test_the_file_holds_what_the_environment_returned_in_minaris_columns(
    scenario_file: str, tmp_path: Path
) -> None:
    env = recorder(scenario_file, tmp_path, w=0.1, days=0.05)
    rows = play(env, 3)
    table = parquet.read_table(env.files[0])
    assert table.column_names == [
        "observations",
        "actions",
        "rewards",
        "terminations",
        "truncations",
        "infos",
    ]
    assert len(table) == len(rows) == 15
    assert table["actions"].to_pylist() == [*(row[0] for row in rows[1:]), None]
    assert table["rewards"].to_pylist() == [*(row[2] for row in rows[1:]), None]
    assert table["truncations"].to_pylist() == [*(row[4] for row in rows[1:]), None]
    seen = [rows[0][0], *(row[1] for row in rows[1:])]
    np.testing.assert_array_equal(np.array(table["observations"].to_pylist(), np.float32), np.array(seen))
    for info, row in zip(table["infos"].to_pylist()[1:], rows[1:], strict=True):
        assert info["p95_ms"] == row[5]["p95_ms"]
        assert info["reward_terms"] == row[5]["reward_terms"]
    about = json.loads(table.schema.metadata[METADATA_KEY])
    base: Any = env.unwrapped
    assert about["env_id"] == NAME
    assert about["arguments"] == {"w": 0.1, "days": 0.05}
    assert about["scenario"]["gpus"] == 2
    assert (about["seed"], about["total_steps"]) == (3, 14)
    assert about["rewards_sum"] == pytest.approx(sum(row[2] for row in rows[1:]))
    assert about["profile_hash"] == base.model.profile.hash
    assert about["catalogue_hash"] == base.action_codec.catalogue_hash
    assert about["observation_codec"] == base.observation_codec.to_dict()
    assert {"gymnasium", "numpy", "numba"} <= set(about["versions"])


def test_a_recording_needs_no_scenario_file_any_more(scenario_file: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    text = (
        Path(scenario_file)
        .read_text()
        .replace("small-profile", f"{Path(scenario_file).parent}/small-profile")
    )
    own.write_text(text.replace("name: small", "name: mine"))
    env = recorder(str(own), tmp_path / "out")
    play(env, 1)
    own.unlink()
    assert replay(env.files[0]).identical


def test_an_episode_that_was_broken_off_is_kept(scenario_file: str, tmp_path: Path) -> None:
    env = recorder(scenario_file, tmp_path)
    play(env, 1, steps=3)
    play(env, 2, steps=0)
    play(env, 3, steps=2)
    env.close()
    assert [path.name for path in env.files] == ["episode-000000.parquet", "episode-000002.parquet"]
    assert [replay(path).steps for path in env.files] == [3, 2]
    assert all(replay(path).identical for path in env.files)
    assert not read_recording(env.files[0]).truncations.any()


def test_a_trigger_says_which_episodes_are_kept(scenario_file: str, tmp_path: Path) -> None:
    env = recorder(scenario_file, tmp_path, trigger=lambda episode: episode % 2 == 1)
    for _ in range(3):
        play(env, None)
    assert [path.name for path in env.files] == ["episode-000001.parquet"]


@pytest.mark.parametrize(
    ("column", "at", "change", "says"),
    [
        ("rewards", 4, lambda r: float(np.nextafter(r, 1.0)), "in step 4 reward was "),
        ("truncations", 2, lambda t: True, "in step 2 truncated was True and is False"),
        ("observations", 0, lambda o: [o[0] + 1.0, *o[1:]], r"after reset intensity\[0\] was "),
        ("observations", 6, lambda o: [*o[:2], 7.5, 7.5, *o[4:]], r"intensity_past\[1\] was 7.5 .*1 more"),
    ],
)
def test_the_first_difference_is_named(recorded: Path, column: str, at: int, change: Any, says: str) -> None:
    rewrite(recorded, column, at, change)
    found = replay(recorded)
    assert not found.identical
    assert found.difference is not None
    assert re.search(says, found.difference), found.difference


def test_another_version_profile_or_catalogue_is_noted(recorded: Path) -> None:
    versions = read_recording(recorded).metadata["versions"]
    rewrite(recorded, versions=versions | {"numpy": "0.1"}, profile_hash="x", catalogue_hash="y")
    found = replay(recorded)
    assert found.identical
    assert found.notes[0].startswith("numpy was 0.1 and is ")
    assert found.notes[1:] == (
        "the profile is another one than was recorded",
        "the catalogue is another one than was recorded",
    )


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"env_id": "CartPole-v1"}, "unknown environment `CartPole-v1`"),
        ({"env_id": "os:system"}, "unknown environment `os:system`"),
        ({"format": 99}, "has format 99, not 1"),
        ({"scenario": {"name": "x"}}, "key `title` is missing"),
        ({"arguments": {"colour": "red"}}, "unknown argument `colour`"),
        ({"arguments": {"w": 7}}, "w is 7"),
    ],
)
def test_a_file_that_cannot_be_replayed_says_why(recorded: Path, metadata: dict[str, Any], says: str) -> None:
    rewrite(recorded, **metadata)
    with pytest.raises(InputError, match=says):
        replay(recorded)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recording(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        read_recording(tmp_path / "text.parquet")
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="is no episode recorded by clover_rl"):
        read_recording(tmp_path / "other.parquet")


def test_what_cannot_be_replayed_is_not_recorded(scenario_file: str, tmp_path: Path) -> None:
    env = gym.make(NAME, scenario=scenario_file)
    with pytest.raises(InputError, match="TransformReward lies between the recorder"):
        RecordEpisode(TransformReward(env, lambda reward: 2.0 * float(reward)), tmp_path)
    with pytest.raises(InputError, match="cannot be recorded"):
        RecordEpisode(gym.make("CartPole-v1"), tmp_path)
    with pytest.raises(InputError, match="cannot be made"):
        RecordEpisode(env, "/dev/null/folder")


def test_without_pyarrow_the_extra_is_named(
    scenario_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"clover-rl\[record\]"):
        recorder(scenario_file, tmp_path)


def test_the_wrapper_is_part_of_the_spec(scenario_file: str, tmp_path: Path) -> None:
    env = recorder(scenario_file, tmp_path)
    assert env.spec is not None
    assert [wrapper.name for wrapper in env.spec.additional_wrappers] == ["RecordEpisode"]
