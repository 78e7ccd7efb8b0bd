"""Instance: one variant on one slice, a process of its own, seen from the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import clover_rl.serving as room
from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError
from clover_rl.serving.instances.channel import Channel
from clover_rl.serving.worker.messages import (
    Failure,
    Hello,
    Infer,
    Message,
    Outcome,
    Ping,
    Pong,
    Ready,
    Result,
    Stop,
    Tensor,
)
from clover_rl.serving.worker.shared_memory import SharedMemory
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["Instance"]

_PACKAGE_ROOT = Path(room.__file__).resolve().parents[2]
_EXIT_POLL_S = 0.002


class Instance:
    """The process of one instance.

    Args:
        key: its name.
        spec: what it is to be.
        on_death: called once when it ends without having been told to, after its request got None; whoever
            made it calls `kill` then, which waits until the process is gone.
        inputs, outputs: the application's signature, for models that have none of their own.
    """

    def __init__(
        self,
        key: str,
        spec: InstanceSpec,
        on_death: Callable[[Instance], None],
        *,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
    ) -> None:
        self.key = key
        self.spec = spec
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self.ready: Ready | None = None
        self.started_s = 0.0
        self.last_heard_s = 0.0
        self._on_death = on_death
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._memory: list[SharedMemory] = []
        self._first: asyncio.Future[Ready] | None = None
        self._done: Callable[[Outcome], None] | None = None
        self._number = 0
        self._busy_until_s = 0.0
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Its process id; None before it was started."""
        return self._process.pid if self._process else None

    @property
    def busy(self) -> bool:
        """Whether it has a request."""
        return self._done is not None

    @property
    def alive(self) -> bool:
        """Whether its process can be spoken to."""
        return self._channel is not None and not self._channel.closed

    @property
    def exited(self) -> bool:
        """Whether its process has ended, also before its channel says so."""
        return self._process is not None and self._process.poll() is not None

    async def start(self, timeout_s: float = 60.0) -> Ready:
        """Start the process and wait until its model is loaded and warm.

        Raises:
            ServingError: it cannot load the model, ended, or took too long; no process is left then.
        """
        loop = asyncio.get_running_loop()
        ours, requests, answers = self._begin()
        self.started_s = self.last_heard_s = time.monotonic()
        self._first = loop.create_future()
        self._channel = Channel(ours, self._on_message, self._on_end, incoming=answers, outgoing=requests)
        self._channel.send(Hello(self.spec.model, self._inputs, self._outputs, self.spec.threads))
        try:
            self.ready = await asyncio.wait_for(self._first, timeout_s)
        except TimeoutError:
            await self.kill()
            raise ServingError(f"was not ready after {timeout_s:g} s", where=f"instance {self.key}") from None
        except BaseException:
            await self.kill()
            raise
        return self.ready

    def _begin(self) -> tuple[socket.socket, SharedMemory | None, SharedMemory | None]:
        """Start the process; our end of its socket, and the memory of requests and of answers.

        Raises:
            ServingError: this machine has not what it takes (descriptors, memory, processes).
        """
        with contextlib.ExitStack() as undone:
            try:
                ours, theirs = socket.socketpair()
                undone.callback(ours.close)
                with theirs:
                    requests, answers = SharedMemory.create(copies=False), SharedMemory.create(copies=True)
                    self._memory = [memory for memory in (requests, answers) if memory is not None]
                    for memory in self._memory:
                        undone.callback(memory.close)
                    descriptors = [memory.descriptor for memory in self._memory]
                    # From the event loop's thread: the kernel ends the process when the thread that made it
                    # ends.
                    self._process = subprocess.Popen(
                        [
                            *(sys.executable, "-P", "-m", "clover_rl.serving.worker"),
                            *("--fd", str(theirs.fileno()), "--parent", str(os.getpid())),
                            *(("--memory", *map(str, descriptors)) if descriptors else ()),
                        ],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno(), *descriptors],
                        start_new_session=True,  # Ctrl-C is the server's to handle; it drains first
                        env=self._environment(),
                    )
            except OSError as error:
                raise ServingError(
                    f"cannot be started ({error.strerror})", where=f"instance {self.key}"
                ) from error
            undone.pop_all()
        return ours, requests, answers

    def infer(self, tensors: Sequence[Tensor], hold_s: float, done: Callable[[Outcome], None]) -> None:
        """Hand over one request; `done` is called once, never from within this call.

        Raises:
            ServingError: it has a request already.
        """
        if self._done is not None:
            raise ServingError("has a request already", where=f"instance {self.key}")
        self._number += 1
        self._done = done
        now_ns = time.monotonic_ns()
        self._busy_until_s = now_ns / 1e9 + hold_s
        if self._channel is None or self._channel.closed:
            asyncio.get_running_loop().call_soon(self._finish, None)
            return
        self._channel.send(Infer(self._number, int(hold_s * 1e9), now_ns, tensors))

    def ping(self) -> None:
        """Ask for a sign of life; see `last_heard_s`."""
        if self._channel is not None:
            self._channel.send(Ping(time.monotonic_ns()))

    @property
    def overdue(self) -> bool:
        """Whether it has a request that should have been answered by now."""
        return self.busy and time.monotonic() > self._busy_until_s

    async def stop(self, grace_s: float = 2.0) -> None:
        """Ask the process to end, and end it if it does not within `grace_s`."""
        self._stopping = True
        if self._channel is not None:
            self._channel.send(Stop())
        await self._gone(grace_s)
        await self.kill()

    async def kill(self) -> None:
        """End the process now; a request that it has gets None."""
        self._fail("was stopped before it was ready")
        self._stopping = True
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            await self._gone(10.0)
        for memory in self._memory:
            memory.close()
        self._finish(None)

    def crash(self) -> None:
        """End a process that no longer answers; its death is then noticed as any other."""
        if self._process is not None:
            self._process.kill()

    async def _gone(self, within_s: float) -> bool:
        assert self._process is not None
        end = time.monotonic() + within_s
        while self._process.poll() is None:
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(_EXIT_POLL_S)
        return True

    def _environment(self) -> dict[str, str]:
        inherited = os.environ.get("PYTHONPATH")
        paths = [str(_PACKAGE_ROOT), *([inherited] if inherited else [])]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return {**os.environ, **threads, **self.spec.environment, "PYTHONPATH": os.pathsep.join(paths)}

    def _on_message(self, message: Message) -> None:
        self.last_heard_s = time.monotonic()
        match message:
            case Result(number=number) | Failure(number=number) if number == self._number and number:
                self._finish(message)
            case Ready():
                if self._first is not None and not self._first.done():
                    self._first.set_result(message)
            case Failure(number=0):
                self._fail(message.reason)
            case Pong():
                pass
            case _:
                self.crash()  # another version, or confused: nothing it says can be trusted

    def _on_end(self) -> None:
        self._fail("ended before it was ready")
        self.crash()
        self._finish(None)
        if not self._stopping:
            self._stopping = True
            self._on_death(self)

    def _fail(self, reason: str) -> None:
        if self._first is not None and not self._first.done():
            self._stopping = True
            self._first.set_exception(ServingError(reason, where=f"instance {self.key}"))

    def _finish(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)
