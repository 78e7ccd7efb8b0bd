"""GraphedModel: a PyTorch module with fixed shapes as one CUDA graph between pinned buffers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError

__all__ = ["GraphedModel", "constants_on_device"]


def constants_on_device() -> Any:
    """Within: `tensor[i, j] = 3` fills on the device. PyTorch copies a number from the host, which no capture
    allows, and transformers' RT-DETR writes the sizes of its feature maps so."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Filling(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func is torch.Tensor.__setitem__ and isinstance(args[2], int | float):
                args[0][args[1]].fill_(args[2])
                return None
            return func(*args, **(kwargs or {}))

    return Filling()


NUMPY = {"UINT8": "uint8", "INT64": "int64", "FP32": "float32"}
WARM_UPS = 3
"""Runs before the capture: cuBLAS and cuDNN choose kernels and take their workspaces in them."""


class GraphedModel:
    """What the worker's entry points make: `inputs`, `outputs`, `infer`.

    On a GPU the module runs in fp16 as one CUDA graph: the request is copied into a pinned buffer, the graph
    is replayed, and the answer comes back in a pinned buffer, which the next request overwrites. A module
    whose capture fails (shapes that depend on data) runs without a graph; `graphed` says so. Where no GPU was
    given to the process (CUDA_VISIBLE_DEVICES unset or empty) and none is found it runs in fp32 on the CPU,
    which is for tests and for the emulated backend.

    Args:
        build: makes the module, in eval mode or not; its parameters are made where it is to run. `forward`
            takes the inputs in order and returns a tensor, or a tuple of them, of the outputs' datatypes.
        inputs, outputs: the signature; no dimension may be free.
        seed: of random weights.

    Raises:
        ServingError: the process was given a GPU and PyTorch cannot use it.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        seed: int = 0,
    ) -> None:
        import torch

        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._torch = torch
        self.on_gpu = torch.cuda.is_available()
        if not self.on_gpu and os.environ.get("CUDA_VISIBLE_DEVICES"):
            # a slice of a GPU was meant: what the CPU answers would be counted as the slice's
            raise ServingError(
                f"PyTorch {torch.__version__} cannot use the GPU that it was given",
                fix="install a build of torch for this driver; torch.cuda.init() says what is wrong",
            )
        self.graphed = False
        self._graph: Any = None
        device = torch.device("cuda" if self.on_gpu else "cpu")
        torch.manual_seed(seed)
        with torch.inference_mode():
            with torch.device(device):
                module = build()
            # buffers that a constructor makes from NumPy stay on the host
            self._module = (module.half() if self.on_gpu else module).to(device).eval()
            self._host = [self._buffer(spec) for spec in self.inputs]
            self._views = [buffer.numpy() for buffer in self._host]
            if self.on_gpu:
                self._prepare(device)

    def infer(self, *arrays: Any) -> list[Any]:
        """Answer one request; the arrays returned are overwritten by the next.

        Raises:
            ValueError: an input has another shape than the signature's.
        """
        for view, array in zip(self._views, arrays, strict=True):
            if array.shape != view.shape:
                raise ValueError(f"expected shape {view.shape}")
            np.copyto(view, array)
        torch = self._torch
        with torch.inference_mode():
            if not self.on_gpu:
                return [found.numpy() for found in self._forward(self._host)]
            with torch.cuda.stream(self._stream):
                for there, here in zip(self._input, self._host, strict=True):
                    there.copy_(here, non_blocking=True)
                if self.graphed:
                    self._graph.replay()
                else:
                    self._output = self._forward(self._input)
                for here, there in zip(self._result, self._output, strict=True):
                    here.copy_(there, non_blocking=True)
            self._stream.synchronize()
        return [result.numpy() for result in self._result]

    # --- inside

    def _forward(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        found = self._module(*tensors)
        return found if isinstance(found, tuple) else (found,)

    def _buffer(self, spec: TensorSpec) -> Any:
        dtype = getattr(self._torch, NUMPY[spec.datatype])
        buffer = self._torch.zeros(spec.shape, dtype=dtype, device="cpu")
        return buffer.pin_memory() if self.on_gpu else buffer

    def _prepare(self, device: Any) -> None:
        torch = self._torch
        self._input = [buffer.to(device) for buffer in self._host]
        self._result = [self._buffer(spec) for spec in self.outputs]
        self._stream = torch.cuda.Stream()
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                self._output = self._forward(self._input)
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph, stream=self._stream), constants_on_device():
                self._output = self._forward(self._input)
            self.graphed = True
        except RuntimeError:
            torch.cuda.synchronize()
