"""The stand-in NVML itself: the symbols that nvidia-ml-py calls, MIG's rules, faults, its command line."""

from __future__ import annotations

import ast
import inspect
import random
import re
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from clover_rl.cluster.geometry import Layout, Placement
from clover_rl.cluster.gpu import gpu_model
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.partition.mig_card import MigCard
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import INVALID_ARGUMENT, NvmlFailure

NO_ROOM = 23
ROOM = Path(inspect.getfile(Nvml)).parents[1]
COMMAND = [sys.executable, "-m", "clover_rl.serving.partition.fake_nvml"]


def attempt(card: MigCard, place: Placement, profile: int) -> tuple[int, int | None]:
    """NVML's code, and the GPU instance when it was made."""
    try:
        return 0, card.create_gpu_instance(profile, place.start, place.size)
    except NvmlFailure as error:
        return error.code, None


def symbols_called() -> set[str]:
    """Symbols of the driver's library behind every function of nvidia-ml-py that this package calls."""
    used = {
        node.attr
        for path in ROOM.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and re.match(r"nvml[A-Z]", node.attr)
    }
    assert len(used) > 20
    symbols = set()
    while used:
        text = inspect.getsource(inspect.unwrap(getattr(pynvml, used.pop())))
        symbols |= set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', text))
        used |= set(re.findall(r"return (nvml\w+)\(", text))
    return symbols


def test_mig_fake_exports_every_symbol_that_is_called(library: Path, fake: FakeNvml) -> None:
    missing = [name for name in sorted(symbols_called()) if not hasattr(pynvml.nvmlLib, name)]
    assert missing == []
    assert {"nvmlDeviceGetGpuInstanceProfileInfoV", "nvmlDeviceGetGpuInstancePossiblePlacements_v2"} <= (
        symbols_called()
    )


@pytest.mark.parametrize("name", ["h100-80gb", "a100-40gb"])
def test_mig_fake_has_room_exactly_where_the_geometry_has(name: str, fake: FakeNvml) -> None:
    model = gpu_model(name)
    FakeNvml.build(fake.folder, (name,))
    dice = random.Random(1)
    refused = 0
    with Nvml() as nvml:
        card = MigCard(nvml, "0")
        for _ in range(60):
            standing: dict[Placement, int] = {}
            for _ in range(9):
                kind = dice.choice(list(model.slices.values()))
                place = Placement(dice.randrange(8), kind.size, kind.name)
                try:
                    Layout.of(model, [*standing, place])
                    fits = True
                except InputError:
                    fits = False
                beside = [*map(str, standing)]
                code, number = attempt(card, place, kind.profile_id)
                if number is not None:
                    standing[place] = number
                assert code in (0, INVALID_ARGUMENT, NO_ROOM)
                assert (code == 0) == fits, f"{place} beside {beside}"
                refused += code != 0
            for number in standing.values():
                card.destroy_gpu_instance(number)
    assert refused > 60


def test_mig_fake_refuses_stale_handles_and_the_wrong_order(nvml: Nvml) -> None:
    card = MigCard(nvml, "0")
    made = card.create_gpu_instance(9, 4, 4)
    compute = card.create_compute_instance(made)
    handle = nvml.api.nvmlDeviceGetGpuInstanceById(nvml.handle("0"), made)
    with pytest.raises(NvmlFailure, match="holds it open"):
        card.destroy_gpu_instance(made)
    with pytest.raises(NvmlFailure, match="no room"):
        card.create_compute_instance(made)
    card.destroy_compute_instance(made, compute)
    card.destroy_gpu_instance(made)
    card.create_gpu_instance(9, 4, 4)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        nvml.api.nvmlGpuInstanceDestroy(handle)


def test_mig_fake_fault_hits_the_calls_that_it_names_and_no_other(fake: FakeNvml, nvml: Nvml) -> None:
    first, second = MigCard(nvml, "0"), MigCard(nvml, "1")
    fake.inject("nvmlDeviceCreateGpuInstanceWithPlacement 999 gpu=0 skip=1 times=1")
    tries = ((second, 0), (second, 1), (first, 0), (first, 1), (first, 1))
    codes = [attempt(card, Placement(start, 1, "1g"), 19)[0] for card, start in tries]
    assert codes == [0, 0, 0, 999, 0]
    with pytest.raises(InputError, match="is no fault"):
        fake.inject("nvmlInit_v2")


def test_mig_fake_is_built_and_steered_from_the_command_line(library: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)

    folder = str(tmp_path / "cards")
    assert run("build", folder, "--gpus", "1", "--model", "a100-40gb").stdout == f"LD_LIBRARY_PATH={folder}\n"
    fake = FakeNvml(Path(folder))
    assert run("inject", folder, "* GPU_IS_LOST gpu=0").returncode == 0
    assert (fake.folder / "faults").read_text().startswith("* GPU_IS_LOST gpu=0\n")
    assert run("heal", folder).returncode == 0
    assert not (fake.folder / "faults").exists()
    (fake.folder / "calls.log").write_text("7 nvmlComputeInstanceDestroy 0 gi=1 ci=0 19\n")
    assert run("calls", folder).stdout == "7 nvmlComputeInstanceDestroy gpu0 gi=1 ci=0 -> 19\n"
    for wrong in (("calls", str(tmp_path)), ("build", folder, "--model", "h9"), ("inject", folder, "x")):
        done = run(*wrong)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")


def test_mig_fake_without_a_compiler_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServingError, match=r"no C compiler.*install gcc"):
        FakeNvml.build(tmp_path / "cards")
