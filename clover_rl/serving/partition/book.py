"""SliceBook: which slices there are, by MIG's rules, where no hardware keeps them."""

from __future__ import annotations

import asyncio

from clover_rl.cluster.geometry import Layout, Placement
from clover_rl.cluster.gpu import GpuModel
from clover_rl.errors import InputError, TransitionError
from clover_rl.serving.partition.base import DeviceState, Slice

__all__ = ["SliceBook"]


class SliceBook:
    """Slices of GPUs of one model; one GPU is changed by one caller at a time.

    Args:
        gpus: how many GPUs.
        model: their model, whose geometry is kept.
        backend: whose book it is, for errors.
    """

    def __init__(self, gpus: int, model: GpuModel, backend: str) -> None:
        self._model, self._backend = model, backend
        self._slices: list[dict[Placement, Slice]] = [{} for _ in range(gpus)]
        self._locks = [asyncio.Lock() for _ in range(gpus)]

    def state(self) -> tuple[DeviceState, ...]:
        """What there is now, by GPU."""
        return tuple(
            DeviceState(gpu, self._model.name, tuple(slices[place] for place in sorted(slices)))
            for gpu, slices in enumerate(self._slices)
        )

    async def enter(self, gpu: int, placement: Placement, wait_s: float = 0.0) -> Slice:
        """Make a slice, after a wait if it is new.

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
                await asyncio.sleep(wait_s)
                slices[placement] = Slice(gpu, placement, f"gpu{gpu}/{placement}")
            return slices[placement]

    async def remove(self, target: Slice, wait_s: float = 0.0) -> None:
        """Remove a slice, after a wait if it exists.

        Raises:
            TransitionError: there is no such GPU.
        """
        slices = self._on(target.gpu)
        async with self._locks[target.gpu]:
            if target.placement in slices:
                await asyncio.sleep(wait_s)
                del slices[target.placement]

    def _on(self, gpu: int) -> dict[Placement, Slice]:
        if not 0 <= gpu < len(self._slices):
            raise TransitionError(
                f"there is no GPU {gpu}",
                where=f"{self._backend} backend",
                fix=f"use 0 to {len(self._slices) - 1}",
            )
        return self._slices[gpu]
