"""Strategies for what lives in a cluster."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import Layout, enumerate_layouts
from clover_rl.cluster.profile import Profile

Strategy = st.SearchStrategy[ClusterConfiguration]


@pytest.fixture(scope="session")
def mixed(h100: Profile) -> Callable[[int], Strategy]:
    """Any configuration of a number of GPUs: each cut as it likes, each slice with a variant of its own."""
    variants = st.sampled_from(list(h100.application.variants))

    def gpu_of(layout: Layout) -> st.SearchStrategy[GpuConfiguration]:
        count = len(layout.placements)
        return st.lists(variants, min_size=count, max_size=count).map(
            lambda names: GpuConfiguration(
                tuple(PlacedVariant(p, v) for p, v in zip(layout.placements, names, strict=True))
            )
        )

    layouts = st.sampled_from(enumerate_layouts(h100.gpu))
    gpus = st.one_of(st.just(GpuConfiguration()), layouts.flatmap(gpu_of))

    def configurations(count: int) -> Strategy:
        return st.lists(gpus, min_size=count, max_size=count).map(lambda g: ClusterConfiguration(tuple(g)))

    return configurations
