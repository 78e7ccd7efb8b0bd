"""InferenceClient: a small client of the Open Inference Protocol, for the commands of this package.

Applications use any client of the protocol, tritonclient among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.protocol import inference_pb2_grpc as rpc

__all__ = ["InferenceAnswer", "InferenceClient"]

_DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "UINT8": np.uint8}


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """Outputs in the signature's order, and the answer's parameters."""

    outputs: list[NDArray[Any]]
    parameters: dict[str, Any]


class InferenceClient:
    """A connection to an inference port.

    Args:
        address: HOST:PORT.
        timeout_s: of each call.
    """

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address)
        self._stub = rpc.GRPCInferenceServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> InferenceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def metadata(self, model: str) -> pb.ModelMetadataResponse:
        """The model's signature.

        Raises:
            ServingError: see `infer`.
        """
        found: pb.ModelMetadataResponse = self._call(
            self._stub.ModelMetadata, pb.ModelMetadataRequest(name=model)
        )
        return found

    def signature(self, model: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The model's inputs and outputs.

        Raises:
            ServingError: see `infer`.
        """
        found = self.metadata(model)
        inputs, outputs = (
            tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)
            for tensors in (found.inputs, found.outputs)
        )
        return inputs, outputs

    def infer(self, model: str, array: NDArray[Any]) -> InferenceAnswer:
        """One request with one input.

        Raises:
            InputError: the model takes another number of inputs, or a datatype that this client lacks.
            ServingError: the server refused it, or cannot be reached.
        """
        signature = self.metadata(model).inputs
        if len(signature) != 1 or signature[0].datatype not in _DTYPES:
            raise InputError(
                f"model `{model}` needs another client", fix="use tritonclient for this signature"
            )
        wanted = signature[0]
        content = np.ascontiguousarray(array, _DTYPES[wanted.datatype])
        request = pb.ModelInferRequest(
            model_name=model,
            inputs=[
                pb.ModelInferRequest.InferInputTensor(
                    name=wanted.name, datatype=wanted.datatype, shape=content.shape
                )
            ],
            raw_input_contents=[content.tobytes()],
        )
        response: pb.ModelInferResponse = self._call(self._stub.ModelInfer, request)
        outputs = [
            np.frombuffer(raw, _DTYPES[output.datatype]).reshape(tuple(output.shape))
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        ]
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
            for name, value in response.parameters.items()
        }
        return InferenceAnswer(outputs, parameters)

    def _call(self, call: Any, request: object) -> Any:
        try:
            return call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code == grpc.StatusCode.UNAVAILABLE and "raining" not in (details or ""):
                raise ServingError(
                    f"no server answers there ({details})", where=self.address, fix="check --to"
                ) from None
            raise ServingError(f"{code.name}: {details}", where=self.address) from None
