"""ServedModel: the one logical model that clients see, and what the protocol says about it."""

from __future__ import annotations

from dataclasses import dataclass

from clover_rl.cluster.application import Application, TensorSpec, Variant
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.worker.tensors import DATATYPES

__all__ = ["ServedModel", "UnknownModelError"]

_BACKENDS = {
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_safetensors": "pytorch",
    "python": "python",
    "mixed": "mixed",
}
"""Platform, as ModelMetadata names it, to backend, as ModelConfig does."""


class UnknownModelError(ServingError):
    """The model or version that a client asked for is not served here."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An application as the protocol sees it: one name, one version, one signature, whatever variants answer.

    Attributes:
        name: what clients ask for.
        inputs, outputs: its signature. A first dimension of -1 is the batch.
        max_batch_size: most rows of one request, when every tensor starts with the batch. The device time of
            a profile is that of one request, so allow only as many rows as it was measured with.
        version: the only one there is.
        platform: what its variants are made of: onnxruntime_onnx, pytorch_safetensors, python, or mixed.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 1
    version: str = "1"
    platform: str = "onnxruntime_onnx"

    def __post_init__(self) -> None:
        """Refuse a signature that cannot be served. Raises InputError."""
        for spec in (*self.inputs, *self.outputs):
            if spec.datatype not in DATATYPES or spec.datatype == "BF16":
                raise InputError(
                    f"tensor `{spec.name}` has datatype {spec.datatype}",
                    where=f"application {self.name}",
                    fix=f"use one of {', '.join(name for name in DATATYPES if name != 'BF16')}",
                )
        if not self.inputs or not self.outputs:
            raise InputError(
                "has no signature and cannot be served",
                where=f"application {self.name}",
                fix="name its inputs and outputs in the catalogue",
            )

    @classmethod
    def of(cls, application: Application, *, max_batch_size: int = 1) -> ServedModel:
        """What an application is to its clients. Raises InputError when it has no signature to serve."""
        found = {_platform(variant) for variant in application.variants.values()}
        return cls(
            application.name,
            application.inputs,
            application.outputs,
            max_batch_size,
            platform=found.pop() if len(found) == 1 else "mixed",
        )

    @property
    def batched(self) -> bool:
        """Whether the first dimension of every tensor is the batch."""
        return all(spec.shape and spec.shape[0] == -1 for spec in (*self.inputs, *self.outputs))

    def is_known(self, name: str, version: str) -> bool:
        """Whether this is the model and version asked for; no version means the only one.

        Raises:
            InputError: the version is no number.
        """
        if version and not (version.isascii() and version.isdigit()):
            raise InputError(f"failed to get model version from specified version string '{version}'")
        return name == self.name and (not version or version.lstrip("0") == self.version.lstrip("0"))

    def require(self, name: str, version: str) -> None:
        """Raise UnknownModelError unless this is the model asked for; InputError for a senseless version."""
        if not self.is_known(name, version):
            asked = f"'{name}'" if name != self.name else f"'{name}' version {version}"
            raise UnknownModelError(f"Request for unknown model: {asked} is not found")

    def metadata(self) -> pb.ModelMetadataResponse:
        """The answer to ModelMetadata."""
        response = pb.ModelMetadataResponse(name=self.name, versions=[self.version], platform=self.platform)
        for specs, target in ((self.inputs, response.inputs), (self.outputs, response.outputs)):
            for spec in specs:
                target.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return response

    def config(self) -> pb.ModelConfigResponse:
        """The answer to ModelConfig."""
        config = pb.ModelConfig(
            name=self.name,
            platform=self.platform,
            backend=_BACKENDS[self.platform],
            max_batch_size=self.max_batch_size if self.batched else 0,
        )
        first = 1 if self.batched else 0
        for spec in self.inputs:
            number = DATATYPES[spec.datatype].number
            config.input.add(name=spec.name, data_type=number, dims=spec.shape[first:])
        for spec in self.outputs:
            number = DATATYPES[spec.datatype].number
            config.output.add(name=spec.name, data_type=number, dims=spec.shape[first:])
        config.model_transaction_policy.decoupled = False
        return pb.ModelConfigResponse(config=config)


def _platform(variant: Variant) -> str:
    if variant.entry_point is None:
        return "onnxruntime_onnx"
    return "python" if variant.model is None else "pytorch_safetensors"
