"""`clover-rl doctor` on machines of several kinds, each made by a stand-in NVML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from tests.cli.process import run_cli
from tests.serving.nvml_kit import library

__all__ = ["library"]


def doctor(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clover_rl.cli", "doctor", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def report(environment: dict[str, str]) -> Any:
    done = doctor(environment, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_mig_fake_machine_can_run_mig_and_emulated(library: Path, tmp_path: Path) -> None:
    fake = FakeNvml.build(tmp_path, ("h100-80gb", "a100-40gb"))
    found = report(fake.environment())
    assert {name: row["can"] for name, row in found["backends"].items()} == {
        "emulated": True,
        "mps": False,
        "mig": True,
    }
    assert found["stand_in"]
    assert "stand-in" in found["backends"]["mps"]["reasons"][0]
    assert [(gpu["model"], gpu["mig"], gpu["slices"]) for gpu in found["gpus"]] == [
        ("h100-80gb", "on", 0),
        ("a100-40gb", "on", 0),
    ]
    shown = doctor(fake.environment()).stdout
    assert "clover-fake-1" in shown
    assert "nothing is measured" in shown


@pytest.mark.parametrize(
    ("options", "faults", "reason"),
    [
        ({"mig": False}, (), "MIG mode is off; nvidia-smi -i 0 -mig 1"),
        ({"root": False}, (), "no permission"),
        ({}, ("nvmlDeviceGetMigMode NOT_SUPPORTED",), "does not support this, or MIG mode is off"),
        ({}, ("nvmlDeviceGetGpuInstances GPU_IS_LOST",), "GPU is lost"),
    ],
)
def test_mig_fake_machine_that_cannot_run_mig_hears_why(
    options: dict[str, Any], faults: tuple[str, ...], reason: str, library: Path, tmp_path: Path
) -> None:
    fake = FakeNvml.build(tmp_path, ("h100-80gb",), **options)
    fake.inject(*faults)
    found = report(fake.environment())
    assert not found["backends"]["mig"]["can"]
    assert reason in found["backends"]["mig"]["reasons"][0]
    assert found["backends"]["emulated"]["can"]


def test_mig_fake_card_that_is_lost_hides_no_other(library: Path, tmp_path: Path) -> None:
    fake = FakeNvml.build(tmp_path, ("h100-80gb", "h100-80gb"))
    fake.inject("nvmlDeviceGetMemoryInfo GPU_IS_LOST gpu=1")
    found = report(fake.environment())
    assert [gpu["model"] for gpu in found["gpus"]] == ["h100-80gb", None]
    assert "lost" in found["gpus"][1]["mig_trouble"]
    assert found["backends"]["mig"]["can"]


def test_a_profile_of_another_application_is_no_comparison_for_a_profile_run() -> None:
    options = ("profile", "run", "albert", "--pairs", "base@7g", "--against", "h100-efficientnet")
    done = run_cli(*options)
    assert done.returncode == 2
    assert "--against is a profile of efficientnet, not of albert" in done.stderr


def test_machine_without_a_driver_can_run_emulated_only(library: Path, tmp_path: Path) -> None:
    """A stand-in without cards fails to open, as a driver that is not loaded does."""
    fake = FakeNvml.build(tmp_path)
    (fake.folder / "cards").unlink()
    found = report(fake.environment())
    assert {name for name, row in found["backends"].items() if row["can"]} == {"emulated"}
    assert found["driver"] is None
    assert "driver is not loaded" in found["backends"]["mig"]["reasons"][0]
    assert found["gpus"] == []
