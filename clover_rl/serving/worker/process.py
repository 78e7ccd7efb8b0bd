"""Worker: the process of one instance: one ONNX model, one request at a time, each held for its device time.

Started by `clover_rl.serving.instances`, never by hand. It imports NumPy and ONNX Runtime and nothing else of
weight. It never outlives its server: it ends when its socket closes, and on Linux the kernel ends it when its
parent dies.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import CloverError, InputError, ServingError
from clover_rl.serving.worker.messages import (
    HEADER_BYTES,
    Buffer,
    Failure,
    Hello,
    Infer,
    Message,
    Ping,
    Pong,
    Ready,
    Result,
    Stop,
    Tensor,
    decode,
    frame_size,
)
from clover_rl.serving.worker.tensors import DATATYPES, decode_bytes, encode_bytes

__all__ = ["BlockingChannel", "Model", "main", "serve"]

_ONNX_DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29


class BlockingChannel:
    """Frames over a connected stream socket, for the side that waits.

    Args:
        connection: the socket; it belongs to the channel from now on.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setblocking(True)

    def send(self, message: Message) -> None:
        """Send one message. Raises OSError when the peer has gone."""
        pending = [memoryview(part).cast("B") for part in message.frames()]
        while pending:
            sent = self._socket.sendmsg(pending)
            while pending and sent >= len(pending[0]):
                sent -= len(pending.pop(0))
            if sent:
                pending[0] = pending[0][sent:]

    def receive(self) -> Message | None:
        """The next message, its tensors views of memory of their own; None when the peer has gone.

        Raises:
            MessageError: the bytes are no frame.
        """
        header = self._read(bytearray(HEADER_BYTES))
        if header is None:
            return None
        frame = bytearray(frame_size(header))
        frame[:HEADER_BYTES] = header
        if self._read(memoryview(frame)[HEADER_BYTES:]) is None:
            return None
        return decode(frame)

    def _read(self, target: bytearray | memoryview) -> bytearray | memoryview | None:
        view = memoryview(target)
        while view:
            try:
                received = self._socket.recv_into(view)
            except ConnectionResetError:
                return None
            if not received:
                return None
            view = view[received:]
        return target


class Model:
    """An ONNX model on the CPU.

    Args:
        path: the ONNX file.
        threads: CPU threads of one inference.

    Raises:
        ServingError: the file cannot be loaded, or has a tensor of a type that the protocol does not know.
    """

    def __init__(self, path: str, threads: int = 1) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (
            Exception
        ) as error:  # ONNX Runtime raises a class of its own for each cause; its texts hold paths
            raise ServingError(f"ONNX Runtime cannot load the model ({type(error).__name__})") from error
        self.inputs = tuple(_info(node) for node in self._session.get_inputs())
        self.outputs = tuple(_info(node) for node in self._session.get_outputs())
        self._input_names = [info.name for info in self.inputs]
        self._output_names = [info.name for info in self.outputs]

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Answer one request.

        Args:
            tensors: one per input, in order.

        Returns:
            One per output, in order.

        Raises:
            InputError: number, shape or size of the tensors do not fit the model.
        """
        if len(tensors) != len(self.inputs):
            raise InputError(f"the model takes {len(self.inputs)} inputs, got {len(tensors)}")
        feeds = {info.name: _array(info, tensor) for info, tensor in zip(self.inputs, tensors, strict=True)}
        try:
            outputs = self._session.run(self._output_names, feeds)
        except Exception as error:
            raise InputError(f"the model cannot take this input ({type(error).__name__})") from error
        return [_tensor(info, array) for info, array in zip(self.outputs, outputs, strict=True)]

    def blank(self) -> list[Tensor]:
        """Inputs of zeros, every free dimension 1, for warming up."""
        tensors = []
        for info in self.inputs:
            shape = tuple(max(size, 1) for size in info.shape)
            elements = int(np.prod(shape, dtype=np.int64))
            tensors.append(Tensor(shape, bytes(elements * (DATATYPES[info.datatype].size or 4))))
        return tensors


def serve(channel: BlockingChannel) -> int:
    """Serve one server until it says Stop or goes away; returns the exit status."""
    hello = channel.receive()
    if not isinstance(hello, Hello):
        return 0 if hello is None else 2
    began = time.monotonic()
    try:
        model = Model(hello.model, hello.threads)
        run_s = 0.0
        for _ in range(hello.warmup_runs):
            started = time.monotonic()
            model.run(model.blank())
            run_s = time.monotonic() - started
    except CloverError as error:
        channel.send(Failure(0, False, error.what))
        return 1
    channel.send(Ready(os.getpid(), model.inputs, model.outputs, time.monotonic() - began, run_s))
    while True:
        message = channel.receive()
        match message:
            case Infer():
                channel.send(_answer(model, message))
            case Ping(stamp):
                channel.send(Pong(stamp))
            case Stop() | None:
                return 0
            case _:
                return 2


def _answer(model: Model, request: Infer) -> Result | Failure:
    read_ns = time.monotonic_ns()
    try:
        outputs = model.run(request.tensors)
    except InputError as error:
        return Failure(request.number, True, error.what)
    done_ns = time.monotonic_ns()
    # The device time counts from the hand-over, so that the hop into this process is no service time on top.
    rest_ns = min(request.started_ns, read_ns) + request.hold_ns - done_ns
    if rest_ns > 0:
        time.sleep(rest_ns / 1e9)
    held_ns = time.monotonic_ns() - done_ns
    input_ns = max(read_ns - request.started_ns, 0)
    return Result(request.number, input_ns, done_ns - read_ns, held_ns, outputs)


def _info(node: Any) -> TensorSpec:
    datatype = _ONNX_DATATYPES.get(node.type.removeprefix("tensor(").removesuffix(")"))
    if datatype is None:
        raise ServingError(f"the model's tensor {node.name!r} has type {node.type}, which no client can send")
    return TensorSpec(
        node.name, datatype, tuple(size if isinstance(size, int) else -1 for size in node.shape)
    )


def _array(info: TensorSpec, tensor: Tensor) -> Any:
    dtype = DATATYPES[info.datatype].numpy
    try:
        if dtype is None:
            elements = [element.decode() for element in decode_bytes(tensor.data)]
            return np.array(elements, dtype=object).reshape(tensor.shape)
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    except (ValueError, InputError) as error:
        raise InputError(f"input '{info.name}' does not fit shape {list(tensor.shape)}") from error


def _tensor(info: TensorSpec, array: Any) -> Tensor:
    dtype = DATATYPES[info.datatype].numpy
    data: Buffer
    if dtype is None:
        data = encode_bytes([str(element).encode() for element in array.ravel()])
    else:
        contiguous: Any = np.ascontiguousarray(array, dtype)
        data = memoryview(contiguous).cast("B") if contiguous.size else b""
    return Tensor(tuple(array.shape), data)


def _bind_to_parent(parent: int) -> bool:
    """Die with the parent, on Linux; False when it has died already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # the default lets every sleep end 50 microseconds late
    return os.getppid() == parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="clover_rl.serving.worker", description="the process of one instance"
    )
    parser.add_argument("--fd", type=int, required=True, help="connected socket, inherited from the server")
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    options = parser.parse_args(arguments)
    if not _bind_to_parent(options.parent):
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when its instances end
    try:
        return serve(BlockingChannel(socket.socket(fileno=options.fd)))
    except OSError:
        return 0  # the server went away in the middle of an answer
