"""Channel: frames over a connected socket for the side that never waits."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from clover_rl.serving.worker.messages import HEADER_BYTES, Buffer, Message, MessageError, decode, frame_size
from clover_rl.serving.worker.shared_memory import SharedMemory

__all__ = ["Channel"]

_BUFFER_BYTES = 64 * 1024


class Channel:
    """Sends at once what the socket takes, hands over each message that arrives.

    A small message is copied once out of a buffer that is used again; a large one goes straight into memory
    of its own. Tensors of a received message are views that stay valid.

    Args:
        connection: the socket; it belongs to the channel from now on.
        on_message: called with each message.
        on_close: called once, soon after the peer has gone or has sent what is no frame; not after `close`.
        incoming, outgoing: where large tensors lie; without it they travel by the socket.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_message: Callable[[Message], None],
        on_close: Callable[[], None],
        *,
        incoming: SharedMemory | None = None,
        outgoing: SharedMemory | None = None,
    ) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        connection.setblocking(False)
        self._socket = connection
        self._on_message = on_message
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._filled = 0
        self._large: memoryview | None = None
        self._large_filled = 0
        self._backlog: deque[memoryview] = deque()
        self._closed = False
        self._loop.add_reader(connection, self._readable)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closed

    def send(self, message: Message) -> None:
        """Send a message; when the peer has gone, `on_close` tells.

        Raises:
            MessageError: the message is larger than a frame may be.
        """
        if self._closed:
            return
        parts = message.frames(self._outgoing)
        sent = 0
        if not self._backlog:
            try:
                sent = self._socket.sendmsg(parts)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._lose()
                return
            if sent == sum(map(len, parts)):
                return
            self._loop.add_writer(self._socket, self._writable)
        self._backlog.extend(_rest(parts, sent))

    def close(self) -> None:
        """Close the socket; the peer sees its end."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._backlog.clear()
            self._socket.close()

    def _lose(self) -> None:
        if not self._closed:
            self.close()
            self._loop.call_soon(self._on_close)

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._backlog[0])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lose()
            return
        part = self._backlog.popleft()
        if sent < len(part):
            self._backlog.appendleft(part[sent:])
        if not self._backlog:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        target = self._buffer[self._filled :] if self._large is None else self._large[self._large_filled :]
        try:
            received = self._socket.recv_into(target)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            received = 0
        if not received:
            self._lose()
            return
        try:
            if self._large is None:
                self._filled += received
                self._take_small()
            else:
                self._large_filled += received
                if self._large_filled == len(self._large):
                    whole, self._large = self._large, None
                    self._on_message(decode(whole, self._incoming))
        except MessageError:
            self._lose()

    def _take_small(self) -> None:
        start = 0
        while self._filled - start >= HEADER_BYTES and not self._closed:
            size = frame_size(self._buffer[start : start + HEADER_BYTES])
            if size > len(self._buffer):
                self._large = memoryview(bytearray(size))
                self._large_filled = self._filled - start
                self._large[: self._large_filled] = self._buffer[start : self._filled]
                start = self._filled
                break
            if self._filled - start < size:
                break
            frame = bytes(self._buffer[start : start + size])
            start += size
            self._on_message(decode(frame, self._incoming))
        rest = self._filled - start
        if start and rest:
            self._buffer[:rest] = bytes(self._buffer[start : self._filled])
        self._filled = rest


def _rest(parts: Sequence[Buffer], sent: int) -> Iterator[memoryview]:
    """What of the parts is left after so many bytes."""
    for part in parts:
        if sent < len(part):
            yield memoryview(part)[sent:]
        sent = max(sent - len(part), 0)
