"""ResponseWriter: the bytes of a ModelInferResponse, put together from parts that were serialised once."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import Answer

__all__ = ["FINAL_RESPONSE", "ResponseWriter", "length"]

_DOUBLE = struct.Struct("<d")
_MOST_PARTS = 4096

FINAL_RESPONSE = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()
"""Appended to a response: says that it is the last of its request. (Messages merge by concatenation.)"""


def length(size: int) -> bytes:
    """A length as the wire carries it."""
    found = bytearray()
    while size >= 0x80:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found)


def _double_head(name: str) -> bytes:
    """A parameter of kind double, without its last eight bytes, the value."""
    value = pb.InferParameter(double_param=0.0)
    return pb.ModelInferResponse(parameters={name: value}).SerializeToString()[: -_DOUBLE.size]


_QUEUE, _COMPUTE, _CARBON = (_double_head(name) for name in ("queue_ms", "compute_ms", "gco2_estimate"))


class ResponseWriter:
    """Writes the responses of one model.

    Who answered, the kind of the carbon estimate and the outputs' shapes repeat, so their parts are kept; the
    tensors' bytes are copied once, into the response.

    Args:
        model: whose signature names the outputs.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._prefix = pb.ModelInferResponse(
            model_name=model.name, model_version=model.version
        ).SerializeToString()
        self._texts: dict[tuple[str, str], bytes] = {}
        self._outputs: dict[tuple[tuple[int, ...], ...], bytes] = {}
        self._every = tuple(range(len(model.outputs)))

    def write(
        self,
        request_id: bytes,
        answer: Answer,
        wanted: Sequence[int] | None,
        carbon: tuple[float, str] | None,
    ) -> bytes:
        """The message that carries an answer.

        Args:
            request_id: echoed; UTF-8.
            answer: what the instance said.
            wanted: positions of the outputs asked for; None for all.
            carbon: estimated gCO2 of this request and the kind of that estimate; None where nobody estimates.
        """
        parts: list[bytes | bytearray | memoryview] = [self._prefix]
        if request_id:
            parts += (b"\x1a", length(len(request_id)), request_id)
        parts += (
            self._text("variant", answer.variant),
            self._text("instance", answer.instance),
            _QUEUE,
            _DOUBLE.pack(answer.queue_ns / 1e6),
            _COMPUTE,
            _DOUBLE.pack(answer.compute_ns / 1e6),
        )
        if carbon is not None:
            parts += (_CARBON, _DOUBLE.pack(carbon[0]), self._text("gco2_kind", carbon[1]))
        order = self._every if wanted is None else wanted
        tensors = [answer.tensors[index] for index in order]
        shapes = (tuple(order), *(tensor.shape for tensor in tensors))
        outputs = self._outputs.get(shapes)
        parts.append(self._describe(shapes) if outputs is None else outputs)
        for tensor in tensors:
            data = tensor.data
            size = data.nbytes if isinstance(data, memoryview) else len(data)
            parts += (b"\x32", length(size), data)
        return b"".join(parts)

    def _text(self, name: str, value: str) -> bytes:
        found = self._texts.get((name, value))
        if found is None:
            if len(self._texts) >= _MOST_PARTS:
                self._texts.clear()
            parameter = pb.InferParameter(string_param=value)
            found = pb.ModelInferResponse(parameters={name: parameter}).SerializeToString()
            self._texts[name, value] = found
        return found

    def _describe(self, shapes: tuple[tuple[int, ...], ...]) -> bytes:
        if len(self._outputs) >= _MOST_PARTS:
            self._outputs.clear()
        response = pb.ModelInferResponse()
        for index, shape in zip(shapes[0], shapes[1:], strict=True):
            spec = self._model.outputs[index]
            response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        found = self._outputs[shapes] = response.SerializeToString()
        return found
