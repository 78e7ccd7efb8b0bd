"""OnnxModel: an ONNX file on the CPU, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.worker.messages import Buffer, Tensor
from clover_rl.serving.worker.tensors import DATATYPES, decode_bytes, encode_bytes

__all__ = ["OnnxModel"]

_ONNX_DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxModel:
    """An ONNX model on the CPU.

    Args:
        path: the ONNX file.
        threads: CPU threads of one inference.

    Raises:
        ServingError: the file cannot be loaded, or has a tensor of a type that the protocol does not know.
    """

    def __init__(self, path: str, threads: int = 1) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (
            Exception
        ) as error:  # ONNX Runtime raises a class of its own for each cause; its texts hold paths
            raise ServingError(f"ONNX Runtime cannot load the model ({type(error).__name__})") from error
        self.inputs = tuple(_info(node) for node in self._session.get_inputs())
        self.outputs = tuple(_info(node) for node in self._session.get_outputs())
        self._input_names = [info.name for info in self.inputs]
        self._output_names = [info.name for info in self.outputs]

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Answer one request.

        Args:
            tensors: one per input, in order.

        Returns:
            One per output, in order.

        Raises:
            InputError: number, shape or size of the tensors do not fit the model.
        """
        if len(tensors) != len(self.inputs):
            raise InputError(f"the model takes {len(self.inputs)} inputs, got {len(tensors)}")
        feeds = {info.name: _array(info, tensor) for info, tensor in zip(self.inputs, tensors, strict=True)}
        try:
            outputs = self._session.run(self._output_names, feeds)
        except Exception as error:
            raise InputError(f"the model cannot take this input ({type(error).__name__})") from error
        return [_tensor(info, array) for info, array in zip(self.outputs, outputs, strict=True)]

    def blank(self) -> list[Tensor]:
        """Inputs of zeros, every free dimension 1, for warming up."""
        tensors = []
        for info in self.inputs:
            shape = tuple(max(size, 1) for size in info.shape)
            elements = int(np.prod(shape, dtype=np.int64))
            tensors.append(Tensor(shape, bytes(elements * (DATATYPES[info.datatype].size or 4))))
        return tensors


def _info(node: Any) -> TensorSpec:
    datatype = _ONNX_DATATYPES.get(node.type.removeprefix("tensor(").removesuffix(")"))
    if datatype is None:
        raise ServingError(f"the model's tensor {node.name!r} has type {node.type}, which no client can send")
    return TensorSpec(
        node.name, datatype, tuple(size if isinstance(size, int) else -1 for size in node.shape)
    )


def _array(info: TensorSpec, tensor: Tensor) -> Any:
    dtype = DATATYPES[info.datatype].numpy
    try:
        if dtype is None:
            elements = [element.decode() for element in decode_bytes(tensor.data)]
            return np.array(elements, dtype=object).reshape(tensor.shape)
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    except (ValueError, InputError) as error:
        raise InputError(f"input '{info.name}' does not fit shape {list(tensor.shape)}") from error


def _tensor(info: TensorSpec, array: Any) -> Tensor:
    dtype = DATATYPES[info.datatype].numpy
    data: Buffer
    if dtype is None:
        data = encode_bytes([str(element).encode() for element in array.ravel()])
    else:
        contiguous: Any = np.ascontiguousarray(array, dtype)
        data = memoryview(contiguous).cast("B") if contiguous.size else b""
    return Tensor(tuple(array.shape), data)
