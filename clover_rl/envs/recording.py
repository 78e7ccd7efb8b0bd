"""RecordEpisode: a wrapper that keeps every episode as a Parquet file from which it can be played again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from clover_rl.errors import InputError, MissingExtraError

__all__ = ["FORMAT", "METADATA_KEY", "RecordEpisode", "libraries", "require_pyarrow"]

FORMAT = 1
"""Version of the file's layout."""
METADATA_KEY = b"clover_rl"
"""Key of the JSON text in the Parquet file's metadata."""
TRANSPARENT = ("OrderEnforcing", "PassiveEnvChecker", "RenderCollection", "HumanRendering", "RecordVideo")
"""Wrappers of Gymnasium that change neither observations, actions nor rewards."""
LIBRARIES = ("clover-rl", "gymnasium", "numpy", "numba")

Observation = NDArray[np.float32]


def require_pyarrow() -> None:
    """Refuse to go on without pyarrow.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow not installed", fix="pip install 'clover-rl[record]'")


def libraries() -> dict[str, str]:
    """Versions of what an episode depends on; what is not installed is left out."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class RecordEpisode(gym.Wrapper[Observation, Any, Observation, Any], RecordConstructorArgs):
    """Records each episode to `folder/PREFIX-NNNNNN.parquet`, also one that is broken off.

    Rows and columns are named as in Minari's episodes: `observations`, `actions`, `rewards`,
    `terminations`, `truncations` and `infos`; N steps are N + 1 rows, because the first and the last
    observation both count. Row t holds the observation and info before step t, and the action and what came
    of it; the last row has no action (null). The file's metadata has, as JSON under the key `clover_rl`: the
    environment's id and constructor arguments, the whole scenario, the seed or the generator's state,
    versions, profile and catalogue hash, and the observation's fields.

    Args:
        env: made by `gymnasium.make`, with nothing around it that changes observations, actions or rewards.
        folder: where to write; made where it does not exist.
        prefix: start of the files' names.
        episode_trigger: which episodes to keep, counted from 0; all when left out.

    Raises:
        InputError: another wrapper lies between, the environment has no spec, or the folder cannot be made.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(
        self,
        env: gym.Env[Observation, Any],
        folder: str | Path,
        prefix: str = "episode",
        episode_trigger: Callable[[int], bool] | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, folder=str(folder), prefix=prefix, episode_trigger=episode_trigger
        )
        gym.Wrapper.__init__(self, env)
        require_pyarrow()
        if env.spec is None or not hasattr(env.unwrapped, "observation_codec"):
            raise InputError(
                "this environment cannot be recorded", fix="make a clover_rl one with gymnasium.make"
            )
        _refuse_between(env)
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot be made ({error.strerror})", where=str(folder), fix="choose another folder"
            ) from None
        self.prefix = prefix
        self.files: list[Path] = []
        self._trigger = episode_trigger
        self._episode = -1
        self._steps: list[dict[str, Any]] | None = None
        self._start: dict[str, Any] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new episode; what was recorded of one that has not ended is written first."""
        self._write()
        state = None if seed is not None else self.unwrapped.np_random.bit_generator.state
        observation, info = self.env.reset(seed=seed, options=options)
        self._episode += 1
        if self._trigger is None or self._trigger(self._episode):
            self._start = {"seed": seed, "generator": state}
            self._steps = [{"observations": observation.copy(), "infos": _plain(info)}]
        return observation, info

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """One interval; the episode is written when it ends."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._steps is not None:
            self._steps[-1] |= {
                "actions": np.asarray(action, np.int64).tolist(),
                "rewards": float(reward),
                "terminations": terminated,
                "truncations": truncated,
            }
            self._steps.append({"observations": observation.copy(), "infos": _plain(info)})
            if terminated or truncated:
                self._write()
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Write an episode that has not ended, and close the environment."""
        self._write()
        super().close()

    def _write(self) -> None:
        """Write what was recorded since the reset, if a step was."""
        steps, self._steps = self._steps, None
        if not steps or len(steps) < 2:
            return
        import pyarrow as pa
        from pyarrow import parquet

        env: Any = self.unwrapped
        size = int(env.observation_space.shape[0])
        action_type = pa.int64()
        if isinstance(env.action_space, gym.spaces.MultiDiscrete):
            action_type = pa.list_(pa.int64(), len(env.action_space.nvec))
        flat = np.concatenate([row["observations"] for row in steps]).astype(np.float32)

        def column(name: str, kind: Any) -> Any:
            return pa.array([row.get(name) for row in steps], type=kind)

        table = pa.table(
            {
                "observations": pa.FixedSizeListArray.from_arrays(pa.array(flat), size),
                "actions": column("actions", action_type),
                "rewards": column("rewards", pa.float64()),
                "terminations": column("terminations", pa.bool_()),
                "truncations": column("truncations", pa.bool_()),
                "infos": column("infos", None),
            }
        )
        content = self._about(env, len(steps) - 1, sum(row.get("rewards", 0.0) for row in steps))
        path = self.folder / f"{self.prefix}-{self._episode:06d}.parquet"
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(content).encode()})
        try:
            parquet.write_table(table, path, compression="zstd")
        except OSError as error:
            raise InputError(
                f"cannot be written ({error})", where=str(path), fix="free space or choose another folder"
            ) from None
        self.files.append(path)

    def _about(self, env: Any, steps: int, total: float) -> dict[str, Any]:
        spec = self.env.spec
        assert spec is not None, "checked when the wrapper was made"
        arguments = {
            key: value for key, value in spec.kwargs.items() if key not in ("scenario", "render_mode")
        }
        return {
            "format": FORMAT,
            "env_id": spec.id,
            "arguments": _json_arguments(arguments),
            "scenario": env.scenario.to_dict(absolute=True),
            "id": self._episode,
            "total_steps": steps,
            "rewards_sum": total,
            **self._start,
            "versions": libraries(),
            "profile_hash": env.model.profile.hash,
            "catalogue_hash": env.action_codec.catalogue_hash,
            "observation_codec": env.observation_codec.to_dict(),
        }


def _refuse_between(env: gym.Env[Any, Any]) -> None:
    """Refuse wrappers that a replay would have to know."""
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        kind = type(layer)
        known = kind.__module__.startswith("gymnasium.") and kind.__name__ in TRANSPARENT
        if not known:
            raise InputError(
                f"{kind.__name__} lies between the recorder and the environment",
                fix="wrap the environment in RecordEpisode first and in everything else after",
            )
        layer = layer.env


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, truths, texts and mappings of them; arrays as lists."""
    found: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, Mapping):
            found[key] = _plain(value)
        elif isinstance(value, np.ndarray | np.generic):
            found[key] = value.tolist()
        elif isinstance(value, bool | int | float | str) or value is None:
            found[key] = value
        elif isinstance(value, list | tuple):
            found[key] = [item.item() if isinstance(item, np.generic) else item for item in value]
    return found


def _json_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments as JSON values; paths as texts.

    Raises:
        InputError: an argument that JSON cannot hold.
    """
    try:
        loaded: dict[str, Any] = json.loads(json.dumps(dict(arguments), default=_as_text))
    except TypeError as error:
        raise InputError(f"an argument cannot be recorded ({error})", fix="give it as plain values") from None
    return loaded


def _as_text(value: object) -> object:
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")
