"""Requests: what of a ModelInferRequest an instance needs, checked against the model's signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from clover_rl.errors import InputError
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.tensors import check_raw, check_shape, pack_contents

__all__ = ["ParsedRequest", "read_request"]

_KNOWN_PARAMETERS = {
    "timeout": ("int64_param", "uint64_param"),
    "priority": ("int64_param", "uint64_param"),
    "sequence_id": ("int64_param", "uint64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "binary_data_output": ("bool_param",),
    "triton_enable_empty_final_response": ("bool_param",),
}
_REFUSED_TENSOR_PARAMETERS = {
    "shared_memory_region": "shared memory",
    "shared_memory_byte_size": "shared memory",
    "shared_memory_offset": "shared memory",
    "classification": "classification",
}


class ParsedRequest(NamedTuple):
    """A request that may run.

    Attributes:
        id: the client's name for it, UTF-8.
        tensors: inputs in the signature's order, raw.
        rows: the size of its batch; 1 where the signature has none.
        size_bytes: of all inputs.
        timeout_s: what the client allows for it, s; None for any time.
        wanted: positions of the outputs asked for, in their order; None for all.
        final_flag: whether a stream's answer must say that it is the last one of its request.
    """

    id: bytes
    tensors: tuple[Tensor, ...]
    rows: int
    size_bytes: int
    timeout_s: float | None
    wanted: tuple[int, ...] | None
    final_flag: bool


def read_request(model: ServedModel, request: pb.ModelInferRequest) -> ParsedRequest:
    """Check a request against the model's signature; raw contents pass through undecoded.

    Raises:
        UnknownModelError: another model, or another version of it.
        InputError: anything else that is wrong with it.
    """
    model.require(request.model_name, request.model_version)
    timeout_s, final_flag = _read_parameters(request.parameters) if request.parameters else (None, False)
    tensors = _read_inputs(model, request)
    rows = _rows(model, tensors)
    wanted = _read_outputs(model, request.outputs) if request.outputs else None
    size = sum(len(tensor.data) for tensor in tensors)
    return ParsedRequest(request.id.encode(), tensors, rows, size, timeout_s, wanted, final_flag)


def _read_inputs(model: ServedModel, request: pb.ModelInferRequest) -> tuple[Tensor, ...]:
    inputs, raw = request.inputs, request.raw_input_contents
    if len(inputs) != len(model.inputs):
        raise InputError(
            f"expected {len(model.inputs)} inputs but got {len(inputs)} inputs for model '{model.name}'"
        )
    if raw and len(raw) != len(inputs):
        raise InputError(f"'raw_input_contents' has {len(raw)} entries for {len(inputs)} inputs")
    specs = {spec.name: position for position, spec in enumerate(model.inputs)}
    tensors: list[Tensor | None] = [None] * len(specs)
    for index, sent in enumerate(inputs):
        name = sent.name
        position = specs.get(name)
        if position is None:
            raise InputError(f"unexpected inference input '{name}' for model '{model.name}'")
        if tensors[position] is not None:
            raise InputError(f"input '{name}' is given twice")
        spec = model.inputs[position]
        if sent.datatype != spec.datatype:
            raise InputError(
                f"inference input '{name}' data-type is '{sent.datatype}', "
                f"but model '{model.name}' expects '{spec.datatype}'"
            )
        if sent.parameters:
            _refuse_parameters(name, sent.parameters)
        shape = tuple(sent.shape)
        check_shape(name, shape, spec.shape)
        filled = sent.HasField("contents") and sent.contents.ByteSize() > 0
        if raw:
            if filled:
                raise InputError(
                    f"contents of input '{name}' must not be given together with 'raw_input_contents'"
                )
            data = raw[index]
            check_raw(name, spec.datatype, shape, data)
        elif filled:
            data = pack_contents(name, spec.datatype, shape, sent.contents)
        else:
            raise InputError(f"no data is given for input '{name}'")
        tensors[position] = Tensor(shape, data)
    return tuple(tensor for tensor in tensors if tensor is not None)


def _rows(model: ServedModel, tensors: Sequence[Tensor]) -> int:
    if not model.batched:
        return 1
    rows = tensors[0].shape[0]
    if any(tensor.shape[0] != rows for tensor in tensors):
        raise InputError(f"the inputs of one request for model '{model.name}' differ in batch size")
    if rows > model.max_batch_size:
        raise InputError(f"inference request batch-size must be <= {model.max_batch_size} for '{model.name}'")
    return rows


def _read_outputs(
    model: ServedModel, outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]
) -> tuple[int, ...]:
    names = [spec.name for spec in model.outputs]
    wanted = []
    for output in outputs:
        if output.name not in names:
            raise InputError(f"unexpected inference output '{output.name}' for model '{model.name}'")
        if output.parameters:
            _refuse_parameters(output.name, output.parameters)
        position = names.index(output.name)
        if position in wanted:
            raise InputError(f"output '{output.name}' is requested twice")
        wanted.append(position)
    return tuple(wanted)


def _refuse_parameters(name: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    for parameter in parameters:
        if parameter in _REFUSED_TENSOR_PARAMETERS:
            what = _REFUSED_TENSOR_PARAMETERS[parameter]
            raise InputError(f"tensor '{name}' asks for {what}, which this server does not offer")


def _read_parameters(parameters: Mapping[str, pb.InferParameter]) -> tuple[float | None, bool]:
    timeout_s, final_flag = None, False
    for name, parameter in parameters.items():
        kinds = _KNOWN_PARAMETERS.get(name)
        if kinds is None:
            continue
        kind = parameter.WhichOneof("parameter_choice")
        if kind not in kinds:
            raise InputError(f"invalid value type for '{name}' parameter, expected {' or '.join(kinds)}")
        value = getattr(parameter, kind)
        if name == "timeout" and value:
            if value < 0:
                raise InputError(f"parameter 'timeout' is {value} microseconds, expected no less than 0")
            timeout_s = value / 1e6
        elif name == "triton_enable_empty_final_response":
            final_flag = bool(value)
    return timeout_s, final_flag
