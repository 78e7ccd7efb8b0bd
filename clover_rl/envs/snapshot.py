"""Snapshots of episodes under way, small enough to be written often: what drew them, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.errors import InputError

__all__ = [
    "EpisodeSnapshot",
    "restore_core",
    "restore_env",
    "snapshot_core",
    "snapshot_env",
]

EpisodeSnapshot = dict[str, Any]
"""`drawn_from`: a generator's state for each row; and arrays by name, with rows on their last axis."""

_MOVING = ("t", "action", "queued", "p95")


def snapshot_core(core: EnvironmentCore) -> EpisodeSnapshot:
    """Where the episodes of a core stand.

    Raises:
        InputError: not at table fidelity, or with an accuracy budget, whose state is not kept.
    """
    _require_plain(core)
    arrays = {name: np.array(getattr(core, name)) for name in _MOVING}
    return {"drawn_from": [dict(state) for state in core.drawn_from]} | arrays


def restore_core(
    core: EnvironmentCore, snapshot: Mapping[str, Any], generators: Sequence[np.random.Generator]
) -> None:
    """Put a core of the same scenario and settings where another one stood.

    Args:
        core: as many rows as the snapshot has.
        snapshot: of `snapshot_core`.
        generators: of the rows; each ends as it was when the snapshot was taken.

    Raises:
        InputError: see `snapshot_core`.
    """
    _require_plain(core)
    for row, (state, generator) in enumerate(zip(snapshot["drawn_from"], generators, strict=True)):
        generator.bit_generator.state = state
        core.reset_row(row, generator)
    for name in _MOVING:
        getattr(core, name)[:] = snapshot[name]
    core.available[:] = core.usable_gpus()


def _require_plain(core: EnvironmentCore) -> None:
    if core.settings.fidelity != "table" or core.keeper is not None:
        raise InputError(
            "episodes at event level or with an accuracy budget cannot be kept and continued",
            fix="use table fidelity and a weight",
        )


def snapshot_env(env: SB3VecEnv) -> EpisodeSnapshot:
    """Where a vector environment of stable-baselines3 stands, with the sums of its episodes so far."""
    returns, lengths = env.progress
    return snapshot_core(env.env.core) | {
        "sums": env.env.summary.sums.copy(),
        "returns": returns.copy(),
        "lengths": lengths.copy(),
    }


def restore_env(env: SB3VecEnv, snapshot: Mapping[str, Any]) -> NDArray[np.float32]:
    """Put a vector environment where another one stood; returns what it observes there."""
    env.reset()  # makes the rows' generators, whose states are then put in place
    restore_core(env.env.core, snapshot, env.env.generators)
    env.env.summary.restore(np.asarray(snapshot["sums"]))
    returns, lengths = env.progress
    returns[:], lengths[:] = snapshot["returns"], snapshot["lengths"]
    return env.env.core.observe()
