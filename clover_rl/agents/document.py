"""Result files: what an evaluation found, and all that is needed to do it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clover_rl.agents.conditions import PLAIN, Conditions
from clover_rl.agents.equal_accuracy import equal_accuracy
from clover_rl.agents.evaluate import Evaluation
from clover_rl.agents.pooling import Pools, pooled
from clover_rl.agents.run_store import content_hash
from clover_rl.agents.train.record import versions
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.jsonfile import plain

__all__ = ["FORMAT", "Inputs", "PolicyFile", "document", "file_hash", "identity", "sealed", "with_pools"]

FORMAT = 3
"""Version of the result file's form."""


def file_hash(path: Path) -> str:
    """sha256 of a file's content.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), fix="name an existing file"
        ) from None


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A bundle that was compared.

    Attributes:
        name: in the results.
        path: of its file.
        sha256: of its file.
        pool: whose member it is, if any.
    """

    name: str
    path: Path
    sha256: str
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an evaluation was asked for.

    Attributes:
        scenario: shipped name or path.
        carbon, load: the files of the windows; none for generated ones.
        start: in the carbon files.
        days: length of a window.
        count: windows that are drawn, where there are no files.
        seed: of windows and arrivals.
        weights: of carbon.
        against: controllers.
        causes: controllers whose savings are split, or ALL.
        conditions: of the rows.
        policies: bundles.
        accuracy_budget: accuracy that may be lost a day, if any.
    """

    scenario: str
    carbon: Sequence[Path]
    load: Sequence[Path]
    start: str
    days: float
    count: int
    seed: int
    weights: Sequence[float]
    against: Sequence[str]
    causes: Sequence[str] = ()
    conditions: Sequence[Conditions] = (PLAIN,)
    policies: Sequence[PolicyFile] = ()
    accuracy_budget: float | None = None

    @property
    def pools(self) -> Pools:
        """Name of a pool -> its members."""
        found: dict[str, list[str]] = {}
        for policy in self.policies:
            if policy.pool is not None:
                found.setdefault(policy.pool, []).append(policy.name)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; files with the hash of what they hold."""
        return {
            "scenario": self.scenario,
            "carbon": [_file(path) for path in self.carbon],
            "load": [_file(path) for path in self.load],
            "start": self.start,
            "days": self.days,
            "count": self.count,
            "seed": self.seed,
            "weights": list(self.weights),
            "against": list(self.against),
            "causes": list(self.causes),
            "conditions": [each.to_dict() for each in self.conditions],
            "policies": [
                {"name": each.name, "path": str(each.path), "sha256": each.sha256, "pool": each.pool}
                for each in self.policies
            ],
            "accuracy_budget": self.accuracy_budget,
        }


def _file(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": file_hash(path)}


def document(evaluation: Evaluation, inputs: Inputs, command: str) -> dict[str, Any]:
    """The result file of an evaluation, as JSON values."""
    scenario = evaluation.scenario
    rows = [with_pools(row.to_dict(), inputs.pools) for row in evaluation.rows]
    equal = [with_pools(row, inputs.pools) for row in equal_accuracy([r.to_dict() for r in evaluation.rows])]
    return sealed(
        {
            "format": FORMAT,
            **identity(scenario, inputs),
            "scenario_definition": scenario.to_dict(),
            "command": command,
            "versions": versions(),
            "model": dict(evaluation.facts),
            "inputs": inputs.to_dict(),
            "margins": evaluation.margins,
            "windows": rows,
            "equal_accuracy": equal,
        }
    )


def identity(scenario: Scenario, inputs: Inputs) -> dict[str, Any]:
    """What a result file says at its head of what was evaluated."""
    account = scenario.sci
    return {
        "scenario": scenario.name,
        "seed": inputs.seed,
        "intensity_kind": scenario.carbon.kind,
        "sci": account.to_dict() if account else None,
    }


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """With the checksum of everything else."""
    values = plain({key: value for key, value in content.items() if key != "checksum"})
    return {**values, "checksum": content_hash(values)}


def with_pools(row: dict[str, Any], pools: Pools) -> dict[str, Any]:
    """A row with one more controller for each pool: the mean of its members."""
    controllers = dict(row["controllers"])
    for name, members in pools.items():
        each = [controllers[member] for member in members]
        controllers[name] = (
            pooled(each) | {"members": list(members)} if all(item is not None for item in each) else None
        )
    return row | {"controllers": controllers}
