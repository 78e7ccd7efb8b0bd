"""Whole servers on slices of one backend or another: a scenario, a bundle, cards, a load."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from clover_rl.cluster.gpu import CATALOGUE, GpuModel, gpu_model, gpu_models
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.clients.load_client import LoadRun
from clover_rl.serving.clients.samples import Samples
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.partition.mps import check_card
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import NvmlFailure
from tests.cli.process import run_cli
from tests.serving.server_process import ServerProcess

__all__ = [
    "SCENARIO",
    "bundle",
    "card_model",
    "cards",
    "devices",
    "scenario",
    "servers",
    "status",
    "under_load",
    "variables",
]

SCENARIO = """
name: mig-demo
title: one GPU, a step a second
profile: digits-here.yaml
gpus: 1
interval_s: 1.0
time_scale: 3600.0
timeout_s: 5.0
"""


@cache
def card_model() -> GpuModel:
    """That of the real card of this machine that MPS can cut, else the H100's: a profile is of one model."""
    try:
        with Nvml() as session:
            for model in gpu_models().values():
                with suppress(InputError):
                    check_card(session, "0", model)
                    return model
    except NvmlFailure:
        pass
    return gpu_model("h100-80gb")


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "mig-demo.yaml"
    path.write_text(SCENARIO)
    shipped = (CATALOGUE / "profiles" / "emulated-digits.yaml").read_text()
    path.with_name("digits-here.yaml").write_text(shipped.replace("h100-80gb", card_model().name))
    return path


@pytest.fixture(scope="module")
def bundle(scenario: Path) -> Path:
    """A policy that was never trained: it decides, which is all that is needed here."""
    from clover_rl.agents.train.export import export_model
    from clover_rl.envs.scalar import MIGClusterEnv

    MaskablePPO = pytest.importorskip("sb3_contrib", reason="sb3_contrib is not installed").MaskablePPO
    model = MaskablePPO("MlpPolicy", MIGClusterEnv(scenario), n_steps=16, batch_size=16, seed=1, device="cpu")
    path = scenario.with_name("tiny.clover")
    export_model(model, scenario, path)
    return path


@pytest.fixture
def cards(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two cards; servers started from now on find them in place of a driver's."""
    models = (card_model().name,) * 2
    fake = FakeNvml.build(tmp_path / "cards", models, create_ms=30, destroy_ms=30)
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    return fake


@pytest.fixture
def servers() -> Iterator[list[ServerProcess]]:
    started: list[ServerProcess] = []
    yield started
    for server in started:
        server.end()


def devices(server: ServerProcess) -> dict[str, str]:
    """Slice -> CUDA_VISIBLE_DEVICES of its instance's process."""
    return {piece: found["CUDA_VISIBLE_DEVICES"] for piece, found in variables(server).items()}


def variables(server: ServerProcess) -> dict[str, dict[str, str]]:
    """Slice -> environment of its instance's process."""
    environments = []
    for pid in server.workers():
        lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
        environments.append(dict(line.split("=", 1) for line in lines if "=" in line))
    return {found["CLOVER_RL_SLICE"]: found for found in environments if "CLOVER_RL_SLICE" in found}


def status(server: ServerProcess) -> dict[str, object]:
    document = json.loads(run_cli("status", "--to", server.control, "--json").stdout)
    assert isinstance(document, dict)
    return document


def under_load(server: ServerProcess, seconds: float) -> tuple[LoadRun, threading.Thread]:
    run = LoadRun(server.address, "digits", Samples.of_digits(), lambda _: 20.0, timeout_s=60.0)

    def send() -> None:
        deadline = time.monotonic() + 30.0
        while True:  # a single card that is cut anew has no instance for a moment, so nobody is ready
            try:
                asyncio.run(run.run(seconds))
                return
            except ServingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    sender = threading.Thread(target=send)
    sender.start()
    return run, sender
