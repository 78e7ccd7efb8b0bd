"""EpisodeSummary: flat figures of an episode, summed step by step in plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPISODE_KEYS", "SUMS", "EpisodeSummary"]

Floats = NDArray[np.float64]

SUMS = (
    "steps",
    "reward",
    "carbon",
    "accuracy_term",
    "penalty",
    "invalid",
    "carbon_g",
    "base_carbon_g",
    "energy_j",
    "arrived",
    "answered",
    "timed_out",
    "correct",
    "loaded",
    "held",
    "transitions",
    "refused",
)
"""Columns of the sums: facts of an interval by their names; `correct` is accuracy x answered, `loaded`
counts intervals with arrivals, `held` those among them that kept the SLA, `transitions` changes of the
configuration, `refused` actions that the mask forbade."""

EPISODE_KEYS: Mapping[str, str] = {
    "episode_objective": "mean reward of an interval",
    "episode_reward_carbon": "mean of the reward's carbon term",
    "episode_reward_accuracy": "mean of the reward's accuracy term",
    "episode_reward_penalty": "mean of the reward's penalty term",
    "episode_reward_invalid": "mean of what masked actions cost",
    "episode_carbon_saving": "share of BASE's carbon for the same requests that was saved",
    "episode_carbon_g_per_request": "operational gCO2 per answered request; 0 where none was answered",
    "episode_energy_kwh": "energy of the whole cluster, kWh",
    "episode_accuracy": "accuracy, weighted by answered requests; BASE's where none was answered",
    "episode_accuracy_loss": "accuracy below BASE's, as a share of it",
    "episode_sla_held_share": "share of the intervals with arrivals in which p95 <= SLA; 1 without any",
    "episode_timed_out_share": "share of the arrived requests that timed out",
    "episode_requests": "requests that arrived",
    "episode_transitions": "intervals that began with another configuration than the one before",
    "episode_refused_actions": "actions that the mask forbade",
}
"""Flat keys that info holds at the end of an episode, for `Monitor(info_keywords=...)`, and their meaning."""

_COLUMN = {name: index for index, name in enumerate(SUMS)}
_DERIVED = ("steps", "correct", "loaded", "held", "transitions", "refused")
_SUMMED = tuple(name for name in SUMS if name not in _DERIVED)
_PLAIN = tuple((_COLUMN[name], name) for name in _SUMMED)
_NEEDED = (*_SUMMED, "accuracy", "sla_held", "action_valid")


class EpisodeSummary:
    """Sums of n episodes side by side.

    Args:
        n: episodes.
        base_accuracy: accuracy of BASE, which a loss is relative to.
    """

    def __init__(self, n: int, base_accuracy: float) -> None:
        self._many = np.zeros((len(SUMS), n))
        self._one = [0.0] * len(SUMS)  # in place of the array where n is 1: arithmetic costs less than calls
        self._single = n == 1
        self._base_accuracy = base_accuracy
        self._configuration: str | None = None

    @property
    def sums(self) -> Floats:
        """The sums so far, shape (len(SUMS), n)."""
        return np.array(self._one)[:, None] if self._single else self._many

    def reset(self, rows: NDArray[np.intp] | slice = slice(None)) -> None:
        """New episodes in some rows."""
        self._many[:, rows] = 0.0
        self._one = [0.0] * len(SUMS)
        self._configuration = None

    def restore(self, sums: Floats) -> None:
        """Go on from sums kept before, shape (len(SUMS), n)."""
        self._many[:] = sums
        self._one = sums[:, 0].tolist()

    def add(
        self,
        facts: Mapping[str, NDArray[Any]],
        changed: NDArray[np.bool_],
        rows: NDArray[np.intp] | slice = slice(None),
    ) -> None:
        """One interval of some rows.

        Args:
            facts: an interval's facts by name, each of shape (rows,): those of EnvironmentCore.step.
            changed: whether the configuration is another one than before, shape (rows,).
            rows: which episodes, in ascending order and each at most once.
        """
        if self._single:
            self.add_one({name: facts[name].item() for name in _NEEDED}, bool(changed[0]))
            return
        arrived, answered = np.asarray(facts["arrived"]), np.asarray(facts["answered"])
        block = np.empty((len(SUMS), arrived.size))
        for name in _SUMMED:
            block[_COLUMN[name]] = facts[name]
        loaded = arrived > 0.0
        block[_COLUMN["steps"]] = 1.0
        block[_COLUMN["correct"]] = answered * np.asarray(facts["accuracy"])
        block[_COLUMN["loaded"]] = loaded
        block[_COLUMN["held"]] = loaded & np.asarray(facts["sla_held"])
        block[_COLUMN["transitions"]] = changed
        block[_COLUMN["refused"]] = np.logical_not(facts["action_valid"])
        if block.shape == self._many.shape:  # every row: they ascend
            self._many += block
        else:
            self._many[:, rows] += block

    def add_one(self, facts: Mapping[str, Any], changed: bool) -> None:
        """One interval of the only row, from facts as plain numbers; other keys are left aside."""
        one = self._one
        for column, name in _PLAIN:
            one[column] += facts[name]
        one[_COLUMN["steps"]] += 1.0
        one[_COLUMN["correct"]] += facts["answered"] * facts["accuracy"]
        if facts["arrived"] > 0.0:
            one[_COLUMN["loaded"]] += 1.0
            one[_COLUMN["held"]] += facts["sla_held"]
        one[_COLUMN["transitions"]] += changed
        one[_COLUMN["refused"]] += not facts["action_valid"]

    def add_info(self, reward: float, info: Mapping[str, Any]) -> None:
        """One interval of the only row, from the info that the scalar environment returned.

        The first interval counts no transition: info does not say what ran before.
        """
        terms = info["reward_terms"]
        facts = dict(info) | {
            "reward": reward,
            "carbon": terms["carbon"],
            "accuracy_term": terms["accuracy"],
            "penalty": terms["penalty"],
            "invalid": terms["invalid"],
        }
        text = info["configuration"]
        self.add_one(facts, self._configuration is not None and text != self._configuration)
        self._configuration = text

    def results(self, rows: NDArray[np.intp] | slice = slice(None)) -> dict[str, Floats]:
        """The keys of EPISODE_KEYS for some rows, each of shape (rows,)."""
        sums = self.sums
        found = {name: sums[column, rows] for name, column in _COLUMN.items()}
        steps = np.maximum(found["steps"], 1.0)
        answered, arrived, loaded = found["answered"], found["arrived"], found["loaded"]
        base = self._base_accuracy
        accuracy = _share(found["correct"], answered, base)
        return {
            "episode_objective": found["reward"] / steps,
            "episode_reward_carbon": found["carbon"] / steps,
            "episode_reward_accuracy": found["accuracy_term"] / steps,
            "episode_reward_penalty": found["penalty"] / steps,
            "episode_reward_invalid": found["invalid"] / steps,
            "episode_carbon_saving": 1.0 - _share(found["carbon_g"], found["base_carbon_g"], 1.0),
            "episode_carbon_g_per_request": _share(found["carbon_g"], answered, 0.0),
            "episode_energy_kwh": found["energy_j"] / 3.6e6,
            "episode_accuracy": accuracy,
            "episode_accuracy_loss": 1.0 - accuracy / base,
            "episode_sla_held_share": _share(found["held"], loaded, 1.0),
            "episode_timed_out_share": _share(found["timed_out"], arrived, 0.0),
            "episode_requests": arrived,
            "episode_transitions": found["transitions"],
            "episode_refused_actions": found["refused"],
        }

    def result(self, row: int) -> dict[str, float]:
        """The keys of EPISODE_KEYS for one row, as floats."""
        return {name: float(value[0]) for name, value in self.results(slice(row, row + 1)).items()}


def _share(part: Floats, whole: Floats, otherwise: float) -> Floats:
    """part / whole, or another value where the whole is zero."""
    known = whole > 0.0
    return np.where(known, part / np.where(known, whole, 1.0), otherwise)
