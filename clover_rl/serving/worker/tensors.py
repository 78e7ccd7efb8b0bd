"""Tensors of the Open Inference Protocol: datatypes, sizes, and the two ways in which contents travel."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from clover_rl.errors import InputError

if TYPE_CHECKING:
    from clover_rl.serving.protocol.inference_pb2 import InferTensorContents

__all__ = [
    "DATATYPES",
    "Datatype",
    "check_raw",
    "check_shape",
    "decode_bytes",
    "encode_bytes",
    "pack_contents",
]

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Datatype:
    """A datatype of the protocol.

    Attributes:
        name: as the protocol spells it.
        size: bytes per element; 0 for BYTES, whose elements carry their length.
        numpy: little-endian NumPy dtype; None where NumPy has none.
        field: where typed contents carry it; None when it exists only as raw contents.
        number: in the enumeration of the model configuration.
    """

    name: str
    size: int
    numpy: str | None
    field: str | None
    number: int


DATATYPES = {
    kind.name: kind
    for kind in (
        Datatype("BOOL", 1, "?", "bool_contents", 1),
        Datatype("UINT8", 1, "u1", "uint_contents", 2),
        Datatype("UINT16", 2, "<u2", "uint_contents", 3),
        Datatype("UINT32", 4, "<u4", "uint_contents", 4),
        Datatype("UINT64", 8, "<u8", "uint64_contents", 5),
        Datatype("INT8", 1, "i1", "int_contents", 6),
        Datatype("INT16", 2, "<i2", "int_contents", 7),
        Datatype("INT32", 4, "<i4", "int_contents", 8),
        Datatype("INT64", 8, "<i8", "int64_contents", 9),
        Datatype("FP16", 2, "<f2", None, 10),
        Datatype("FP32", 4, "<f4", "fp32_contents", 11),
        Datatype("FP64", 8, "<f8", "fp64_contents", 12),
        Datatype("BYTES", 0, None, "bytes_contents", 13),
        Datatype("BF16", 2, None, None, 14),
    )
}
"""Every datatype by its name."""


def check_shape(name: str, shape: Sequence[int], declared: Sequence[int]) -> None:
    """Raise InputError unless a shape agrees with the declared one, where -1 means any positive size."""
    if len(shape) == len(declared) and all(
        size > 0 and (wanted == -1 or size == wanted) for size, wanted in zip(shape, declared, strict=True)
    ):
        return
    raise InputError(f"unexpected shape for input '{name}', expecting {list(declared)}, got {list(shape)}")


def check_raw(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> None:
    """Raise InputError unless raw contents are as long as datatype and shape say; nothing is decoded."""
    elements = prod(shape)
    size = DATATYPES[datatype].size
    if size:
        if len(data) != elements * size:
            raise InputError(
                f"unexpected total byte size {len(data)} for input '{name}', expecting {elements * size}"
            )
        return
    offset, found = 0, 0
    while offset < len(data) and found < elements:
        if offset + _LENGTH.size > len(data):
            break
        offset += _LENGTH.size + _LENGTH.unpack_from(data, offset)[0]
        found += 1
    if found != elements or offset != len(data):
        raise InputError(
            f"unexpected contents for input '{name}', expecting {elements} elements, "
            "each a 4-byte length and that many bytes"
        )


def pack_contents(name: str, datatype: str, shape: Sequence[int], contents: InferTensorContents) -> bytes:
    """Raw contents of a tensor that was sent in its typed field.

    Raises:
        InputError: another field than the datatype's is filled, the number of elements is not the shape's, or
            a value does not fit.
    """
    kind = DATATYPES[datatype]
    if kind.field is None:
        raise InputError(f"input '{name}' of datatype {datatype} must be sent in 'raw_input_contents'")
    for descriptor, _ in contents.ListFields():
        if descriptor.name != kind.field:
            raise InputError(
                f"unexpected field '{descriptor.name}' for input '{name}', "
                f"contents of datatype {datatype} belong in '{kind.field}'"
            )
    values = getattr(contents, kind.field)
    elements = prod(shape)
    if len(values) != elements:
        raise InputError(
            f"unexpected number of elements {len(values)} for input '{name}', expecting {elements}"
        )
    if kind.numpy is None:
        return encode_bytes(values)
    try:
        return np.array(values, dtype=kind.numpy).tobytes()
    except OverflowError as error:
        raise InputError(f"a value of input '{name}' does not fit datatype {datatype}") from error


def encode_bytes(elements: Sequence[bytes]) -> bytes:
    """Raw contents of BYTES elements: each behind its length in 4 bytes."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def decode_bytes(data: bytes | bytearray | memoryview) -> list[bytes]:
    """Elements of the raw contents of a BYTES tensor.

    Raises:
        InputError: an element is cut short.
    """
    elements, offset = [], 0
    while offset < len(data):
        start = offset + _LENGTH.size
        if start > len(data):
            raise InputError("a length is cut short")
        offset = start + _LENGTH.unpack_from(data, offset)[0]
        if offset > len(data):
            raise InputError("an element is cut short")
        elements.append(bytes(data[start:offset]))
    return elements
