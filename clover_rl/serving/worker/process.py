"""Worker: the process of one instance: one model, one request at a time, each held for its device time.

Started by `clover_rl.serving.instances`, never by hand. It imports NumPy and what its model needs, nothing
else of weight. It never outlives its server: it ends when its socket closes, and on Linux the kernel ends it
when its parent dies.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence

from clover_rl.errors import CloverError, InputError
from clover_rl.serving.worker.arrays import blank_inputs
from clover_rl.serving.worker.blocking_channel import BlockingChannel
from clover_rl.serving.worker.messages import (
    Failure,
    Hello,
    Infer,
    Ping,
    Pong,
    Ready,
    Result,
    Stop,
)
from clover_rl.serving.worker.model import DeviceLostError, Model, load_model
from clover_rl.serving.worker.shared_memory import SharedMemory

__all__ = ["main", "serve"]

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29


class _Troubles:
    """Tracebacks of models that failed, on the server's standard error; one a second at most."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def tell(self, error: Exception) -> None:
        if (now_s := time.monotonic()) >= self._next_s:
            self._next_s = now_s + 1.0
            traceback.print_exception(error)


_TROUBLES = _Troubles()


def serve(channel: BlockingChannel) -> int:
    """Serve one server until it says Stop or goes away; returns the exit status."""
    hello = channel.receive()
    if not isinstance(hello, Hello):
        return 0 if hello is None else 2
    began = time.monotonic()
    try:
        model = load_model(hello.model, hello.inputs, hello.outputs, hello.threads)
        run_s = 0.0
        for _ in range(hello.warmup_runs):
            started = time.monotonic()
            model.run(blank_inputs(model.inputs))
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
    except DeviceLostError:
        raise
    except InputError as error:
        return Failure(request.number, True, error.what)
    except Exception as error:  # a model's own code; the process can go on
        _TROUBLES.tell(error)
        what = error.what if isinstance(error, CloverError) else f"the model failed ({type(error).__name__})"
        return Failure(request.number, False, what)
    done_ns = time.monotonic_ns()
    # The device time counts from the hand-over, so that the hop into this process is no service time on top.
    rest_ns = min(request.started_ns, read_ns) + request.hold_ns - done_ns
    if rest_ns > 0:
        time.sleep(rest_ns / 1e9)
    held_ns = time.monotonic_ns() - done_ns
    input_ns = max(read_ns - request.started_ns, 0)
    return Result(request.number, input_ns, done_ns - read_ns, held_ns, outputs)


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
    parser.add_argument("--memory", type=int, nargs=2, help="shared memory of requests, of answers")
    options = parser.parse_args(arguments)
    if not _bind_to_parent(options.parent):
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when its instances end
    try:
        incoming, outgoing = (
            [SharedMemory(descriptor, copies=False) for descriptor in options.memory]
            if options.memory
            else (None, None)
        )
        connection = socket.socket(fileno=options.fd)
        return serve(BlockingChannel(connection, incoming=incoming, outgoing=outgoing))
    except OSError:
        return 0  # the server went away in the middle of an answer
