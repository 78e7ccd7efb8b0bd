"""The mig backend against a stand-in NVML that knows MIG's rules."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clover_rl.cluster.geometry import Layout, Placement, enumerate_layouts
from clover_rl.cluster.gpu import gpu_model
from clover_rl.errors import InputError, TransitionError
from clover_rl.serving.partition.base import DeviceState
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.partition.mig import MigPartition
from clover_rl.serving.partition.mig_card import MigCard
from clover_rl.serving.partition.mig_dry import DryCard
from clover_rl.serving.partition.nvml import Nvml
from tests.serving.partition.conftest import Open
from tests.serving.partition.mig_checker import Checker

MODEL = gpu_model("h100-80gb")
EVERY_SLICE = tuple(MODEL.slices)
LEFT, RIGHT, SMALL = Placement(0, 4, "4g"), Placement(4, 4, "3g"), Placement(6, 1, "1g")
GI_CREATE, CI_CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement", "nvmlGpuInstanceCreateComputeInstance"
CI_DESTROY, GI_DESTROY = "nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy"
STEPS = (GI_CREATE, CI_CREATE, CI_DESTROY, GI_DESTROY)


async def placed(backend: MigPartition) -> list[list[Placement]]:
    return [[piece.placement for piece in state.slices] for state in await backend.discover()]


def check(fake: FakeNvml, *, given: tuple[int, ...] = (0, 1)) -> Checker:
    checker = Checker(MODEL, given)
    checker.check(fake.calls())
    return checker


def test_mig_fake_reads_profiles_and_placements_from_the_card(nvml: Nvml) -> None:
    card = MigCard(nvml, "0")
    assert card.model == "h100-80gb"
    assert nvml.fake
    for kind in MODEL.slices.values():
        profile = card.profiles[kind.profile_id]
        assert profile.places == tuple((start, kind.size) for start in kind.starts)
        assert (profile.compute, profile.sms, profile.memory_mib) == (
            kind.compute,
            kind.sms,
            kind.memory_mib,
        )


@pytest.mark.parametrize("name", ["a100-40gb", "a100-80gb", "h200-141gb"])
def test_mig_fake_tells_gpu_models_apart(name: str, fake: FakeNvml) -> None:
    FakeNvml.build(fake.folder, (name,))
    with Nvml() as nvml:
        assert MigCard(nvml, "0").model == name


def test_mig_fake_slices_are_made_once_removed_once_and_named_for_their_process(
    fake: FakeNvml, open_mig: Open
) -> None:
    async def run() -> None:
        backend = open_mig()
        made = await backend.create(0, RIGHT)
        assert await backend.create(0, RIGHT) == made
        left = await backend.create(0, LEFT)
        assert left.device != made.device
        assert await backend.discover() == (
            DeviceState(0, "h100-80gb", (left, made)),
            DeviceState(1, "h100-80gb", ()),
        )
        assert backend.environment(made) == {
            "CLOVER_RL_SLICE": "gpu0/3g@4",
            "CUDA_VISIBLE_DEVICES": made.device,
        }
        assert made.device.startswith("MIG-")
        await backend.destroy(made)
        await backend.destroy(made)
        assert await placed(backend) == [[LEFT], []]
        with pytest.raises(TransitionError, match="overlaps"):
            await backend.create(0, Placement(2, 1, "1g"))
        with pytest.raises(TransitionError, match="no GPU 2"):
            await backend.create(2, LEFT)
        with pytest.raises(TransitionError, match="unknown slice type"):
            await backend.create(0, Placement(0, 1, "9g"))

    asyncio.run(run())
    check(fake).check_whole()


def test_mig_fake_lives_through_a_hundred_random_configurations(fake: FakeNvml, open_mig: Open) -> None:
    """Any layout to any other on both cards, what stays untouched; a new backend takes over at times."""
    dice = random.Random(8)
    layouts = enumerate_layouts(MODEL, EVERY_SLICE)

    async def turn(backend: MigPartition, gpu: int, target: Layout) -> None:
        before = {piece.placement: piece for piece in (await backend.discover())[gpu].slices}
        for place, piece in before.items():
            if place not in target.placements:
                await backend.destroy(piece)
        wanted = list(target.placements)
        dice.shuffle(wanted)
        for place in wanted:
            piece = await backend.create(gpu, place)
            assert piece == before.get(place, piece)  # who stays keeps its device

    async def run() -> None:
        backend = open_mig()
        for number in range(100):
            targets = [dice.choice(layouts) for _ in range(2)]
            if number % 10 == 9:
                backend = open_mig()
                await backend.recover([target.placements for target in targets])
            await asyncio.gather(*(turn(backend, gpu, target) for gpu, target in enumerate(targets)))
            assert await placed(backend) == [list(target.placements) for target in targets]

    asyncio.run(run())
    checker = check(fake)
    checker.check_whole()
    assert all(call.result == 0 for call in fake.calls())
    assert {call.function for call in fake.calls()} == set(STEPS)


@pytest.mark.parametrize("function", STEPS)
def test_mig_fake_in_use_for_a_moment_is_waited_for(function: str, fake: FakeNvml, open_mig: Open) -> None:
    async def run() -> None:
        fake.inject(f"{function} IN_USE times=2")
        backend = open_mig(patience_s=5.0)
        await backend.destroy(await backend.create(0, RIGHT))
        assert await placed(backend) == [[], []]

    asyncio.run(run())
    results = [call.result for call in fake.calls() if call.function == function]
    assert results == [19, 19, 0]
    check(fake).check_whole()


FAULTS = {
    "IN_USE": "holds it open.*monitoring agents",
    "NO_PERMISSION": "no permission.*root",
    "INSUFFICIENT_RESOURCES": "no room.*nvidia-smi mig -lgi",
    "RESET_REQUIRED": "must be reset.*--gpu-reset",
    "GPU_IS_LOST": "lost.*reboot",
    "UNKNOWN": "unknown error.*Xid",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("function", STEPS)
def test_mig_fake_fault_at_any_step_says_what_to_do_and_is_overcome_once_it_is_gone(
    function: str, fault: str, fake: FakeNvml, open_mig: Open
) -> None:
    """The neighbour on the same card and the other card stay as they are all the while."""

    async def run() -> None:
        backend = open_mig()
        neighbour = await backend.create(0, LEFT)
        other = await backend.create(1, SMALL)
        piece = await backend.create(0, RIGHT) if "Destroy" in function else None
        fake.inject(f"{function} {fault}")
        with pytest.raises(TransitionError, match=f"(?s){FAULTS[fault]}") as caught:
            await (backend.create(0, RIGHT) if piece is None else backend.destroy(piece))
        assert caught.value.where is not None
        assert neighbour in (await backend.discover())[0].slices
        fake.heal()
        if piece is not None:  # where the removal failed, the next slice takes its place all the same
            await backend.create(0, Placement(4, 2, "2g"))
            await backend.create(0, SMALL)
            assert await placed(backend) == [[LEFT, Placement(4, 2, "2g"), SMALL], [SMALL]]
        else:
            await backend.create(0, RIGHT)
            assert await placed(backend) == [[LEFT, RIGHT], [SMALL]]
        first, second = await backend.discover()
        assert neighbour in first.slices
        assert second.slices == (other,)

    asyncio.run(run())
    check(fake).check_whole()


@pytest.mark.parametrize("fault", ["GPU_IS_LOST", "RESET_REQUIRED"])
def test_mig_fake_lost_device_leaves_the_other_card_working(
    fault: str, fake: FakeNvml, open_mig: Open
) -> None:
    async def run() -> None:
        backend = open_mig()
        piece = await backend.create(0, LEFT)
        fake.inject(f"* {fault} gpu=0")
        for doing in (backend.create(0, RIGHT), backend.destroy(piece)):
            with pytest.raises(TransitionError, match=f"(?s){FAULTS[fault]}"):
                await doing
        made = await backend.create(1, LEFT)
        await backend.destroy(made)
        fake.reboot()  # what the operator does; the slices are gone with it
        fake.heal()
        await backend.recover([(), ()])
        await backend.create(0, RIGHT)
        assert await placed(backend) == [[RIGHT], []]

    asyncio.run(run())
    check(fake).check_whole()


def test_mig_fake_lost_between_the_two_creates_says_what_is_left(fake: FakeNvml, open_mig: Open) -> None:
    async def run() -> None:
        backend = open_mig()
        fake.inject(f"{CI_CREATE} GPU_IS_LOST", f"{GI_DESTROY} GPU_IS_LOST")
        with pytest.raises(TransitionError, match=r"taking GPU instance 1 back failed as well.*next start"):
            await backend.create(0, RIGHT)
        fake.heal()
        await backend.create(0, Placement(0, 8, "7g"))  # over the remains of the first

    asyncio.run(run())
    check(fake).check_whole()


@pytest.mark.parametrize("when", ["DIE_BEFORE", "DIE_AFTER"])
@pytest.mark.parametrize("function", STEPS)
def test_mig_fake_death_of_the_process_at_any_step_is_put_in_order_at_the_next_start(
    function: str, when: str, fake: FakeNvml, open_mig: Open
) -> None:
    """DIE_AFTER the first create is the death between the two: a GPU instance without compute instance."""
    code = """
    import asyncio
    from clover_rl.cluster.geometry import Placement
    from clover_rl.cluster.gpu import gpu_model
    from clover_rl.serving.partition.mig import MigPartition
    from clover_rl.serving.partition.mig_card import MigCard
    from clover_rl.serving.partition.nvml import Nvml

    async def main():
        backend = MigPartition([MigCard(Nvml(), "0")], gpu_model("h100-80gb"))
        await backend.create(0, Placement(0, 4, "4g"))
        await backend.destroy(await backend.create(0, Placement(4, 4, "3g")))

    asyncio.run(main())
    """
    fake.inject(f"{function} {when} skip={int('Create' in function)}")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 99, done.stderr
    fake.heal()

    async def run() -> None:
        backend = open_mig("0")
        before = (await backend.discover())[0].slices[0]
        lines = await backend.recover([[LEFT]])
        assert "gpu0/4g@0 is adopted" in lines
        half_made = (function, when) in ((GI_CREATE, "DIE_AFTER"), (CI_CREATE, "DIE_BEFORE"))
        half_gone = (function, when) in ((CI_DESTROY, "DIE_AFTER"), (GI_DESTROY, "DIE_BEFORE"))
        assert ("gpu0/3g@4 has no compute instance and is removed" in lines) == (half_made or half_gone)
        assert (await backend.discover())[0].slices == (before,)
        await backend.create(0, RIGHT)

    asyncio.run(run())
    check(fake, given=(0,)).check_whole()


def test_mig_fake_start_adopts_what_fits_and_removes_the_rest(fake: FakeNvml, open_mig: Open) -> None:
    async def run() -> None:
        first = open_mig()
        kept = await first.create(0, LEFT)
        await first.create(0, SMALL)
        await first.create(1, RIGHT)
        second = open_mig()
        lines = await second.recover([[LEFT, RIGHT], []])
        assert lines == [
            "gpu0/4g@0 is adopted",
            "gpu0/1g@6 is not in the first configuration and is removed",
            "gpu1/3g@4 is not in the first configuration and is removed",
        ]
        assert await second.create(0, LEFT) == kept
        await second.create(0, RIGHT)
        assert await placed(second) == [[LEFT, RIGHT], []]

    asyncio.run(run())
    check(fake).check_whole()


def test_mig_fake_slice_that_somebody_cut_into_parts_is_not_taken_for_one(
    fake: FakeNvml, nvml: Nvml, open_mig: Open
) -> None:
    api = nvml.api
    card = MigCard(nvml, "0")
    made = card.create_gpu_instance(9, 4, 4)
    handle = api.nvmlDeviceGetGpuInstanceById(nvml.handle("0"), made)
    for _ in range(2):
        api.nvmlGpuInstanceCreateComputeInstance(handle, api.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)

    async def run() -> None:
        backend = open_mig()
        assert await placed(backend) == [[], []]
        with pytest.raises(TransitionError, match="overlaps"):
            await backend.create(0, RIGHT)
        assert await backend.recover([[RIGHT], []]) == ["gpu0/3g@4 is cut into parts and is removed"]
        await backend.create(0, RIGHT)

    asyncio.run(run())


def test_mig_fake_cards_that_were_not_given_are_never_touched(fake: FakeNvml, open_mig: Open) -> None:
    async def run() -> None:
        backend = open_mig("1")
        await backend.create(0, LEFT)
        await backend.recover([[]])

    asyncio.run(run())
    assert {call.gpu for call in fake.calls()} == {1}
    check(fake, given=(1,)).check_whole()


def test_mig_fake_slice_with_a_live_process_is_not_removed_from_under_it(
    fake: FakeNvml, open_mig: Open
) -> None:
    async def run() -> None:
        backend = open_mig()
        piece = await backend.create(0, RIGHT)
        process = subprocess.Popen(["sleep", "60"], env=dict(backend.environment(piece)))
        try:
            while piece.device.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes():
                await asyncio.sleep(0.01)
            with pytest.raises(TransitionError, match="processes on the slice"):
                await backend.destroy(piece)
            assert await placed(backend) == [[RIGHT], []]
        finally:
            process.kill()
            process.wait()
        await backend.destroy(piece)
        assert await placed(backend) == [[], []]

    asyncio.run(run())


def test_mig_fake_without_mig_mode_or_permission_says_what_to_do(fake: FakeNvml) -> None:
    FakeNvml.build(fake.folder, mig=False)
    with Nvml() as nvml, pytest.raises(InputError, match=r"MIG mode is off; nvidia-smi -i 0 -mig 1"):
        MigCard(nvml, "0")
    FakeNvml.build(fake.folder, root=False)
    with Nvml() as nvml, pytest.raises(TransitionError, match=r"no permission.*run as root"):
        MigCard(nvml, "0")
    for device in ("7", "GPU-none"):
        with Nvml() as nvml, pytest.raises(InputError, match=f"device {device}: there is no such GPU"):
            MigCard(nvml, device)


def test_mig_fake_card_without_the_models_slices_is_refused(fake: FakeNvml, nvml: Nvml) -> None:
    cards = fake.folder / "cards"
    cards.write_text("\n".join(line for line in cards.read_text().splitlines() if "3g.40gb" not in line))
    nvml.close()
    with Nvml() as again, pytest.raises(InputError, match="does not offer NVIDIA H100 80 GB's 3g slices"):
        MigPartition([MigCard(again, "0")], MODEL)


def test_mig_fake_dry_run_tells_the_calls_and_makes_none(fake: FakeNvml, nvml: Nvml, open_mig: Open) -> None:
    async def run() -> list[str]:
        await open_mig().create(0, RIGHT)
        before = fake.calls()
        told: list[str] = []
        dry = MigPartition([DryCard(MigCard(nvml, "0"), 0, told.append)], MODEL)
        await dry.recover([[LEFT]])
        piece = await dry.create(0, LEFT)
        assert await placed(dry) == [[LEFT]]
        assert piece.device.startswith("MIG-(")
        assert fake.calls() == before
        return told

    assert asyncio.run(run()) == [
        f"gpu0: {CI_DESTROY} 0 of GPU instance profile=9 start=4",
        f"gpu0: {GI_DESTROY} GPU instance profile=9 start=4",
        f"gpu0: {GI_CREATE} profile=5 start=0 size=4",
        f"gpu0: {CI_CREATE} on GPU instance profile=5 start=0, all of it",
    ]
