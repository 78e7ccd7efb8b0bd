"""MigPartition: slices of real GPUs, cut by MIG through NVML."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from clover_rl.cluster.geometry import Layout, Placement
from clover_rl.cluster.gpu import GpuModel, SliceType
from clover_rl.errors import InputError, TransitionError
from clover_rl.serving.partition.base import DeviceState, Slice
from clover_rl.serving.partition.mig_card import Card, GpuInstance
from clover_rl.serving.partition.nvml_errors import IN_USE, NvmlFailure

__all__ = ["MigPartition"]

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0


class MigPartition:
    """Slices on the cards that it was given, and on no other.

    A slice is a GPU instance with one compute instance that takes all of it. What stands in the way of that
    is put in order before anything is made: a GPU instance without compute instance (a process died between
    the two calls) is removed, and so is a slice whose removal failed before. Calls on one card never overlap;
    cards do not wait for each other. What a driver holds for a moment (IN_USE) is tried again with longer and
    longer waits.

    Args:
        cards: by number of the GPU in the cluster.
        model: the geometry that configurations are made of.
        patience_s: how long a call that meets IN_USE is repeated, s.

    Raises:
        InputError: a card does not offer the model's slices where the model has them.
    """

    def __init__(self, cards: Sequence[Card], model: GpuModel, *, patience_s: float = 10.0) -> None:
        self._cards, self._model, self._patience_s = tuple(cards), model, patience_s
        self._locks = [threading.Lock() for _ in self._cards]
        self._unwanted: list[set[Placement]] = [set() for _ in self._cards]
        self._names = {kind.profile_id: kind.name for kind in model.slices.values()}
        for gpu, card in enumerate(self._cards):
            _require_geometry(card, model, f"gpu{gpu} ({card.name})")
            if card.model != model.name:
                log.warning(
                    "gpu%d is a %s, the profile is of %s: its times and energies hold for the latter only",
                    *(gpu, card.name, model.title),
                )

    # --- the backend's interface

    async def discover(self) -> tuple[DeviceState, ...]:
        """What there is now, by GPU; what is no slice of ours (see `recover`) is left out.

        Raises:
            TransitionError: a card cannot be asked.
        """
        return tuple(
            await asyncio.gather(*(asyncio.to_thread(self._discover, gpu) for gpu in range(len(self._cards))))
        )

    async def create(self, gpu: int, placement: Placement) -> Slice:
        """Make a slice, or adopt the one that is there.

        Raises:
            TransitionError: no such GPU, no room, or the driver refuses; nothing half made is left, or the
                message says that it is.
        """
        card = self._card(gpu)
        return await asyncio.to_thread(self._create, gpu, card, placement)

    async def destroy(self, target: Slice) -> None:
        """Remove a slice; one that could not be removed is tried again before the next is made there.

        Raises:
            TransitionError: no such GPU, or the driver refuses.
        """
        card = self._card(target.gpu)
        await asyncio.to_thread(self._destroy, target.gpu, card, target.placement)

    def environment(self, target: Slice) -> Mapping[str, str]:
        """The slice's MIG device, and no other."""
        return {
            "CLOVER_RL_SLICE": f"gpu{target.gpu}/{target.placement}",
            "CUDA_VISIBLE_DEVICES": target.device,
        }

    async def recover(self, keep: Sequence[Collection[Placement]]) -> list[str]:
        """Put the cards in order at a start: adopt the slices in `keep`, remove everything else.

        Args:
            keep: by GPU, the placements of the first configuration.

        Returns:
            What was done, a line each.

        Raises:
            TransitionError: something cannot be removed; it says what, and who may hold it.
        """
        done = await asyncio.gather(
            *(asyncio.to_thread(self._recover, gpu, set(places)) for gpu, places in enumerate(keep))
        )
        return [line for lines in done for line in lines]

    # --- one card, in a thread

    def _discover(self, gpu: int) -> DeviceState:
        card = self._card(gpu)
        with self._locks[gpu]:
            slices = [
                Slice(gpu, place, card.uuid(item.id, item.compute[0]))
                for item in card.instances()
                if item.whole and (place := self._place(item)) is not None
            ]
        return DeviceState(gpu, card.model or card.name, tuple(slices))

    def _create(self, gpu: int, card: Card, placement: Placement) -> Slice:
        kind = self._type(gpu, placement)
        with self._locks[gpu]:
            self._unwanted[gpu].discard(placement)
            standing: list[Placement] = []
            for item in card.instances():
                place = self._place(item)
                if not item.compute or place in self._unwanted[gpu]:
                    self._remove(gpu, card, item)
                elif item.whole and place == placement:
                    return Slice(gpu, placement, card.uuid(item.id, item.compute[0]))
                elif place is not None:
                    standing.append(place)
            try:
                Layout.of(self._model, [*standing, placement])
            except InputError as error:
                raise TransitionError(
                    error.what, where=f"gpu{gpu}", fix="destroy what is in the way"
                ) from error
            made = self._patiently(
                lambda: card.create_gpu_instance(kind.profile_id, placement.start, placement.size)
            )
            try:
                compute = self._patiently(lambda: card.create_compute_instance(made))
                return Slice(gpu, placement, card.uuid(made, compute))
            except NvmlFailure as error:
                self._take_back(gpu, card, made, error)
                raise

    def _take_back(self, gpu: int, card: Card, made: int, error: NvmlFailure) -> None:
        """Remove a GPU instance whose slice did not come about.

        Raises:
            TransitionError: it stays; the message says so.
        """
        try:
            for item in card.instances():
                if item.id == made:
                    self._remove(gpu, card, item)
        except NvmlFailure as second:
            raise TransitionError(
                f"{error.what}; taking GPU instance {made} back failed as well: {second.what}",
                where=f"gpu{gpu}",
                fix=f"{error.fix}; what is left is removed at the next start or before another is made",
            ) from error

    def _destroy(self, gpu: int, card: Card, placement: Placement) -> None:
        with self._locks[gpu]:
            self._unwanted[gpu].add(placement)
            for item in card.instances():
                if self._place(item) == placement:
                    self._remove(gpu, card, item)
            self._unwanted[gpu].discard(placement)

    def _recover(self, gpu: int, keep: set[Placement]) -> list[str]:
        card = self._card(gpu)
        lines = []
        with self._locks[gpu]:
            for item in card.instances():
                place = self._place(item)
                name = f"gpu{gpu}/{place or f'profile {item.profile} at {item.start}'}"
                if item.whole and place in keep:
                    lines.append(f"{name} is adopted")
                    continue
                why = "is not in the first configuration"
                if not item.whole:
                    why = "is cut into parts" if item.compute else "has no compute instance"
                lines.append(f"{name} {why} and is removed")
                self._remove(gpu, card, item)
        for line in lines:
            log.info("%s", line)
        return lines

    def _remove(self, gpu: int, card: Card, item: GpuInstance) -> None:
        for compute in item.compute:
            self._patiently(lambda number=compute: card.destroy_compute_instance(item.id, number))  # type: ignore[misc]
        self._patiently(lambda: card.destroy_gpu_instance(item.id))

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat a call that meets IN_USE, with longer and longer waits."""
        deadline = time.monotonic() + self._patience_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return call()
            except NvmlFailure as error:
                if error.code != IN_USE or time.monotonic() + wait_s > deadline:
                    raise
            time.sleep(wait_s)
            wait_s = min(2.0 * wait_s, LONGEST_WAIT_S)

    # --- names

    def _card(self, gpu: int) -> Card:
        if not 0 <= gpu < len(self._cards):
            raise TransitionError(
                f"there is no GPU {gpu}", where="mig backend", fix=f"use 0 to {len(self._cards) - 1}"
            )
        return self._cards[gpu]

    def _type(self, gpu: int, placement: Placement) -> SliceType:
        try:
            return self._model.slice_type(placement.slice)
        except InputError as error:
            raise TransitionError(error.what, where=f"gpu{gpu}", fix=error.fix) from error

    def _place(self, item: GpuInstance) -> Placement | None:
        name = self._names.get(item.profile)
        return None if name is None else Placement(item.start, item.size, name)


def _require_geometry(card: Card, model: GpuModel, where: str) -> None:
    for kind in model.default_slices:
        offered = card.profiles.get(kind.profile_id)
        places = {(start, kind.size) for start in kind.starts}
        if offered is None or not places <= set(offered.places) or offered.compute != kind.compute:
            raise InputError(
                f"the card does not offer {model.title}'s {kind.name} slices",
                where=where,
                fix="use a profile of this card's model; clover-rl doctor names it",
            )
