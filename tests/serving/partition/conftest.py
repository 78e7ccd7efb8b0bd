"""The mig backend on a stand-in NVML, whole servers, and a real card where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from clover_rl.cluster.gpu import gpu_model
from clover_rl.serving.partition.mig import MigPartition
from clover_rl.serving.partition.mig_card import MigCard
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import NvmlFailure
from tests.serving.nvml_kit import fake, library, nvml
from tests.serving.partition.rig import bundle, cards, scenario, servers

__all__ = [
    "Open",
    "bundle",
    "cards",
    "fake",
    "library",
    "mps_device",
    "nvml",
    "open_mig",
    "scenario",
    "servers",
]

Open = Callable[..., MigPartition]


@pytest.fixture
def open_mig(nvml: Nvml) -> Open:
    """Opens a backend on the stand-in's cards."""

    def open_backend(*devices: str, patience_s: float = 0.2, model: str = "h100-80gb") -> MigPartition:
        cards = [MigCard(nvml, device) for device in devices or ("0", "1")]
        return MigPartition(cards, gpu_model(model), patience_s=patience_s)

    return open_backend


@pytest.fixture
def mps_device() -> str:
    """A real card that MPS can cut."""
    if shutil.which("nvidia-cuda-mps-control") is None:
        pytest.skip("nvidia-cuda-mps-control is not on the PATH")
    try:
        with Nvml() as session:
            session.handle("0")
    except NvmlFailure as error:
        pytest.skip(f"no card: {error.what}")
    return "0"
