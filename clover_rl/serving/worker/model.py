"""Model: what an instance's process runs, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import CloverError, InputError, ServingError
from clover_rl.serving.worker.definition import ModelDefinition, ModelKind
from clover_rl.serving.worker.messages import Tensor

__all__ = ["DeviceLostError", "Model", "blame", "load_model"]


class DeviceLostError(CloverError):
    """The process can compute no more, as after a CUDA fault: only a new one can."""


def blame(error: Exception, *, client: tuple[type[Exception], ...]) -> CloverError:
    """What an exception of a model's own code means for the request: whose fault it was.

    Args:
        error: what was raised.
        client: types that speak of the input, where the device is not to blame.
    """
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return ServingError("the device has not enough memory for this request")
    if kind == "AcceleratorError" or "CUDA error" in str(error):
        return DeviceLostError(f"the device failed ({kind})")
    if isinstance(error, client):
        return InputError(f"the model cannot take this input ({kind})")
    return ServingError(f"the model failed ({kind})")


class Model(Protocol):
    """A loaded model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Answer one request: one tensor per input, in order; returns one per output.

        Raises:
            InputError: the request is to blame.
            ServingError: the model is.
            DeviceLostError: the device failed, and this process with it.
        """
        ...


def load_model(
    definition: ModelDefinition,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    threads: int,
) -> Model:
    """Load a model; each kind imports only what it needs.

    Args:
        definition: what it is made of.
        inputs, outputs: the application's signature, for models that have none of their own.
        threads: CPU threads of one inference.

    Raises:
        ServingError: it cannot be loaded.
        InputError: no installed package offers its entry point.
    """
    file, entry_point = str(definition.file or ""), definition.entry_point or ""
    match definition.kind:
        case ModelKind.ONNX:
            from clover_rl.serving.worker.onnx_model import OnnxModel

            return OnnxModel(file, threads)
        case ModelKind.TORCH:
            from clover_rl.serving.worker.torch_model import TorchModel

            return TorchModel(file, entry_point, inputs, outputs, threads)
        case ModelKind.PYTHON:
            from clover_rl.serving.worker.python_model import PythonModel

            return PythonModel(entry_point)
