"""Messages: the only contract between the server and an instance's process. Framed raw bytes, never pickle.

A frame is a header of 8 bytes, `<u32 size of what follows><u8 kind><3 bytes zero>`, and its body. All numbers
are little-endian. Tensors travel as their shapes and raw bytes, in the order of the application's signature;
names and datatypes were agreed on in Ready and are not repeated. A large tensor's bytes lie in shared memory,
and the frame says where.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError
from clover_rl.serving.worker.definition import ModelDefinition, ModelKind
from clover_rl.serving.worker.shared_memory import SHARED_BYTES, SharedMemory

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

PROTOCOL_VERSION = 2
HEADER_BYTES = 8
MAX_FRAME_BYTES = 1 << 31
_HEADER = struct.Struct("<IB3x")
_INFER = struct.Struct("<QQQI")
_RESULT = struct.Struct("<QQQQI")
_FAILURE = struct.Struct("<Q?")
_STAMP = struct.Struct("<Q")
_SIZES = struct.Struct("<QI")
_ELSEWHERE = 1 << 63  # in a size: the bytes lie in shared memory, and their place follows


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
        model: what it is made of; its file is the only one that the instance may open.
        inputs, outputs: the application's signature, for models that have none of their own.
        threads: CPU threads of one inference.
        warmup_runs: inferences before it says Ready.
    """

    model: ModelDefinition
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    threads: int = 1
    warmup_runs: int = 3

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order."""
        fields = {
            "version": PROTOCOL_VERSION,
            "kind": self.model.kind.value,
            "file": None if self.model.file is None else str(self.model.file),
            "entry_point": self.model.entry_point,
            "inputs": _described(self.inputs),
            "outputs": _described(self.outputs),
            "threads": self.threads,
            "warmup_runs": self.warmup_runs,
        }
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

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order."""
        fields = {
            "pid": self.pid,
            "inputs": _described(self.inputs),
            "outputs": _described(self.outputs),
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

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order; large tensors are written to `memory`, where there is one."""
        head = _INFER.pack(self.number, self.hold_ns, self.started_ns, len(self.tensors))
        return _frame(Kind.INFER, _with_tensors(head, self.tensors, memory))


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

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order; large tensors are written to `memory`, where there is one."""
        head = _RESULT.pack(self.number, self.input_ns, self.infer_ns, self.held_ns, len(self.tensors))
        return _frame(Kind.RESULT, _with_tensors(head, self.tensors, memory))


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

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.FAILURE, [_FAILURE.pack(self.number, self.bad_input), self.reason.encode()])


@dataclass(frozen=True, slots=True)
class Ping:
    """Server to instance: are you there?"""

    stamp: int

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.PING, [_STAMP.pack(self.stamp)])


@dataclass(frozen=True, slots=True)
class Pong:
    """Instance to server: the answer to the Ping of that stamp."""

    stamp: int

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
        """Buffers to send, in order."""
        return _frame(Kind.PONG, [_STAMP.pack(self.stamp)])


@dataclass(frozen=True, slots=True)
class Stop:
    """Server to instance: finish and exit."""

    def frames(self, memory: SharedMemory | None = None) -> list[Buffer]:
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


def decode(frame: Buffer, memory: SharedMemory | None = None) -> Message:
    """The message in one whole frame; tensors are views into it, valid as long as nobody writes to it.

    Args:
        frame: header and body.
        memory: where large tensors lie; their lifetime is what it says.

    Raises:
        MessageError: unknown kind, or a body that does not fit its kind.
    """
    view = memoryview(frame)
    try:
        return _DECODERS[_HEADER.unpack_from(view)[1]](view[HEADER_BYTES:], memory)
    except (struct.error, ValueError, KeyError, TypeError, ServingError) as error:
        raise MessageError(f"a frame cannot be read: {error}") from error


def _frame(kind: Kind, parts: list[Buffer]) -> list[Buffer]:
    size = sum(len(part) for part in parts)
    if size > MAX_FRAME_BYTES:
        raise MessageError(f"a frame of {size} bytes is more than {MAX_FRAME_BYTES}")
    head = _HEADER.pack(size, kind)
    return [head + parts[0], *parts[1:]] if parts else [head]


def _with_tensors(head: bytes, tensors: Sequence[Tensor], memory: SharedMemory | None) -> list[Buffer]:
    parts: list[Buffer] = []
    if memory is not None:
        memory.restart()
    for shape, data in tensors:
        size = len(data)
        if memory is None or size < SHARED_BYTES:
            parts += (head + _tensor_head(size, shape), data)
        else:
            parts.append(head + _tensor_head(size | _ELSEWHERE, shape) + _STAMP.pack(memory.write(data)))
        head = b""
    return parts or [head]


@lru_cache(maxsize=1024)
def _tensor_head(size: int, shape: tuple[int, ...]) -> bytes:
    rank = len(shape)
    return _SIZES.pack(size, rank) + struct.pack(f"<{rank}q", *shape)


def _tensors(body: memoryview, offset: int, number: int, memory: SharedMemory | None) -> tuple[Tensor, ...]:
    tensors = []
    for _ in range(number):
        size, rank = _SIZES.unpack_from(body, offset)
        offset += _SIZES.size
        shape = struct.unpack_from(f"<{rank}q", body, offset)
        offset += 8 * rank
        data: Buffer
        if size & _ELSEWHERE:
            if memory is None:
                raise MessageError("a tensor lies in shared memory, and there is none")
            data = memory.read(_STAMP.unpack_from(body, offset)[0], size ^ _ELSEWHERE)
            offset += _STAMP.size
        else:
            data = body[offset : offset + size]
            if len(data) != size:
                raise MessageError("a tensor is cut short")
            offset += size
        tensors.append(Tensor(shape, data))
    if offset != len(body):
        raise MessageError("a frame is longer than its tensors")
    return tuple(tensors)


def _described(specs: Sequence[TensorSpec]) -> list[list[object]]:
    return [[spec.name, spec.datatype, spec.shape] for spec in specs]


def _specs(described: list[list[Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in described)


def _hello(body: memoryview, memory: SharedMemory | None) -> Hello:
    fields = json.loads(bytes(body))
    if fields.get("version") != PROTOCOL_VERSION:
        raise MessageError(
            f"the server speaks version {fields.get('version')}, this instance {PROTOCOL_VERSION}"
        )
    file = fields["file"]
    model = ModelDefinition(
        ModelKind(fields["kind"]), None if file is None else Path(file), fields["entry_point"]
    )
    inputs, outputs = _specs(fields["inputs"]), _specs(fields["outputs"])
    return Hello(model, inputs, outputs, fields["threads"], fields["warmup_runs"])


def _ready(body: memoryview, memory: SharedMemory | None) -> Ready:
    fields = json.loads(bytes(body))
    inputs, outputs = _specs(fields["inputs"]), _specs(fields["outputs"])
    return Ready(fields["pid"], inputs, outputs, fields["load_s"], fields["run_s"])


def _infer(body: memoryview, memory: SharedMemory | None) -> Infer:
    number, hold_ns, started_ns, tensors = _INFER.unpack_from(body)
    return Infer(number, hold_ns, started_ns, _tensors(body, _INFER.size, tensors, memory))


def _result(body: memoryview, memory: SharedMemory | None) -> Result:
    number, input_ns, infer_ns, held_ns, tensors = _RESULT.unpack_from(body)
    found = _tensors(body, _RESULT.size, tensors, memory)
    return Result(number, input_ns, infer_ns, held_ns, found)


def _failure(body: memoryview, memory: SharedMemory | None) -> Failure:
    number, bad_input = _FAILURE.unpack_from(body)
    return Failure(number, bad_input, bytes(body[_FAILURE.size :]).decode())


_DECODERS: dict[int, Callable[[memoryview, SharedMemory | None], Message]] = {
    Kind.HELLO: _hello,
    Kind.READY: _ready,
    Kind.INFER: _infer,
    Kind.RESULT: _result,
    Kind.FAILURE: _failure,
    Kind.PING: lambda body, memory: Ping(_STAMP.unpack(body)[0]),
    Kind.PONG: lambda body, memory: Pong(_STAMP.unpack(body)[0]),
    Kind.STOP: lambda body, memory: Stop(),
}
