"""Channel: frames of any size cross a socket whole, by the socket or by shared memory."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from clover_rl.serving.instances.channel import Channel
from clover_rl.serving.worker import messages
from clover_rl.serving.worker.messages import Infer, Tensor
from clover_rl.serving.worker.shared_memory import SHARED_BYTES, SharedMemory
from tests.serving.processes import until


@pytest.mark.parametrize("shared", [False, True])
def test_large_and_small_messages_cross_a_channel_whole(shared: bool) -> None:
    rng = np.random.default_rng(3)
    blocks = [rng.bytes(size) for size in (0, 1, 65_500, 65_536, 70_000, 3_000_000, 17)]

    async def run() -> None:
        ours, theirs = socket.socketpair()
        received: list[messages.Message] = []
        closed = asyncio.Event()
        memory = SharedMemory.create(copies=True) if shared else None
        left = Channel(ours, received.append, closed.set, outgoing=memory)
        right = Channel(theirs, received.append, closed.set, incoming=memory)
        for number, block in enumerate(blocks, start=1):
            left.send(Infer(number, 5, 6, [Tensor((1, len(block)), block), Tensor((), b"abcd")]))
            if shared:  # one message at a time, as there is one request at a time
                await until(lambda n=number: len(received) == n)  # type: ignore[misc]
        await until(lambda: len(received) == len(blocks))
        if memory is not None:
            assert SHARED_BYTES < memory.size < 4_000_000
        assert [bytes(m.tensors[0].data) for m in received if isinstance(m, Infer)] == blocks
        right.close()
        await asyncio.wait_for(closed.wait(), 5)
        assert left.closed
        left.send(messages.Stop())

    asyncio.run(run())
