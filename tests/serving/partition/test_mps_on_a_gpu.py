"""The mps backend on a real card: what a process on a slice sees, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from clover_rl.cluster.geometry import Placement
from clover_rl.serving.partition.mps import MpsPartition, thread_percentage
from clover_rl.serving.partition.nvml import Nvml
from tests.serving.partition.rig import card_model

pytestmark = pytest.mark.gpu
LOOK = "import torch; print(torch.cuda.get_device_properties(0).multi_processor_count)"


def test_a_process_sees_its_slices_share_of_multiprocessors_and_the_daemon_ends(mps_device: str) -> None:
    model = card_model()
    with Nvml() as nvml:
        backend = MpsPartition(nvml, [mps_device], model)
        folder = backend.daemon.folder
        try:
            for placement in (Placement(0, 4, "4g"), Placement(4, 2, "2g"), Placement(6, 1, "1g")):
                piece = asyncio.run(backend.create(0, placement))
                done = subprocess.run(
                    [sys.executable, "-c", LOOK],
                    env={**os.environ, **backend.environment(piece)},
                    capture_output=True,
                    text=True,
                    check=True,
                    timeout=120,
                )
                share = thread_percentage(model, model.slice_type(placement.slice)) / 100.0
                # MPS rounds to whole groups of multiprocessors
                assert int(done.stdout) == pytest.approx(share * model.sms, abs=2)
                asyncio.run(backend.destroy(piece))
        finally:
            backend.close()
    assert not folder.exists()
