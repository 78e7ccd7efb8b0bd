"""The small scenario's file, for environments that are made by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from clover_rl.simulation.model import ClusterModel


@pytest.fixture(scope="session")
def scenario_file(small_model: ClusterModel) -> str:
    """Path of the small scenario; its model is in the cache by then."""
    assert small_model.gpus == 2
    return str(Path(__file__).parents[1] / "data" / "small-scenario.yaml")
