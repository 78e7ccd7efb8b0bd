"""GpuSpace: every configuration of one GPU as Clover's graph, and which ones are neighbours."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import Layout, multiset_layouts
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError

__all__ = ["NEIGHBOUR_DISTANCE", "GpuSpace", "Graph", "graph_of"]

NEIGHBOUR_DISTANCE = 4
"""Largest total weight change between neighbours (Clover's artifact)."""

Graph = frozenset[tuple[tuple[str, str], int]]
"""A GPU's graph as a key: ((variant, slice), number of instances), edges of weight 0 left out."""


def graph_of(gpu: GpuConfiguration) -> Graph:
    """The graph of one GPU; places are left aside."""
    return frozenset(Counter((item.variant, item.placement.slice) for item in gpu.placed).items())


class GpuSpace:
    """All maximal layouts of one GPU (one for each multiset of slices), with every assignment of variants.

    Slices of one type may carry different variants; which of them carries which makes no difference, so an
    assignment is a multiset of variants for each slice type: 1 282 configurations for four variants that fit
    everywhere.

    Clover's graph has an edge (variant, slice type) weighted with the number of such instances. Its artifact
    calls two configurations neighbours when the total weight change is at most 4. This is read as the
    Manhattan distance between the two edge-weight vectors of ONE GPU, the sum over all edges of |difference|,
    before the configuration is repeated on every GPU. Another variant on one slice costs 2 (one edge loses
    an instance, another gains one), so two slices may change their variants; 7g -> 4g + 3g costs 3;
    so does 2g -> 1g + 1g.

    Args:
        profile: gives layouts, variants and what fits where.
        distance: largest distance between neighbours.

    Attributes:
        configurations: the space, in a fixed order.
        weights: their edge weights, shape (configurations, edges).

    Raises:
        InputError: no variant fits any layout of the GPU.
    """

    def __init__(self, profile: Profile, distance: int = NEIGHBOUR_DISTANCE) -> None:
        self.distance = distance
        self.configurations = tuple(
            gpu for layout in multiset_layouts(profile.gpu) for gpu in _assignments(layout, profile)
        )
        if not self.configurations:
            raise InputError(
                f"no variant of profile `{profile.name}` fits any layout of {profile.gpu.name}",
                fix="give the profile a variant that fits a slice",
            )
        edges = product(profile.application.variants, profile.gpu.slices)
        self._edges = {edge: index for index, edge in enumerate(edges)}
        self.weights = np.stack([self._vector(gpu) for gpu in self.configurations])
        self._indices = {graph_of(gpu): index for index, gpu in enumerate(self.configurations)}

    def __len__(self) -> int:
        return len(self.configurations)

    def __getitem__(self, index: int) -> GpuConfiguration:
        return self.configurations[index]

    def index(self, gpu: GpuConfiguration) -> int | None:
        """Index of the configuration with the same graph; None when it is not in the space."""
        return self._indices.get(graph_of(gpu))

    def neighbours(self, gpu: GpuConfiguration) -> NDArray[np.int64]:
        """Indices, ascending, of all configurations whose graph lies within `distance`, `gpu`'s own left out.

        `gpu` may lie outside the space, as a layout that is not maximal does.

        Raises:
            InputError: a variant or a slice type that the profile does not have.
        """
        changes = np.abs(self.weights - self._vector(gpu)).sum(axis=1)
        return np.flatnonzero((changes > 0) & (changes <= self.distance))

    def _vector(self, gpu: GpuConfiguration) -> NDArray[np.int64]:
        vector = np.zeros(len(self._edges), np.int64)
        for edge, weight in graph_of(gpu):
            if edge not in self._edges:
                raise InputError(
                    f"variant `{edge[0]}` on a {edge[1]} slice is unknown here",
                    where=str(gpu),
                    fix="use the variants and slice types of this profile",
                )
            vector[self._edges[edge]] = weight
        return vector


def _assignments(layout: Layout, profile: Profile) -> list[GpuConfiguration]:
    """The layout with every multiset of variants for each slice type, larger slices first.

    Within a slice type variants stand in the application's order, so that neighbours keep most instances.
    """
    counts = Counter(layout.multiset)
    options = [
        list(combinations_with_replacement(_fitting(profile, name), count)) for name, count in counts.items()
    ]
    found = []
    for chosen in product(*options):
        left = {name: list(variants) for name, variants in zip(counts, chosen, strict=True)}
        found.append(
            GpuConfiguration(
                tuple(PlacedVariant(place, left[place.slice].pop(0)) for place in layout.placements)
            )
        )
    return found


def _fitting(profile: Profile, slice_name: str) -> list[str]:
    slice_type = profile.gpu.slice_type(slice_name)
    return [name for name in profile.application.variants if profile.fits(name, slice_type)]
