"""OnnxModel: an ONNX file on the CPU, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError
from clover_rl.serving.worker.arrays import arrays_of, tensors_of
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.model import blame

__all__ = ["OnnxModel"]

_DATATYPES = {
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
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a class for each cause, and paths in its texts
            raise ServingError(f"ONNX Runtime cannot load the model ({type(error).__name__})") from error
        self._session: Any = session
        self._refusals = (InvalidArgument, RuntimeException, ValueError, TypeError)
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Answer one request: one tensor per input, in order; returns one per output.

        Raises:
            InputError: number, shape or size of the tensors do not fit the model.
        """
        feeds = dict(zip(self._input_names, arrays_of(self.inputs, tensors), strict=True))
        try:
            arrays = self._session.run(self._output_names, feeds)
        except Exception as error:
            raise blame(error, client=self._refusals) from error
        return tensors_of(self.outputs, arrays)


def _spec(node: Any) -> TensorSpec:
    datatype = _DATATYPES.get(node.type.removeprefix("tensor(").removesuffix(")"))
    if datatype is None:
        raise ServingError(f"the model's tensor {node.name!r} has type {node.type}, which no client can send")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, datatype, shape)
