"""EmulatedPartition: the books of slices on GPUs that are not there, and the times of real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from clover_rl.cluster.geometry import Layout, Placement
from clover_rl.cluster.gpu import GpuModel
from clover_rl.cluster.profile import TransitionTimes
from clover_rl.errors import InputError, TransitionError
from clover_rl.serving.partition.base import DeviceState, Slice

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
        self._model = model
        self._create_s = times.create_s * time_factor
        self._destroy_s = times.destroy_s * time_factor
        self._slices: list[dict[Placement, Slice]] = [{} for _ in range(gpus)]
        self._locks = [asyncio.Lock() for _ in range(gpus)]

    async def discover(self) -> tuple[DeviceState, ...]:
        """What there is now, by GPU."""
        return tuple(
            DeviceState(gpu, self._model.name, tuple(slices[place] for place in sorted(slices)))
            for gpu, slices in enumerate(self._slices)
        )

    async def create(self, gpu: int, placement: Placement) -> Slice:
        """Make a slice; one GPU makes one at a time.

        Raises:
            TransitionError: there is no such GPU, or no room for the slice beside those that exist.
        """
        slices = self._on(gpu)
        async with self._locks[gpu]:
            if placement not in slices:
                try:
                    Layout.of(self._model, [*slices, placement])
                except InputError as error:
                    raise TransitionError(
                        error.what, where=f"gpu{gpu}", fix="destroy what is in the way"
                    ) from error
                await asyncio.sleep(self._create_s)
                slices[placement] = Slice(gpu, placement, f"gpu{gpu}/{placement}")
            return slices[placement]

    async def destroy(self, target: Slice) -> None:
        """Remove a slice.

        Raises:
            TransitionError: there is no such GPU.
        """
        slices = self._on(target.gpu)
        async with self._locks[target.gpu]:
            if target.placement in slices:
                await asyncio.sleep(self._destroy_s)
                del slices[target.placement]

    def environment(self, target: Slice) -> Mapping[str, str]:
        """The slice's name, and no GPU: an emulated instance must not touch a real one."""
        return {"CLOVER_RL_SLICE": target.device, "CUDA_VISIBLE_DEVICES": ""}

    def _on(self, gpu: int) -> dict[Placement, Slice]:
        if not 0 <= gpu < len(self._slices):
            raise TransitionError(
                f"there is no GPU {gpu}", where="emulated backend", fix=f"use 0 to {len(self._slices) - 1}"
            )
        return self._slices[gpu]
