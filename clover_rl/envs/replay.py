"""replay: play a recorded episode again and say whether it is the same, number by number."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from clover_rl.envs.recording import FORMAT, METADATA_KEY, libraries, require_pyarrow
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.yamlfile import validate_model

__all__ = ["Recording", "Replay", "make_recorded", "read_recording", "replay"]


@dataclass(frozen=True)
class Recording:
    """A recorded episode of N steps.

    Attributes:
        path: the file.
        metadata: what RecordEpisode wrote about it.
        observations: shape (N + 1, size).
        actions: shape (N,), or (N, parts) where actions have parts.
        rewards: shape (N,).
        terminations, truncations: shape (N,).
        infos: N + 1, the first one of `reset`.
    """

    path: Path
    metadata: dict[str, Any]
    observations: np.ndarray[Any, np.dtype[np.float32]]
    actions: np.ndarray[Any, np.dtype[np.int64]]
    rewards: np.ndarray[Any, np.dtype[np.float64]]
    terminations: np.ndarray[Any, np.dtype[np.bool_]]
    truncations: np.ndarray[Any, np.dtype[np.bool_]]
    infos: list[dict[str, Any]]


@dataclass(frozen=True)
class Replay:
    """What came of playing an episode again.

    Attributes:
        steps: of the recording.
        difference: the first number that is not the same, as a sentence; None when all are.
        notes: what is not as it was when the episode was recorded: versions, the profile, the catalogue.
    """

    steps: int
    difference: str | None
    notes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every observation, reward and flag is the same, bit by bit."""
        return self.difference is None


def read_recording(path: str | Path) -> Recording:
    """A file that RecordEpisode wrote.

    Raises:
        InputError: it cannot be read, or is no such file.
        MissingExtraError: pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    where = str(path)
    try:
        table = parquet.read_table(where)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot be read ({reason})", where=where, fix="give a recorded episode") from None
    text = (table.schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise InputError(
            "is no episode recorded by clover_rl", where=where, fix="record one with RecordEpisode"
        )
    try:
        metadata = json.loads(text)
        if metadata["format"] != FORMAT:
            raise InputError(
                f"has format {metadata['format']}, not {FORMAT}", where=where, fix="record it again"
            )
        steps = len(table) - 1
        if steps < 1:
            raise ValueError("no step")
        rows = {name: table[name].to_pylist() for name in table.column_names}
        return Recording(
            path=Path(path),
            metadata=metadata,
            observations=np.array(rows["observations"], np.float32),
            actions=np.array(rows["actions"][:steps], np.int64),
            rewards=np.array(rows["rewards"][:steps], np.float64),
            terminations=np.array(rows["terminations"][:steps], bool),
            truncations=np.array(rows["truncations"][:steps], bool),
            infos=rows["infos"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"is damaged ({error})", where=where, fix="record it again") from None


def make_recorded(recording: Recording, **overrides: Any) -> gym.Env[Any, Any]:
    """The environment of a recording, from its metadata alone; `overrides` replace arguments.

    Only environments of this package are made: a file cannot name code to run.

    Raises:
        InputError: another environment, or a scenario or argument that is wrong here.
    """
    metadata = recording.metadata
    where = str(recording.path)
    name = str(metadata.get("env_id"))
    if not name.startswith("clover_rl/") or name not in gym.registry:
        raise InputError(f"unknown environment `{name}`", where=where, fix="use the version that recorded it")
    scenario = validate_model(dict(metadata["scenario"]), Scenario, where=where)
    arguments = dict(metadata["arguments"]) | {"scenario": scenario} | overrides
    return gym.make(name, **arguments)


def replay(path: str | Path) -> Replay:
    """Make a recorded episode's environment, step its actions, and compare every number exactly.

    Args:
        path: file of RecordEpisode.

    Raises:
        InputError: the file cannot be read, or its environment not be made.
        MissingExtraError: pyarrow is not installed.
    """
    recording = read_recording(path)
    env = make_recorded(recording)
    try:
        notes = _notes(recording, env.unwrapped)
        difference = _compare(recording, env)
    finally:
        env.close()
    return Replay(len(recording.rewards), difference, notes)


def _notes(recording: Recording, env: Any) -> tuple[str, ...]:
    then = recording.metadata
    notes = [
        f"{name} was {was} and is {now}"
        for name, now in libraries().items()
        if (was := then["versions"].get(name, "missing")) != now
    ]
    for what, was, now in (
        ("profile", then["profile_hash"], env.model.profile.hash),
        ("catalogue", then["catalogue_hash"], env.action_codec.catalogue_hash),
    ):
        if was != now:
            notes.append(f"the {what} is another one than was recorded")
    return tuple(notes)


def _compare(recording: Recording, env: gym.Env[Any, Any]) -> str | None:
    """The first difference."""
    then = recording.metadata
    names = [
        f"{field['name']}[{index}]"
        for field in then["observation_codec"]["fields"]
        for index in range(field["size"])
    ]
    if then["seed"] is None:
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = then["generator"]
        env.unwrapped.np_random = generator
    observation, _ = env.reset(seed=then["seed"])
    found = _observed(observation, recording.observations[0], names, "after reset")
    for index, action in enumerate(recording.actions):
        if found:
            return found
        try:
            observation, reward, terminated, truncated, _ = env.step(action)
        except InputError as error:
            return f"in step {index} action {action.tolist()} was taken and is refused now: {error}"
        for what, now, was in (
            ("reward", float(reward), float(recording.rewards[index])),
            ("terminated", bool(terminated), bool(recording.terminations[index])),
            ("truncated", bool(truncated), bool(recording.truncations[index])),
        ):
            if now != was:
                return f"in step {index} {what} was {was!r} and is {now!r}"
        found = _observed(observation, recording.observations[index + 1], names, f"after step {index}")
    return found


def _observed(now: Any, was: Any, names: list[str], when: str) -> str | None:
    if now.shape != was.shape:
        return f"{when} an observation had {len(was)} numbers and has {len(now)}"
    different = np.flatnonzero(now != was)
    if not len(different):
        return None
    first = int(different[0])
    more = f" (and {len(different) - 1} more numbers)" if len(different) > 1 else ""
    return f"{when} {names[first]} was {float(was[first])!r} and is {float(now[first])!r}{more}"
