"""ModelDefinition: what a variant is made of, and the only kinds of it that are ever loaded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from clover_rl.errors import InputError

__all__ = ["ENTRY_POINTS", "ModelDefinition", "ModelKind", "find_entry_point"]

ENTRY_POINTS = "clover_rl.models"
"""Group of entry points in which an installed package names what may be run as, or builds, a model."""


class ModelKind(Enum):
    """How a variant is loaded. There is none that could unpickle anything."""

    ONNX = "onnx"
    """An ONNX file, run by ONNX Runtime."""
    TORCH = "torch"
    """Weights in safetensors, in the module that an entry point builds."""
    PYTHON = "python"
    """An entry point that makes an object with `inputs`, `outputs` and `infer`."""


@dataclass(frozen=True, slots=True)
class ModelDefinition:
    """Where a variant comes from; every part is named by the application's own definition, never by a client.

    Attributes:
        kind: how it is loaded.
        file: the ONNX or safetensors file; None for Python.
        entry_point: name in the group `clover_rl.models`; None for ONNX.
    """

    kind: ModelKind
    file: Path | None = None
    entry_point: str | None = None

    @classmethod
    def onnx(cls, file: Path) -> ModelDefinition:
        """An ONNX file."""
        return cls(ModelKind.ONNX, file)

    @classmethod
    def of(cls, file: Path | None, entry_point: str | None, *, where: str) -> ModelDefinition:
        """What a file, an entry point, or both together define.

        Args:
            file: .onnx, or .safetensors together with the entry point that builds its module.
            entry_point: alone: a model in Python.
            where: whose definition it is, for the error.

        Raises:
            InputError: no such file or entry point, or a file of another kind.
        """
        if entry_point is not None:
            find_entry_point(entry_point)
        if file is not None and not file.is_file():
            raise InputError(f"has no model file `{file.name}`", where=where, fix="add it")
        match (file.suffix if file else None, entry_point):
            case (".onnx", None):
                return cls(ModelKind.ONNX, file)
            case (".safetensors", str()):
                return cls(ModelKind.TORCH, file, entry_point)
            case (None, str()):
                return cls(ModelKind.PYTHON, None, entry_point)
        raise InputError(
            f"cannot be loaded from {f'the file `{file.name}`' if file else 'nothing'}"
            + (" and an entry point" if entry_point else ""),
            where=where,
            fix="give a .onnx file, an entry point, or a .safetensors file with its module's entry point",
        )


def find_entry_point(name: str) -> EntryPoint:
    """The entry point of that name in the group `clover_rl.models`.

    Raises:
        InputError: no installed package offers it, or several do.
    """
    found = entry_points(group=ENTRY_POINTS, name=name)
    if len(found) != 1:
        offered = ", ".join(sorted(entry_points(group=ENTRY_POINTS).names)) or "none"
        raise InputError(
            f"{len(found) or 'no'} installed packages offer the model `{name}`",
            where=f"entry points `{ENTRY_POINTS}`",
            fix=f"install the one package that does; there are: {offered}",
        )
    return next(iter(found))
