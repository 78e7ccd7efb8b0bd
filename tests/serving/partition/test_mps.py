"""MPS slices: the daemon's life and what crashes leave, the cards refused, MIG's rules of layout."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.gpu import gpu_model
from clover_rl.errors import InputError, ServingError, TransitionError
from clover_rl.serving.partition import mps_daemon
from clover_rl.serving.partition.mps import MpsPartition, model_of, thread_percentage
from clover_rl.serving.partition.mps_daemon import MpsDaemon, sweep
from clover_rl.serving.partition.nvml import Nvml
from tests.serving.partition.fake_mps import install

H100 = gpu_model("h100-80gb")


def nvml_with(name: str = "NVIDIA H100 80GB HBM3", *, mig: int = 0, mode: int = 0, mib: int = 81559) -> Nvml:
    """A session that knows cards of one kind."""
    api = SimpleNamespace(
        nvmlDeviceGetName=lambda handle: name,
        nvmlDeviceGetUUID=lambda handle: f"GPU-{handle}",
        nvmlDeviceGetComputeMode=lambda handle: mode,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=mib * 2**20),
        nvmlDeviceGetMigMode=lambda handle: (mig, mig),
        NVML_COMPUTEMODE_PROHIBITED=2,
    )
    return cast(Nvml, SimpleNamespace(api=api, fake=False, handle=lambda device: device))


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps_daemon, "_BASE", tmp_path)
    install(tmp_path / "bin", monkeypatch)


@pytest.fixture
def daemon() -> Iterator[MpsDaemon]:
    found = MpsDaemon(["GPU-0"])
    yield found
    found.close()


def pid_of(folder: Path) -> int:
    found = mps_daemon._daemon_pid(folder)
    assert found is not None
    return found


def test_the_daemon_lives_in_a_private_folder_and_leaves_nothing() -> None:
    daemon = MpsDaemon(["GPU-0"])
    pid = pid_of(daemon.folder)
    assert daemon.folder.stat().st_mode & 0o077 == 0
    assert b"CUDA_VISIBLE_DEVICES=GPU-0" in Path(f"/proc/{pid}/environ").read_bytes()
    daemon.close()
    assert not daemon.folder.exists()
    wait_for(lambda: not Path(f"/proc/{pid}/environ").exists() or not _environ(pid))


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_a_daemon_that_ends_is_started_again(daemon: MpsDaemon) -> None:
    before = pid_of(daemon.folder)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: daemon.restarts and mps_daemon._daemon_pid(daemon.folder) not in (None, before))


def test_what_a_killed_process_left_is_cleaned_up_and_a_live_ones_is_not(
    tmp_path: Path, daemon: MpsDaemon
) -> None:
    code = (
        "import sys, pathlib, time; from clover_rl.serving.partition import mps_daemon as m; "
        "m._BASE = pathlib.Path(sys.argv[1]); d = m.MpsDaemon(['GPU-1']); print(d.folder, flush=True); "
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        folder = Path(other.stdout.readline().decode().strip())
        left = pid_of(folder)
        assert sweep() == 0
        other.kill()
    assert sweep() == 1
    assert not folder.exists()
    wait_for(lambda: not _environ(left))
    assert pid_of(daemon.folder)


def test_a_daemon_that_does_not_start_says_what_the_driver_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MPS_FAILS", "1")
    with pytest.raises(ServingError, match="Cannot find MPS control daemon process"):
        MpsDaemon(["GPU-0"])
    assert not list(tmp_path.glob("clover-rl-mps-*"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServingError, match="not on the PATH"):
        MpsDaemon(["GPU-0"])


@pytest.mark.parametrize(
    ("nvml", "message"),
    [
        (nvml_with(mig=1), "is in MIG mode; use --partition mig"),
        (nvml_with(mode=2), "compute mode PROHIBITED"),
        (nvml_with("NVIDIA A100-SXM4-80GB"), "no NVIDIA H100 80 GB.*profile run"),
        (nvml_with("NVIDIA GeForce RTX 4090"), "no NVIDIA H100 80 GB"),
        (nvml_with("NVIDIA H100 PCIe"), "no NVIDIA H100 80 GB"),
    ],
)
def test_cards_that_mps_cannot_cut_are_refused(nvml: Nvml, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MpsPartition(nvml, ["0"], H100)


@pytest.mark.parametrize(
    ("name", "memory_mib", "model"),
    [
        ("NVIDIA H100 80GB HBM3", 81_559, "h100-80gb"),
        ("NVIDIA H200", 143_771, "h200-141gb"),
        ("NVIDIA A100-SXM4-40GB", 40_960, "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", 40_960, "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", 81_920, "a100-80gb"),
        ("NVIDIA H100 PCIe", 81_559, None),
        ("NVIDIA H100 NVL", 95_830, None),
        ("NVIDIA GH200 480GB", 97_871, None),
        ("Tesla T4", 15_360, None),
    ],
)
def test_a_card_is_the_model_that_was_measured_or_none(
    name: str, memory_mib: float, model: str | None
) -> None:
    found = model_of(name, memory_mib)
    assert (found.name if found else None) == model


def test_a_card_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="twice"):
        MpsPartition(nvml_with(), ["0", "0"], H100)


def test_slices_follow_migs_rules_and_processes_get_their_share() -> None:
    backend = MpsPartition(nvml_with(), ["0", "1"], H100)

    async def run() -> None:
        large = await backend.create(1, Placement(0, 4, "4g"))
        assert await backend.create(1, Placement(0, 4, "4g")) == large
        small = await backend.create(1, Placement(4, 1, "1g"))
        with pytest.raises(TransitionError, match="overlaps"):
            await backend.create(1, Placement(0, 2, "2g"))
        found = backend.environment(small)
        assert found["CUDA_VISIBLE_DEVICES"] == "GPU-1"
        assert found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "12"
        assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=9984M"
        assert Path(found["CUDA_MPS_PIPE_DIRECTORY"]).parent == backend.daemon.folder
        await backend.destroy(large)
        await backend.destroy(large)
        whole = await backend.create(0, Placement(0, 8, "7g"))
        assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" not in backend.environment(whole)
        assert [[str(s) for s in gpu.slices] for gpu in await backend.discover()] == [
            ["gpu0/7g@0"],
            ["gpu1/1g@4"],
        ]

    try:
        asyncio.run(run())
    finally:
        backend.close()


def test_other_models_get_the_share_of_their_multiprocessors() -> None:
    a100 = gpu_model("a100-40gb")
    assert [thread_percentage(a100, a100.slice_type(name)) for name in ("7g", "3g", "1g")] == [100, 43, 15]
