"""What all tests share: slow and GPU tests on request, an isolated cache, the shared traces and profiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from clover_rl.cluster.choices import (
    Catalogue,
    base_configuration,
    co2opt_configuration,
    homogeneous_catalogue,
)
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.simulation import model
from clover_rl.simulation.model import ClusterModel

REPOSITORY = Path(__file__).resolve().parents[1]

# The same examples on every machine, and no deadline: continuous integration shares its cores.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--write-golden", action="store_true", help="write golden traces anew")
    parser.addoption("--gpu", action="store_true", help="also run the tests that need a real NVIDIA GPU")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, reason in (
        ("slow", "takes minutes; run with --slow"),
        ("gpu", "needs a real NVIDIA GPU; run with --gpu"),
    ):
        if config.getoption(f"--{marker}"):
            continue
        skip = pytest.mark.skip(reason=reason)
        for item in items:
            if item.get_closest_marker(marker):  # a folder named gpu is no marker
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tables that tests build never land in, nor come from, the user's cache."""
    if "CLOVER_RL_CACHE" in os.environ:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOVER_RL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def part_of_the_catalogue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models know BASE, CO2OPT and one other configuration in twelve: their tables take a second.

    `request.param`, given indirectly, is another number for twelve.
    """
    every = getattr(request, "param", 12)

    def some(profile: Profile, gpus: int) -> Catalogue:
        full = homogeneous_catalogue(profile, gpus)
        always = [full.index(make(profile, gpus)) for make in (base_configuration, co2opt_configuration)]
        return full.subset(sorted({*range(0, len(full), every), *(k for k in always if k is not None)}))

    monkeypatch.setattr(model, "homogeneous_catalogue", some)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real traces and measurements, which lie beside the repository and are not part of it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real traces and measurements here: ../shared/data does not exist")
    return folder


@pytest.fixture(scope="session")
def h100() -> Profile:
    """The measured EfficientNet profile."""
    return load_profile("h100-efficientnet")


@pytest.fixture(scope="session")
def small_scenario() -> Scenario:
    """Two GPUs, two variants, twelve configurations: its model is built in a second."""
    return load_scenario(REPOSITORY / "tests" / "data" / "small-scenario.yaml")


@pytest.fixture(scope="session")
def small_model(small_scenario: Scenario) -> ClusterModel:
    """The small scenario's model."""
    return small_scenario.model()
