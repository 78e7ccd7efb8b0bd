"""SharedMemory: memory that server and instance both see, for tensors too large for the socket.

Measured on two cores, Python to Python and back, with n bytes each way, us (socket / shared memory):
4 KiB 12 / 10, 16 KiB 12 / 13, 64 KiB 22 / 12, 256 KiB 61 / 23, 1 MiB 355 / 217, 4 MiB 4004 / 751,
16 MiB 10599 / 4413. A larger socket buffer helped little (1 MiB 246, 4 MiB 2436). So small tensors stay in
the frame, where they cost one call with the rest, and large ones go here.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys

from clover_rl.errors import ServingError

__all__ = ["SHARED_BYTES", "SharedMemory"]

SHARED_BYTES = 64 * 1024
"""Tensors from this size on travel through shared memory."""

_ALIGNMENT = 64
_GROWTH = 1 << 20


class SharedMemory:
    """One direction of traffic: one side writes, the other reads, and never both at once.

    What keeps them apart is that an instance has one request at a time: the server writes the next request
    only when the last answer is there, and the instance writes an answer only when the last was copied.

    Args:
        descriptor: of the memory; it belongs to this object from now on.
        copies: whether what is read is copied out, so that it stays valid when the other side writes again.
    """

    def __init__(self, descriptor: int, *, copies: bool) -> None:
        self.descriptor = descriptor
        self._copies = copies
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._next = 0

    @classmethod
    def create(cls, *, copies: bool) -> SharedMemory | None:
        """Memory of its own, empty as yet; None where the system has no such thing."""
        if sys.platform != "linux":
            return None
        descriptor = os.memfd_create("clover-rl", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Nobody can make it smaller: to read what was cut off would end the reader's process.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(descriptor, copies=copies)

    @property
    def size(self) -> int:
        """Bytes that it holds now; it only grows."""
        return len(self._view)

    def restart(self) -> None:
        """Begin a message: what was written before may be overwritten."""
        self._next = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Copy data into it and return where it begins."""
        start, size = self._next, len(data)
        if start + size > len(self._view):
            wanted = -(-(start + size) // _GROWTH) * _GROWTH
            os.ftruncate(self.descriptor, max(wanted, os.fstat(self.descriptor).st_size))
            self._see()
        self._view[start : start + size] = data
        self._next = -(-(start + size) // _ALIGNMENT) * _ALIGNMENT
        return start

    def read(self, start: int, size: int) -> bytes | memoryview:
        """What the other side wrote there.

        Raises:
            ServingError: it is not that large.
        """
        if start + size > len(self._view):
            self._see()
            if start + size > len(self._view):
                raise ServingError("a tensor is said to lie beyond the shared memory")
        found = self._view[start : start + size]
        return bytes(found) if self._copies else found

    def close(self) -> None:
        """Give it back; views of it that are still held stay valid."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._view, self._map = memoryview(b""), None

    def _see(self) -> None:
        """Look at all of it; the older view goes when nobody uses it any more."""
        size = os.fstat(self.descriptor).st_size
        if size > len(self._view):
            self._map = mmap.mmap(self.descriptor, size)
            self._view = memoryview(self._map)
