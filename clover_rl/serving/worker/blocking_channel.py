"""BlockingChannel: frames over a connected socket for the side that waits, an instance's process."""

from __future__ import annotations

import socket

from clover_rl.serving.worker.messages import HEADER_BYTES, Message, decode, frame_size
from clover_rl.serving.worker.shared_memory import SharedMemory

__all__ = ["BlockingChannel"]

_BUFFER_BYTES = 64 * 1024


class BlockingChannel:
    """Frames over a connected stream socket, for the side that waits.

    What arrives is read into a buffer that is used again, so that a small message costs one call; a large one
    goes straight into memory of its own.

    Args:
        connection: the socket; it belongs to the channel from now on.
        incoming, outgoing: where large tensors lie; without it they travel by the socket.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        incoming: SharedMemory | None = None,
        outgoing: SharedMemory | None = None,
    ) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._socket = connection
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._from = self._to = 0
        connection.setblocking(True)

    def send(self, message: Message) -> None:
        """Send one message. Raises OSError when the peer has gone."""
        pending = message.frames(self._outgoing)
        sent = self._socket.sendmsg(pending)
        while True:
            while pending and sent >= len(pending[0]):
                sent -= len(pending.pop(0))
            if not pending:
                return
            pending[0] = memoryview(pending[0])[sent:]
            sent = self._socket.sendmsg(pending)

    def receive(self) -> Message | None:
        """The next message, its tensors valid until the next one is asked for; None when the peer has gone.

        Raises:
            MessageError: the bytes are no frame.
        """
        if not self._fill(HEADER_BYTES):
            return None
        size = frame_size(self._buffer[self._from : self._to])
        if size <= len(self._buffer):
            if not self._fill(size):
                return None
            frame = bytes(self._buffer[self._from : self._from + size])
            self._from += size
            return decode(frame, self._incoming)
        large = memoryview(bytearray(size))
        filled = self._to - self._from
        large[:filled] = self._buffer[self._from : self._to]
        self._from = self._to = 0
        while filled < size:
            received = self._read(large[filled:])
            if not received:
                return None
            filled += received
        return decode(large, self._incoming)

    def _fill(self, size: int) -> bool:
        """Have so many bytes in the buffer; False when the peer has gone."""
        if self._from == self._to:
            self._from = self._to = 0
        elif self._from + size > len(self._buffer):
            rest = bytes(self._buffer[self._from : self._to])
            self._buffer[: len(rest)] = rest
            self._from, self._to = 0, len(rest)
        while self._to - self._from < size:
            received = self._read(self._buffer[self._to :])
            if not received:
                return False
            self._to += received
        return True

    def _read(self, target: memoryview) -> int:
        try:
            return self._socket.recv_into(target)
        except ConnectionResetError:
            return 0
