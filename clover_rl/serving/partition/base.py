"""PartitionBackend: who cuts GPUs into slices, and tells a process how to see only its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from clover_rl.cluster.geometry import Placement

__all__ = ["DeviceState", "PartitionBackend", "Slice"]


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice that exists.

    Attributes:
        gpu: index of its GPU.
        placement: where it lies.
        device: the backend's name for it, as a process must be told it.
    """

    gpu: int
    placement: Placement
    device: str

    def __str__(self) -> str:
        return f"gpu{self.gpu}/{self.placement}"


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A GPU and the slices it has now.

    Attributes:
        gpu: its index.
        model: name of its GPU model.
        slices: by start.
    """

    gpu: int
    model: str
    slices: tuple[Slice, ...]


class PartitionBackend(Protocol):
    """Cuts GPUs into slices.

    Every operation may be repeated: to create what exists, or destroy what does not, changes nothing. So an
    interrupted transition is finished by running it again.
    """

    async def discover(self) -> tuple[DeviceState, ...]:
        """What there is now, by GPU."""
        ...

    async def create(self, gpu: int, placement: Placement) -> Slice:
        """Make a slice and return it when it can be used.

        Raises:
            TransitionError: there is no such GPU, or no room for the slice beside those that exist.
        """
        ...

    async def destroy(self, target: Slice) -> None:
        """Remove a slice. Nothing may run on it any more.

        Raises:
            TransitionError: there is no such GPU.
        """
        ...

    def environment(self, target: Slice) -> Mapping[str, str]:
        """Variables that make a process see this slice and no other."""
        ...
