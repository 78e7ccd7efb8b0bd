"""Catalogue: the finite list of configurations that a policy chooses from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.geometry import multiset_layouts
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError

__all__ = ["Catalogue", "base_configuration", "co2opt_configuration", "homogeneous_catalogue"]


@dataclass(frozen=True)
class Catalogue:
    """Configurations in a fixed order; an action is an index into it."""

    configurations: tuple[ClusterConfiguration, ...]

    @cached_property
    def hash(self) -> str:
        """sha256 over the configurations' texts in order, hexadecimal."""
        text = "\n".join(map(str, self.configurations))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _indices(self) -> dict[ClusterConfiguration, int]:
        return {item.canonical: index for index, item in enumerate(self.configurations)}

    def index(self, configuration: ClusterConfiguration) -> int | None:
        """Action that stands for a configuration, GPUs interchangeable; None when it is not listed."""
        return self._indices.get(configuration.canonical)

    def subset(self, indices: Iterable[int]) -> Catalogue:
        """Some of the configurations, in the order given."""
        return Catalogue(tuple(self.configurations[index] for index in indices))

    def __len__(self) -> int:
        return len(self.configurations)

    def __getitem__(self, index: int) -> ClusterConfiguration:
        return self.configurations[index]

    @classmethod
    def parse(cls, texts: Sequence[str], profile: Profile) -> Catalogue:
        """From the texts of its configurations.

        Raises:
            InputError: a text that is no configuration of this profile.
        """
        return cls(tuple(ClusterConfiguration.parse(text, profile) for text in texts))


def _uniform_gpus(profile: Profile) -> list[GpuConfiguration]:
    found = []
    for layout in multiset_layouts(profile.gpu):
        names = tuple(dict.fromkeys(layout.multiset))
        options = [
            [v for v in profile.application.variants if profile.fits(v, profile.gpu.slice_type(name))]
            for name in names
        ]
        found += [
            GpuConfiguration.of(layout, dict(zip(names, chosen, strict=True))) for chosen in product(*options)
        ]
    return found


def homogeneous_catalogue(profile: Profile, gpus: int) -> Catalogue:
    """All homogeneous configurations.

    1 to `gpus` active GPUs, all with the same maximal layout multiset and one variant per slice type, the
    rest parked: 332 x gpus for four variants that fit everywhere.

    Raises:
        InputError: fewer than one GPU.
    """
    if gpus < 1:
        raise InputError(f"a cluster needs at least one GPU, not {gpus}", fix="set `gpus` to 1 or more")
    choices = _uniform_gpus(profile)
    return Catalogue(
        tuple(
            ClusterConfiguration.uniform(gpu, active, gpus)
            for active in range(1, gpus + 1)
            for gpu in choices
        )
    )


def base_configuration(profile: Profile, gpus: int) -> ClusterConfiguration:
    """BASE: the largest variant on every whole GPU."""
    whole = next(layout for layout in multiset_layouts(profile.gpu) if layout.multiset == ("7g",))
    gpu = GpuConfiguration.of(whole, {"7g": profile.application.largest.name})
    return ClusterConfiguration.uniform(gpu, gpus, gpus)


def co2opt_configuration(profile: Profile, gpus: int) -> ClusterConfiguration:
    """CO2OPT: the smallest variant on the finest layout of every GPU, accuracy ignored."""
    finest = max(multiset_layouts(profile.gpu), key=lambda layout: len(layout.placements))
    variant = profile.application.smallest.name
    gpu = GpuConfiguration.of(finest, dict.fromkeys(finest.multiset, variant))
    return ClusterConfiguration.uniform(gpu, gpus, gpus)
