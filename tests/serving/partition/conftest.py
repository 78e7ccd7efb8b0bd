"""The mig backend on a stand-in NVML."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clover_rl.cluster.gpu import gpu_model
from clover_rl.serving.partition.mig import MigPartition
from clover_rl.serving.partition.mig_card import MigCard
from clover_rl.serving.partition.nvml import Nvml
from tests.serving.nvml_kit import fake, library, nvml

__all__ = ["Open", "fake", "library", "nvml", "open_mig"]

Open = Callable[..., MigPartition]


@pytest.fixture
def open_mig(nvml: Nvml) -> Open:
    """Opens a backend on the stand-in's cards."""

    def open_backend(*devices: str, patience_s: float = 0.2, model: str = "h100-80gb") -> MigPartition:
        cards = [MigCard(nvml, device) for device in devices or ("0", "1")]
        return MigPartition(cards, gpu_model(model), patience_s=patience_s)

    return open_backend
