"""Checkpoint: everything that an interrupted run needs to go on exactly where it stood, without any pickle.

One file, `state.pt`: tensors, numbers and texts, read back with torch's weights-only loader.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from clover_rl.agents.train.exact import ExactTrainer
from clover_rl.envs.sb3 import SB3VecEnv
from clover_rl.envs.snapshot import restore_core, restore_env, snapshot_core, snapshot_env
from clover_rl.errors import InputError

__all__ = [
    "exact_state",
    "load_state",
    "model_state",
    "restore_exact",
    "restore_model",
    "save_state",
]

FORMAT = 2

State = dict[str, Any]

_COUNTERS = ("num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate")
"""Of a model: steps, updates, calls, episodes and the share of random actions, where it has them."""
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save_state(path: Path, state: State) -> None:
    """Write a state; the file is always whole, the old one or the new one.

    Raises:
        InputError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(_stored({"format": FORMAT} | state), partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        partial.unlink(missing_ok=True)
        raise InputError(
            f"cannot be written ({error})", where=str(path), fix="make room, or name another run folder"
        ) from None


def load_state(path: Path) -> State:
    """A state written by `save_state`.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        found = _read(torch.load(path, map_location="cpu", weights_only=True))
        version = found["format"]
    except Exception as error:  # whatever a damaged archive brings about
        raise InputError(
            f"cannot be read ({type(error).__name__})", where=str(path), fix="train anew in another folder"
        ) from None
    if version != FORMAT:
        raise InputError(
            f"is of format {version}, this version reads {FORMAT}",
            where=str(path),
            fix="train anew in another folder",
        )
    return dict(found)


def _stored(value: Any) -> Any:
    """Arrays as tensors, generators' states (whose numbers are longer than 64 bits) as JSON texts."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        if "bit_generator" in value:
            return {"generator": json.dumps(value, default=lambda each: each.tolist())}
        return {key: _stored(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stored(item) for item in value]
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"generator"}:
            return json.loads(value["generator"])
        return {key: _read(item) for key, item in value.items()}
    return [_read(item) for item in value] if isinstance(value, list) else value


def _array(value: Any) -> NDArray[Any]:
    """An array of its own, from what was stored."""
    return np.array(value.numpy() if isinstance(value, torch.Tensor) else value)


def _arrays(snapshot: State) -> State:
    return {name: item if name == "drawn_from" else _array(item) for name, item in snapshot.items()}


def model_state(model: BaseAlgorithm) -> State:
    """An SB3 model between two rollouts: weights, optimizers, counters, replay memory, episodes, chance."""
    # SB3 draws from numpy's global generator
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    state: State = {
        "parameters": model.get_parameters(),
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "torch": torch.get_rng_state(),
        "numpy": [np.asarray(keys, np.int64), position, has_gauss, gauss],
        "python": json.dumps(random.getstate()),
        "actions": model.action_space.np_random.bit_generator.state,
    }
    if model._last_obs is not None:
        assert isinstance(model.env, SB3VecEnv)
        state["env"] = snapshot_env(model.env)
        state["starts"] = np.asarray(model._last_episode_starts)
    buffer = getattr(model, "replay_buffer", None)
    if isinstance(buffer, ReplayBuffer):
        size = buffer.buffer_size if buffer.full else buffer.pos
        state["replay"] = {name: getattr(buffer, name)[:size] for name in _REPLAY}
        state["replay"] |= {"pos": buffer.pos, "full": buffer.full}
    return state


def restore_model(model: BaseAlgorithm, state: State) -> None:
    """Put a new model of the same recipe and scenario where another one stood."""
    model.set_parameters(state["parameters"], device="cpu")
    for name, value in state["counters"].items():
        setattr(model, name, value)
    if "env" in state:
        assert isinstance(model.env, SB3VecEnv)
        model._last_obs = restore_env(model.env, _arrays(state["env"]))
        model._last_episode_starts = _array(state["starts"])
    buffer = getattr(model, "replay_buffer", None)
    if isinstance(model, DQN) and isinstance(buffer, ReplayBuffer):
        kept = dict(state["replay"])
        buffer.pos, buffer.full = kept.pop("pos"), kept.pop("full")
        for name, values in kept.items():
            getattr(buffer, name)[: len(values)] = _array(values)
    # last, since making an environment draws
    torch.set_rng_state(state["torch"])
    keys, position, has_gauss, gauss = state["numpy"]
    legacy = ("MT19937", _array(keys).astype(np.uint32), position, has_gauss, gauss)
    np.random.set_state(legacy)  # noqa: NPY002
    version, numbers, gauss_next = json.loads(state["python"])
    random.setstate((version, tuple(numbers), gauss_next))
    model.action_space.np_random.bit_generator.state = state["actions"]


def exact_state(trainer: ExactTrainer) -> State:
    """The trainer of the exact phases: optimizer, memory, episodes, chance. The weights are the model's."""
    return {
        "optimizer": trainer.optimizer.state_dict(),
        "rng": trainer.rng.bit_generator.state,
        "generator": trainer.generator.get_state(),
        "observations": trainer.observations[: trainer.filled].clone(),  # a view would store the whole
        "targets": trainer.targets[: trainer.filled].clone(),
        "filled": trainer.filled,
        "position": trainer.position,
        "average": trainer.average,
        "core": snapshot_core(trainer.core),
    }


def restore_exact(trainer: ExactTrainer, state: State) -> None:
    """Put a new trainer of the same recipe and scenario where another one stood."""
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.rng.bit_generator.state = state["rng"]
    trainer.generator.set_state(state["generator"])
    trainer.filled, trainer.position = state["filled"], state["position"]
    trainer.observations[: trainer.filled] = state["observations"]
    trainer.targets[: trainer.filled] = state["targets"]
    trainer.average = state["average"]
    restore_core(trainer.core, _arrays(state["core"]), trainer.generators)
