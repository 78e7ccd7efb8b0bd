"""PolicyNetwork: policy.onnx in ONNX Runtime, and what such a network may be made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    import onnx

__all__ = ["ALLOWED_OPERATORS", "PolicyNetwork", "check_operators"]

ALLOWED_OPERATORS = frozenset(
    {
        "Abs", "Add", "Cast", "Clip", "Concat", "Constant", "Div", "Exp", "Expand", "Gemm", "Identity", "Log",
        "MatMul", "Mul", "Neg", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Sub",
        "Tanh", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators that a policy may use: arithmetic of a small network, nothing that loops, calls out or loads."""

_INPUTS = {"observation": "tensor(float)", "mask": "tensor(bool)"}
_SEVERITY_FATAL = 4


class PolicyNetwork:
    """policy.onnx in ONNX Runtime on one thread: observation and mask in, logits out.

    Attributes:
        observation_size: numbers in an observation.
        actions: actions it chooses from.

    Raises:
        BundleError: the network uses an operator that is not allowed, cannot be loaded, or has other inputs
            and outputs.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, content: bytes) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError(
                "onnxruntime is needed to run a policy", fix="install clover-rl[serve]"
            ) from None
        check_operators(content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _SEVERITY_FATAL  # it raises what it would log
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes share no public base
            raise BundleError(
                f"policy.onnx cannot be loaded ({type(error).__name__})", fix="export it again"
            ) from None
        self.observation_size, self.actions = self._signature()

    def _signature(self) -> tuple[int, int]:
        inputs = {node.name: node for node in self._session.get_inputs()}
        named = {name: node.type for name, node in inputs.items()} == _INPUTS
        if named and [node.name for node in self._session.get_outputs()] == ["logits"]:
            widths = [node.shape[1:] for node in (inputs["observation"], inputs["mask"])]
            if all(len(width) == 1 and isinstance(width[0], int) for width in widths):
                return int(widths[0][0]), int(widths[1][0])
        raise BundleError(
            "policy.onnx does not turn an observation and a mask into logits", fix="export it again"
        )

    def logits(self, observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Logits of n observations, masked actions very low, shape (n, actions).

        Raises:
            BundleError: the network cannot be run on them, or gives something else.
        """
        try:
            (out,) = self._session.run(None, {"observation": observations, "mask": masks})
        except Exception as error:  # as above
            raise BundleError(
                f"policy.onnx cannot be run ({type(error).__name__})", fix="export it again"
            ) from None
        found: NDArray[np.float32] = np.asarray(out, np.float32)
        if found.shape != masks.shape:
            raise BundleError(
                f"policy.onnx gives logits of shape {found.shape} for masks of shape {masks.shape}",
                fix="export it again",
            )
        return found


def check_operators(content: bytes) -> None:
    """Refuse networks with operators outside ALLOWED_OPERATORS, other domains, functions or external data.

    Raises:
        BundleError: naming the first one.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx is needed to check a policy", fix="install clover-rl[serve]") from None
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's own classes
        raise BundleError("policy.onnx is no ONNX file", fix="export it again") from None
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in ALLOWED_OPERATORS:
            raise BundleError(
                f"policy.onnx uses the operator `{node.domain or 'ai.onnx'}.{node.op_type}`, "
                "which is not allowed",
                fix="export a policy made of plain layers",
            )
    if any(_unusual(model)) or any(map(_external, _tensors(model.graph))):
        raise BundleError(
            "policy.onnx uses functions, graphs within graphs, sparse or external data",
            fix="export a policy made of plain layers",
        )


def _unusual(model: onnx.ModelProto) -> Iterator[Any]:
    """Parts that an exported policy never has, each truthy where it is there."""
    yield from (model.functions, model.training_info, model.graph.sparse_initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            yield from (attribute.HasField("g"), attribute.graphs)
            yield from (attribute.HasField("sparse_tensor"), attribute.sparse_tensors)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def _external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's numbers lie in another file, which ONNX Runtime would open."""
    return bool(tensor.data_location != tensor.DEFAULT or tensor.external_data)
