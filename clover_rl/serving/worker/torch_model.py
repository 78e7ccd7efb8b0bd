"""TorchModel: a PyTorch module that an entry point builds, with weights from a safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError
from clover_rl.serving.worker.arrays import arrays_of, tensors_of
from clover_rl.serving.worker.definition import find_entry_point
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.model import blame

__all__ = ["TorchModel"]


class TorchModel:
    """A module on the GPU that its process sees, else on the CPU.

    The entry point is called without arguments and returns the module; its `forward` takes the inputs in the
    signature's order and returns a tensor, or a sequence of them in the outputs' order.

    Args:
        path: the safetensors file; its names and shapes must be exactly the module's.
        entry_point: name of the entry point that builds the module.
        inputs, outputs: the application's signature: a module has none of its own.
        threads: CPU threads of one inference.

    Raises:
        InputError: no installed package offers the entry point.
        ServingError: PyTorch is not installed, or module and weights cannot be loaded.
    """

    def __init__(
        self,
        path: str,
        entry_point: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int = 1,
    ) -> None:
        try:
            import torch
            from safetensors.torch import load_file
        except ImportError as error:
            raise ServingError("PyTorch or safetensors is not installed") from error
        if not inputs or not outputs:
            raise ServingError("a PyTorch module needs the application's signature")
        torch.set_num_threads(threads)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        offered = find_entry_point(entry_point)
        try:
            module = offered.load()()
            module.load_state_dict(load_file(path), strict=True)
            self._module: Any = module.eval().to(self._device)
        except Exception as error:  # whatever a package's own code raises; its texts may hold paths
            raise ServingError(f"module or weights cannot be loaded ({type(error).__name__})") from error

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Answer one request: one tensor per input, in order; returns one per output.

        Raises:
            InputError: the module cannot take these tensors.
            ServingError: it returned something else than its outputs.
        """
        torch = self._torch
        arrays = arrays_of(self.inputs, tensors)
        with torch.inference_mode():
            try:
                # Copied, as what arrives may not be written to; a module may work in place.
                found = self._module(*(torch.tensor(array, device=self._device) for array in arrays))
            except Exception as error:
                raise blame(error, client=(RuntimeError, TypeError, ValueError, IndexError)) from error
            results = found if isinstance(found, tuple | list) else (found,)
            if not all(isinstance(result, torch.Tensor) for result in results):
                raise ServingError("the module returned something else than tensors")
            return tensors_of(self.outputs, [result.cpu().numpy() for result in results])
