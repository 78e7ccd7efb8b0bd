"""PythonModel: an entry point of an installed package as a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError
from clover_rl.serving.worker.arrays import arrays_of, tensors_of
from clover_rl.serving.worker.definition import find_entry_point
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.model import blame
from clover_rl.serving.worker.tensors import DATATYPES

__all__ = ["PythonModel"]


class PythonModel:
    """What an entry point makes.

    The entry point is called without arguments, once, and returns an object with `inputs` and `outputs`,
    sequences of (name, datatype, shape) as in `TensorSpec`, and `infer(*arrays)`, which takes one NumPy array
    per input and returns an array, or a tuple or list of them, one per output. A ValueError or TypeError from
    `infer` blames the request; any other error the model. Arrays of inputs must not be written to, nor kept.

    Args:
        entry_point: its name.

    Raises:
        InputError: no installed package offers it.
        ServingError: it cannot be loaded, or makes something else.
    """

    def __init__(self, entry_point: str) -> None:
        offered = find_entry_point(entry_point)
        try:
            made = offered.load()()
            self.inputs, self.outputs = _specs(made.inputs), _specs(made.outputs)
            self._infer: Any = made.infer
        except Exception as error:  # whatever a package's own code raises; its texts may hold paths
            raise ServingError(f"the entry point cannot be loaded ({type(error).__name__})") from error

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Answer one request: one tensor per input, in order; returns one per output.

        Raises:
            InputError: the model cannot take these tensors.
            ServingError: it failed, or returned something else than its outputs.
        """
        arrays = arrays_of(self.inputs, tensors)
        try:
            found = self._infer(*arrays)
        except Exception as error:
            raise blame(error, client=(ValueError, TypeError)) from error
        return tensors_of(self.outputs, found if isinstance(found, tuple | list) else (found,))


def _specs(described: Any) -> tuple[TensorSpec, ...]:
    found = []
    for item in described:
        name, datatype, shape = (
            (item.name, item.datatype, item.shape) if isinstance(item, TensorSpec) else item
        )
        if datatype not in DATATYPES:
            raise ValueError(f"{datatype} is no datatype")
        found.append(TensorSpec(str(name), datatype, tuple(int(size) for size in shape)))
    return tuple(found)
