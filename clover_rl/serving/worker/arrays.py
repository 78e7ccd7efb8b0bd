"""Tensors of the wire as NumPy arrays, and back, for the models that run in an instance's process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.worker.messages import Buffer, Tensor
from clover_rl.serving.worker.tensors import DATATYPES, decode_bytes, encode_bytes

__all__ = ["arrays_of", "blank_inputs", "tensors_of"]


def arrays_of(specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> list[Any]:
    """The inputs as arrays; numbers are views of the tensors' bytes, BYTES are objects of str.

    Raises:
        InputError: number, shape or size of the tensors do not fit the model.
    """
    if len(tensors) != len(specs):
        raise InputError(f"the model takes {len(specs)} inputs, got {len(tensors)}")
    return [_array(spec, tensor) for spec, tensor in zip(specs, tensors, strict=True)]


def tensors_of(specs: Sequence[TensorSpec], arrays: Sequence[Any]) -> list[Tensor]:
    """The outputs as the wire carries them; contiguous arrays of the right type are not copied.

    Raises:
        ServingError: another number of outputs than the model's, or values that do not fit its datatypes.
    """
    if len(arrays) != len(specs):
        raise ServingError(f"the model has {len(specs)} outputs, but gave {len(arrays)}")
    return [_tensor(spec, array) for spec, array in zip(specs, arrays, strict=True)]


def blank_inputs(specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Inputs of zeros, every free dimension 1, for warming up."""
    tensors = []
    for spec in specs:
        shape = tuple(max(size, 1) for size in spec.shape)
        elements = int(np.prod(shape, dtype=np.int64))
        tensors.append(Tensor(shape, bytes(elements * (DATATYPES[spec.datatype].size or 4))))
    return tensors


def _array(spec: TensorSpec, tensor: Tensor) -> Any:
    dtype = DATATYPES[spec.datatype].numpy
    try:
        if dtype is None:
            elements = [element.decode() for element in decode_bytes(tensor.data)]
            return np.array(elements, dtype=object).reshape(tensor.shape)
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    except UnicodeDecodeError as error:
        raise InputError(f"input '{spec.name}' has elements that are no UTF-8 text") from error
    except (ValueError, InputError) as error:
        raise InputError(f"input '{spec.name}' does not fit shape {list(tensor.shape)}") from error


def _tensor(spec: TensorSpec, array: Any) -> Tensor:
    dtype = DATATYPES[spec.datatype].numpy
    data: Buffer
    try:
        if dtype is None:
            array = np.asarray(array, dtype=object)
            elements = [e if isinstance(e, bytes) else str(e).encode() for e in array.ravel()]
            data = encode_bytes(elements)
        else:
            array = np.asarray(array, dtype, order="C")
            data = memoryview(array).cast("B") if array.size else b""
    except (TypeError, ValueError, OverflowError) as error:
        raise ServingError(f"output '{spec.name}' is no {spec.datatype}") from error
    return Tensor(tuple(array.shape), data)
