"""Fixtures of a stand-in NVML, compiled once; each test gets cards of its own."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.partition.nvml import Nvml


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, loaded in place of a real one for the whole session."""
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("no C compiler here: the stand-in NVML cannot be built")
    return FakeNvml.build(tmp_path_factory.mktemp("nvml")).library


@pytest.fixture
def fake(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two H100 in MIG mode; pynvml talks to them."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    fake = FakeNvml.build(tmp_path / "cards")
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    return fake


@pytest.fixture
def nvml(fake: FakeNvml) -> Iterator[Nvml]:
    with Nvml() as session:
        yield session
