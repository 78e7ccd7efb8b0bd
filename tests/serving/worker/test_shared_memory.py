"""Shared memory: grows for what is written, and nobody can pull it away from a reader."""

from __future__ import annotations

import os

import pytest

from clover_rl.errors import ServingError
from clover_rl.serving.worker.shared_memory import SharedMemory

MIB = 1 << 20


def pair(*, copies: bool = False) -> tuple[SharedMemory, SharedMemory]:
    """The writer's end and the reader's."""
    writer = SharedMemory.create(copies=False)
    if writer is None:
        pytest.skip("this system has no shared memory of this kind")
    return writer, SharedMemory(os.dup(writer.descriptor), copies=copies)


def test_what_is_written_is_read_at_its_place() -> None:
    writer, reader = pair()
    blocks = [b"a" * 3, b"b" * MIB, b"", b"c" * 100]
    places = [writer.write(block) for block in blocks]
    assert [
        bytes(reader.read(place, len(block))) for place, block in zip(places, blocks, strict=True)
    ] == blocks
    assert all(place % 64 == 0 for place in places)
    writer.restart()
    assert writer.write(b"d") == 0
    assert bytes(reader.read(0, 1)) == b"d"
    writer.close()
    reader.close()


def test_it_grows_under_a_reader_whose_views_stay_valid() -> None:
    writer, reader = pair()
    small = reader.read(writer.write(b"x" * 1000), 1000)
    writer.restart()
    writer.write(b"y" * 1000)
    place = writer.write(bytes(5 * MIB))
    assert len(reader.read(place, 5 * MIB)) == 5 * MIB
    assert bytes(small) == b"y" * 1000  # the same memory, seen through the older view
    writer.close()
    reader.close()
    assert bytes(small) == b"y" * 1000


def test_a_copying_reader_keeps_what_it_read() -> None:
    writer, reader = pair(copies=True)
    kept = reader.read(writer.write(b"first"), 5)
    writer.restart()
    writer.write(b"other")
    assert kept == b"first"
    writer.close()
    reader.close()


def test_a_place_beyond_its_end_is_refused() -> None:
    writer, reader = pair()
    writer.write(b"x")
    with pytest.raises(ServingError, match="beyond the shared memory"):
        reader.read(MIB, 1)
    writer.close()
    reader.close()


def test_nobody_can_make_it_smaller() -> None:
    writer, reader = pair()
    writer.write(bytes(2 * MIB))
    with pytest.raises(PermissionError):
        os.ftruncate(reader.descriptor, 0)
    writer.close()
    reader.close()
