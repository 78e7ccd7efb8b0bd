"""Policies shipped with the package: found by name, each with recipe, training and evaluation record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from clover_rl.errors import InputError
from clover_rl.yamlfile import printable, validate_model

__all__ = [
    "Record",
    "ShippedPolicy",
    "read_record",
    "resolve_bundle",
    "shipped_for",
    "shipped_names",
    "shipped_policy",
]

FOLDER = Path(__file__).parent / "policies"

SUFFIX = ".clover"

Text = Annotated[str, Field(min_length=1)]


class Record(BaseModel):
    """result.json of a shipped policy: what an evaluation found, and how to find it again.

    Attributes:
        scenario: that the policy was trained and evaluated on.
        bundle_sha256: of the bundle that was evaluated.
        commands: what reproduces the policy and these figures, in order.
        seed: of the evaluation.
        versions: of Python and of libraries.
        intensity_kind: kind of carbon intensity counted.
        figures: headline figures by name, units in the names; shares of 1.
        kinds: figure -> measured, attributed or modelled.
        windows: one row per window and weight, with the controllers' main figures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: Text
    bundle_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    commands: Annotated[list[Text], Field(min_length=1)]
    seed: int | None
    versions: dict[str, str]
    intensity_kind: str | None
    figures: dict[str, float | None]
    kinds: dict[str, Text]
    windows: Annotated[list[dict[str, Any]], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class ShippedPolicy:
    """Where the parts of a shipped policy lie.

    Attributes:
        name: of the policy and of its folder.
        folder: that holds the parts.
    """

    name: str
    folder: Path

    @property
    def bundle(self) -> Path:
        """The `.clover` file."""
        return self.folder / f"{self.name}{SUFFIX}"

    @property
    def recipe(self) -> Path:
        """The recipe it was trained with."""
        return self.folder / "recipe.yaml"

    @property
    def training(self) -> Path:
        """training.json of its run, with the learning curve."""
        return self.folder / "training.json"

    @property
    def result(self) -> Path:
        """The record of its evaluation."""
        return self.folder / "result.json"

    def record(self) -> Record:
        """What result.json says.

        Raises:
            InputError: it cannot be read, or is no such record.
        """
        return validate_model(read_record(self.result), Record, where=str(self.result))


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path"
        ) from None
    except ValueError:
        raise InputError("is no JSON", where=str(path), fix="write it again") from None
    if not isinstance(content, dict):
        raise InputError("holds no JSON object", where=str(path), fix="write it again")
    return content


def shipped_names() -> tuple[str, ...]:
    """Names of the policies shipped, sorted; none may be."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/*{SUFFIX}") if _of_folder(path)))


def _of_folder(bundle: Path) -> bool:
    return bundle.stem == bundle.parent.name


def shipped_policy(name: str) -> ShippedPolicy:
    """A shipped policy by name.

    Raises:
        InputError: unknown name.
    """
    if name not in shipped_names():
        raise _unknown(name)
    return ShippedPolicy(name, FOLDER / name)


def resolve_bundle(name: str | Path) -> Path:
    """Where a policy's name leads: to a bundle shipped, or to the user's own file.

    Raises:
        InputError: neither a shipped name nor a file's path.
    """
    if str(name) in shipped_names():
        return shipped_policy(str(name)).bundle
    own = Path(name)
    if own.suffix == SUFFIX or _is_file(own):
        return own  # opening it says whether it is a bundle
    raise _unknown(str(name))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _unknown(name: str) -> InputError:
    names = ", ".join(shipped_names())
    choice = f"use one of {names}, or the path" if names else "none is shipped yet: use the path"
    return InputError(f"unknown policy `{printable(name)}`", fix=f"{choice} of a {SUFFIX} file")


def shipped_for(scenario: str) -> Path | None:
    """The bundle shipped for a scenario: the one of its name, else the first; None where there is none.

    Args:
        scenario: name of the scenario.

    Raises:
        InputError: a record of a shipped policy cannot be read.
    """
    own = [name for name in shipped_names() if shipped_policy(name).record().scenario == scenario]
    if not own:
        return None
    return shipped_policy(scenario if scenario in own else own[0]).bundle
