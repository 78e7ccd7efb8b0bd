"""EmulatedPartition: the books of slices on GPUs that are not there, and the times of real ones."""

from __future__ import annotations

from collections.abc import Mapping

from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.gpu import GpuModel
from clover_rl.cluster.profile import TransitionTimes
from clover_rl.serving.partition.base import DeviceState, Slice
from clover_rl.serving.partition.book import SliceBook

__all__ = ["EmulatedPartition"]


class EmulatedPartition:
    """Slices by the rules and with the times of a GPU model.

    Args:
        gpus: how many GPUs.
        model: their model, whose geometry is kept.
        times: what creating and destroying a slice takes.
        time_factor: multiplies those times; 0 for none.
    """

    def __init__(
        self, gpus: int, model: GpuModel, times: TransitionTimes, *, time_factor: float = 1.0
    ) -> None:
        self._create_s = times.create_s * time_factor
        self._destroy_s = times.destroy_s * time_factor
        self._book = SliceBook(gpus, model, "emulated")

    async def discover(self) -> tuple[DeviceState, ...]:
        """What there is now, by GPU."""
        return self._book.state()

    async def create(self, gpu: int, placement: Placement) -> Slice:
        """Make a slice; one GPU makes one at a time.

        Raises:
            TransitionError: there is no such GPU, or no room for the slice beside those that exist.
        """
        return await self._book.enter(gpu, placement, self._create_s)

    async def destroy(self, target: Slice) -> None:
        """Remove a slice.

        Raises:
            TransitionError: there is no such GPU.
        """
        await self._book.remove(target, self._destroy_s)

    def environment(self, target: Slice) -> Mapping[str, str]:
        """The slice's name, and no GPU: an emulated instance must not touch a real one."""
        return {"CLOVER_RL_SLICE": target.device, "CUDA_VISIBLE_DEVICES": ""}
