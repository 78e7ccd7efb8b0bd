"""Messages: the only contract between the server and an instance's process. Framed raw bytes, never pickle.

A frame is a header of 8 bytes, `<u32 size of what follows><u8 kind><3 bytes zero>`, and its body. All numbers
are little-endian. Tensors travel as their shapes and raw bytes, in the order of the application's signature;
names and datatypes were agreed on in Ready and are not repeated.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError

__all__ = [
    "HEADER_BYTES",
    "MAX_FRAME_BYTES",
    "PROTOCOL_VERSION",
    "Buffer",
    "Failure",
    "Hello",
    "Infer",
    "Kind",
    "Message",
    "MessageError",
    "Outcome",
    "Ping",
    "Pong",
    "Ready",
    "Result",
    "Stop",
    "Tensor",
    "decode",
    "frame_size",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

PROTOCOL_VERSION = 1
HEADER_BYTES = 8
MAX_FRAME_BYTES = 1 << 31
_HEADER = struct.Struct("<IB3x")
_INFER = struct.Struct("<QQQI")
_RESULT = struct.Struct("<QQQQI")
_FAILURE = struct.Struct("<Q?")
_STAMP = struct.Struct("<Q")
_SIZES = struct.Struct("<QI")


class MessageError(ServingError):
    """A frame does not follow the contract: the peer is another version, or broken."""


class Kind(IntEnum):
    """What a frame holds."""

    HELLO = 1
    READY = 2
    INFER = 3
    RESULT = 4
    FAILURE = 5
    PING = 6
    PONG = 7
    STOP = 8


class Tensor(NamedTuple):
    """One tensor on its way: its shape and its raw bytes (row-major, little-endian; a view counts bytes)."""

    shape: tuple[int, ...]
    data: Buffer


@dataclass(frozen=True, slots=True)
class Hello:
    """Server to instance, first: which model to load and how.

    Attributes:
        model: path of the ONNX file, the only file the instance may open.
        threads: CPU threads of one inference.
        warmup_runs: inferences before it says Ready.
    """

    model: str
    threads: int = 1
    warmup_runs: int = 3
    version: int = PROTOCOL_VERSION

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order."""
        fields = {name: getattr(self, name) for name in ("model", "threads", "warmup_runs", "version")}
        return _frame(Kind.HELLO, [json.dumps(fields).encode()])


@dataclass(frozen=True, slots=True)
class Ready:
    """Instance to server: the model is loaded and warm.

    Attributes:
        pid: its process.
        inputs: the model's inputs.
        outputs: the model's outputs.
        load_s: seconds spent on loading and warming up.
        run_s: seconds that its last warm-up inference took.
    """

    pid: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    load_s: float
    run_s: float

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order."""
        fields = {
            "pid": self.pid,
            "inputs": [[info.name, info.datatype, info.shape] for info in self.inputs],
            "outputs": [[info.name, info.datatype, info.shape] for info in self.outputs],
            "load_s": self.load_s,
            "run_s": self.run_s,
        }
        return _frame(Kind.READY, [json.dumps(fields).encode()])


class Infer(NamedTuple):
    """Server to instance: one request.

    Attributes:
        number: names the request in the answer.
        hold_ns: the device time; the answer is held back until this long after `started_ns`.
        started_ns: when the server handed it over, on the machine's monotonic clock.
        tensors: the inputs.
    """

    number: int
    hold_ns: int
    started_ns: int
    tensors: Sequence[Tensor]

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order; the tensors' bytes are passed on, not copied."""
        head = _INFER.pack(self.number, self.hold_ns, self.started_ns, len(self.tensors))
        return _frame(Kind.INFER, _with_tensors(head, self.tensors))


class Result(NamedTuple):
    """Instance to server: the answer.

    Attributes:
        number: the request's.
        input_ns: from reading the request to the inference.
        infer_ns: the inference itself, without what was held back.
        held_ns: what was held back after it.
        tensors: the outputs.
    """

    number: int
    input_ns: int
    infer_ns: int
    held_ns: int
    tensors: Sequence[Tensor]

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order; the tensors' bytes are passed on, not copied."""
        head = _RESULT.pack(self.number, self.input_ns, self.infer_ns, self.held_ns, len(self.tensors))
        return _frame(Kind.RESULT, _with_tensors(head, self.tensors))


@dataclass(frozen=True, slots=True)
class Failure:
    """Instance to server: a request failed, or (number 0) the model cannot be loaded.

    Attributes:
        number: the request's; the server counts from 1.
        bad_input: whether the request is to blame, so that another instance would fail as well.
        reason: one sentence without paths.
    """

    number: int
    bad_input: bool
    reason: str

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.FAILURE, [_FAILURE.pack(self.number, self.bad_input), self.reason.encode()])


@dataclass(frozen=True, slots=True)
class Ping:
    """Server to instance: are you there?"""

    stamp: int

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.PING, [_STAMP.pack(self.stamp)])


@dataclass(frozen=True, slots=True)
class Pong:
    """Instance to server: the answer to the Ping of that stamp."""

    stamp: int

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.PONG, [_STAMP.pack(self.stamp)])


@dataclass(frozen=True, slots=True)
class Stop:
    """Server to instance: finish and exit."""

    def frames(self) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.STOP, [])


Message: TypeAlias = Hello | Ready | Infer | Result | Failure | Ping | Pong | Stop

Outcome: TypeAlias = Result | Failure | None
"""What became of a request: an answer, a failure with its reason, or None when the instance died."""


def frame_size(header: Buffer) -> int:
    """Bytes of the whole frame that starts with these 8 bytes. Raises MessageError when that is absurd."""
    size, _ = _HEADER.unpack_from(header)
    if size > MAX_FRAME_BYTES:
        raise MessageError(f"a frame of {size} bytes is announced")
    return HEADER_BYTES + int(size)


def decode(frame: Buffer) -> Message:
    """The message in one whole frame; tensors are views into it, valid as long as nobody writes to it.

    Raises:
        MessageError: unknown kind, or a body that does not fit its kind.
    """
    view = memoryview(frame)
    try:
        return _DECODERS[_HEADER.unpack_from(view)[1]](view[HEADER_BYTES:])
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise MessageError(f"a frame cannot be read: {error}") from error


def _frame(kind: Kind, parts: list[Buffer]) -> list[Buffer]:
    size = sum(len(part) for part in parts)
    if size > MAX_FRAME_BYTES:
        raise MessageError(f"a frame of {size} bytes is more than {MAX_FRAME_BYTES}")
    head = _HEADER.pack(size, kind)
    return [head + parts[0], *parts[1:]] if parts else [head]


def _with_tensors(head: bytes, tensors: Sequence[Tensor]) -> list[Buffer]:
    parts: list[Buffer] = []
    for shape, data in tensors:
        parts += (head + _tensor_head(len(data), shape), data)
        head = b""
    return parts or [head]


@lru_cache(maxsize=1024)
def _tensor_head(size: int, shape: tuple[int, ...]) -> bytes:
    rank = len(shape)
    return _SIZES.pack(size, rank) + struct.pack(f"<{rank}q", *shape)


def _tensors(body: memoryview, offset: int, number: int) -> tuple[Tensor, ...]:
    tensors = []
    for _ in range(number):
        size, rank = _SIZES.unpack_from(body, offset)
        offset += _SIZES.size
        shape = struct.unpack_from(f"<{rank}q", body, offset)
        offset += 8 * rank
        data = body[offset : offset + size]
        if len(data) != size:
            raise MessageError("a tensor is cut short")
        tensors.append(Tensor(shape, data))
        offset += size
    if offset != len(body):
        raise MessageError("a frame is longer than its tensors")
    return tuple(tensors)


def _hello(body: memoryview) -> Hello:
    fields = json.loads(bytes(body))
    if fields.get("version") != PROTOCOL_VERSION:
        raise MessageError(
            f"the server speaks version {fields.get('version')}, this instance {PROTOCOL_VERSION}"
        )
    return Hello(**fields)


def _ready(body: memoryview) -> Ready:
    fields = json.loads(bytes(body))
    inputs, outputs = (
        tuple(TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in fields[side])
        for side in ("inputs", "outputs")
    )
    return Ready(fields["pid"], inputs, outputs, fields["load_s"], fields["run_s"])


def _infer(body: memoryview) -> Infer:
    number, hold_ns, started_ns, tensors = _INFER.unpack_from(body)
    return Infer(number, hold_ns, started_ns, _tensors(body, _INFER.size, tensors))


def _result(body: memoryview) -> Result:
    number, input_ns, infer_ns, held_ns, tensors = _RESULT.unpack_from(body)
    return Result(number, input_ns, infer_ns, held_ns, _tensors(body, _RESULT.size, tensors))


def _failure(body: memoryview) -> Failure:
    number, bad_input = _FAILURE.unpack_from(body)
    return Failure(number, bad_input, bytes(body[_FAILURE.size :]).decode())


_DECODERS: dict[int, Callable[[memoryview], Message]] = {
    Kind.HELLO: _hello,
    Kind.READY: _ready,
    Kind.INFER: _infer,
    Kind.RESULT: _result,
    Kind.FAILURE: _failure,
    Kind.PING: lambda body: Ping(_STAMP.unpack(body)[0]),
    Kind.PONG: lambda body: Pong(_STAMP.unpack(body)[0]),
    Kind.STOP: lambda body: Stop(),
}
