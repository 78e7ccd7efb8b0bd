"""DryCard: a card whose changes are told instead of made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clover_rl.serving.partition.mig_card import Card, GpuInstance

__all__ = ["DryCard"]

FIRST_ID = 1000
"""Ids of instances that were never made begin here, well above those of a card."""


class DryCard:
    """Stands before a card: reads go through, changes are kept in books of its own.

    Args:
        card: the real one; only read.
        gpu: its number in the cluster.
        tell: given each call that would have been made.
    """

    def __init__(self, card: Card, gpu: int, tell: Callable[[str], None]) -> None:
        self.name, self.model, self.profiles = card.name, card.model, card.profiles
        self._card, self._gpu, self._tell = card, gpu, tell
        self._books: dict[int, GpuInstance] = {item.id: item for item in card.instances()}
        self._next = FIRST_ID

    def instances(self) -> tuple[GpuInstance, ...]:
        """The GPU instances that there would be now, by start."""
        return tuple(sorted(self._books.values(), key=lambda item: item.start))

    def create_gpu_instance(self, profile: int, start: int, size: int) -> int:
        """Tell of a GPU instance; returns an id for it."""
        made, self._next = self._next, self._next + 1
        self._say(f"nvmlDeviceCreateGpuInstanceWithPlacement profile={profile} start={start} size={size}")
        self._books[made] = GpuInstance(made, profile, start, size, (), whole=False)
        return made

    def create_compute_instance(self, gpu_instance: int) -> int:
        """Tell of a compute instance."""
        self._say(f"nvmlGpuInstanceCreateComputeInstance on {self._named(gpu_instance)}, all of it")
        self._books[gpu_instance] = replace(self._books[gpu_instance], compute=(0,), whole=True)
        return 0

    def destroy_compute_instance(self, gpu_instance: int, compute_instance: int) -> None:
        """Tell of a compute instance's end."""
        self._say(f"nvmlComputeInstanceDestroy {compute_instance} of {self._named(gpu_instance)}")
        item = self._books[gpu_instance]
        left = tuple(number for number in item.compute if number != compute_instance)
        self._books[gpu_instance] = replace(item, compute=left, whole=False)

    def destroy_gpu_instance(self, gpu_instance: int) -> None:
        """Tell of a GPU instance's end."""
        self._say(f"nvmlGpuInstanceDestroy {self._named(gpu_instance)}")
        del self._books[gpu_instance]

    def uuid(self, gpu_instance: int, compute_instance: int) -> str:
        """The real UUID of a device that exists; a placeholder for one that does not."""
        if gpu_instance >= FIRST_ID:
            return f"MIG-(of {self._named(gpu_instance)})"
        return self._card.uuid(gpu_instance, compute_instance)

    def _named(self, gpu_instance: int) -> str:
        item = self._books[gpu_instance]
        return f"GPU instance profile={item.profile} start={item.start}"

    def _say(self, text: str) -> None:
        self._tell(f"gpu{self._gpu}: {text}")
