"""RequestReader: what of a request's bytes an instance needs; headers that repeat are checked once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from clover_rl.errors import InputError
from clover_rl.serving.endpoint.requests import ParsedRequest, read_request
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.tensors import DATATYPES, check_raw

__all__ = ["RequestReader", "parse"]

_ID, _RAW = 0x1A, 0x3A  # tags on the wire: field number x 8 + 2 for bytes of a stated length
_HEADER_TAGS = frozenset((0x0A, 0x12, 0x22, 0x2A, 0x32))
_MOST_TEMPLATES = 256
_LONGEST_HEADER = 4096

_AnyMessage = TypeVar("_AnyMessage", bound=Message)


def parse(message: _AnyMessage, data: bytes) -> _AnyMessage:
    """Fill a message from its bytes. Raises InputError when they are none."""
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the request cannot be read as a {message.DESCRIPTOR.name}") from error
    return message


@dataclass(frozen=True, slots=True)
class _Input:
    """An input of a known header: where its raw contents stand, and what they must be."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: int
    size: int | None


@dataclass(frozen=True, slots=True)
class _Template:
    """What a header that was checked once says."""

    inputs: tuple[_Input, ...]
    parsed: ParsedRequest


class RequestReader:
    """Reads ModelInferRequests of one model.

    Clients send the same names, shapes and parameters again and again; only the id and the tensors' bytes
    change. So a message is split into those, the raw contents stay where they are, and the rest is looked up
    among the headers that passed every check before. Whatever is not exactly such a message takes the full
    way through protobuf and `read_request`, which alone decides what is refused and how.

    Args:
        model: whose signature requests must have.
    """

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._templates: dict[bytes, _Template] = {}

    def read(self, data: bytes) -> ParsedRequest:
        """What to hand to an instance; tensors are views of `data` where it carries them raw.

        Raises:
            UnknownModelError: another model, or another version of it.
            InputError: anything else that is wrong with it.
        """
        layout = _layout(data)
        if layout is None:
            return read_request(self._model, parse(pb.ModelInferRequest(), data))
        header, request_id, raws = layout
        template = self._templates.get(header)
        if template is not None:
            found = _fill(template, data, request_id, raws)
            if found is not None:
                return found
        request = parse(pb.ModelInferRequest(), data)
        parsed = read_request(self._model, request)
        if template is None and len(header) <= _LONGEST_HEADER:
            self._learn(header, request, parsed)
        return parsed

    def _learn(self, header: bytes, request: pb.ModelInferRequest, parsed: ParsedRequest) -> None:
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()  # somebody makes up headers; those in use are back in a moment
        sent = {tensor.name: number for number, tensor in enumerate(request.inputs)}
        inputs = []
        for spec, tensor in zip(self._model.inputs, parsed.tensors, strict=True):
            size = DATATYPES[spec.datatype].size
            expected = size * prod(tensor.shape) if size else None
            inputs.append(_Input(spec.name, spec.datatype, tensor.shape, sent[spec.name], expected))
        self._templates[header] = _Template(tuple(inputs), parsed._replace(id=b"", tensors=(), size_bytes=0))


def _fill(
    template: _Template, data: bytes, request_id: bytes, raws: list[tuple[int, int]]
) -> ParsedRequest | None:
    """The request of a known header; None when its contents need the full way."""
    if len(raws) != len(template.inputs) or not request_id.isascii():
        return None
    view = memoryview(data)
    tensors = []
    total = 0
    for wanted in template.inputs:
        start, end = raws[wanted.raw]
        size = end - start
        if size != wanted.size:
            if wanted.size is not None:
                return None
            check_raw(wanted.name, wanted.datatype, wanted.shape, view[start:end])
        total += size
        tensors.append(Tensor(wanted.shape, view[start:end]))
    known = template.parsed
    return ParsedRequest(
        request_id, tuple(tensors), known.rows, total, known.timeout_s, known.wanted, known.final_flag
    )


def _layout(data: bytes) -> tuple[bytes, bytes, list[tuple[int, int]]] | None:
    """Header, id and places of the raw contents; None unless it is laid out as every serialiser does.

    That is: known fields only, the id at most once, the raw contents last.
    """
    position, end_of_all = 0, len(data)
    id_from = id_to = 0
    request_id = b""
    raws: list[tuple[int, int]] = []
    header_end = end_of_all
    try:
        while position < end_of_all:
            tag, size = data[position], data[position + 1]
            start = position + 2
            if size >= 0x80:
                size, start = _varint(data, position + 1)
            end = start + size
            if end > end_of_all:
                return None
            if tag == _RAW:
                if not raws:
                    header_end = position
                raws.append((start, end))
            elif raws:
                return None
            elif tag == _ID:
                if id_to:
                    return None
                id_from, id_to, request_id = position, end, data[start:end]
            elif tag not in _HEADER_TAGS:
                return None
            position = end
    except IndexError:
        return None
    if not raws:
        return None
    header = data[:id_from] + data[id_to:header_end] if id_to else data[:header_end]
    return header, request_id, raws


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Value of a length of several bytes, and where it ends. Raises IndexError when it is cut or too long."""
    value = shift = 0
    while shift < 35:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise IndexError
