"""Emulated slices: the geometry's rules, the profile's times, and every operation may be repeated."""

from __future__ import annotations

import asyncio
import time

import pytest

from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.gpu import gpu_model
from clover_rl.cluster.profile import TransitionTimes
from clover_rl.errors import TransitionError
from clover_rl.serving.partition.base import PartitionBackend
from clover_rl.serving.partition.emulated import EmulatedPartition

MODEL = gpu_model("h100-80gb")
SMALL, LARGE = Placement(4, 4, "3g"), Placement(0, 4, "4g")


def backend(time_factor: float = 0.0) -> PartitionBackend:
    return EmulatedPartition(2, MODEL, TransitionTimes(0.2, 0.1, {}), time_factor=time_factor)


def test_slices_are_made_once_and_removed_once() -> None:
    async def run() -> None:
        slices = backend()
        made = await slices.create(0, SMALL)
        assert await slices.create(0, SMALL) == made
        await slices.create(0, LARGE)
        first, second = await slices.discover()
        assert [str(s) for s in first.slices] == ["gpu0/4g@0", "gpu0/3g@4"]
        assert second.slices == ()
        await slices.destroy(made)
        await slices.destroy(made)
        assert [s.placement for s in (await slices.discover())[0].slices] == [LARGE]
        environment = slices.environment(made)
        assert environment["CLOVER_RL_SLICE"] == "gpu0/3g@4"
        assert environment["CUDA_VISIBLE_DEVICES"] == ""

    asyncio.run(run())


def test_what_does_not_fit_is_refused() -> None:
    async def run() -> None:
        slices = backend()
        await slices.create(0, LARGE)
        with pytest.raises(TransitionError, match="overlaps"):
            await slices.create(0, Placement(0, 1, "1g"))
        with pytest.raises(TransitionError, match="no GPU 2"):
            await slices.create(2, SMALL)

    asyncio.run(run())


def test_creating_takes_the_profiles_time_and_gpus_do_not_wait_for_each_other() -> None:
    async def run() -> None:
        slices = backend(time_factor=0.5)
        began = time.monotonic()
        await asyncio.gather(slices.create(0, SMALL), slices.create(1, SMALL))
        assert 0.1 <= time.monotonic() - began < 0.18
        began = time.monotonic()
        await asyncio.gather(slices.create(0, SMALL), slices.create(0, LARGE))
        assert time.monotonic() - began >= 0.1

    asyncio.run(run())
