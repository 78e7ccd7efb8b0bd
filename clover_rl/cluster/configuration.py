"""GpuConfiguration and ClusterConfiguration: which variant runs on which slice of which GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clover_rl.cluster.geometry import Layout, Placement
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError

__all__ = ["ClusterConfiguration", "GpuConfiguration", "Instance", "PlacedVariant"]


@dataclass(frozen=True, slots=True, order=True)
class PlacedVariant:
    """A variant on a placed slice."""

    placement: Placement
    variant: str

    def __str__(self) -> str:
        return f"{self.placement}:{self.variant}"


@dataclass(frozen=True, slots=True, order=True)
class GpuConfiguration:
    """The variants on the slices of one GPU, by start; with none the GPU is parked."""

    placed: tuple[PlacedVariant, ...] = ()

    @classmethod
    def of(cls, layout: Layout, variants: Mapping[str, str]) -> GpuConfiguration:
        """A layout with one variant per slice type (`variants`: slice name -> variant name)."""
        return cls(tuple(PlacedVariant(place, variants[place.slice]) for place in layout.placements))

    @property
    def layout(self) -> Layout:
        """The placed slices."""
        return Layout(tuple(item.placement for item in self.placed))

    @property
    def parked(self) -> bool:
        """Whether nothing runs on this GPU."""
        return not self.placed

    def variant_on(self, placement: Placement) -> str | None:
        """The variant on a placement, None when that slice does not exist here."""
        for item in self.placed:
            if item.placement == placement:
                return item.variant
        return None

    def __str__(self) -> str:
        return "+".join(map(str, self.placed)) or "parked"


@dataclass(frozen=True, slots=True)
class Instance:
    """A variant running on a slice of a GPU; `number` counts through the cluster and breaks ties."""

    number: int
    gpu: int
    placement: Placement
    variant: str

    @property
    def key(self) -> str:
        """Name that stays the same while the slice and its variant stay: gpu0/4g@0:B3."""
        return f"gpu{self.gpu}/{self.placement}:{self.variant}"


@dataclass(frozen=True, slots=True)
class ClusterConfiguration:
    """One configuration per GPU; parked GPUs are explicit."""

    gpus: tuple[GpuConfiguration, ...]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances, by GPU and start."""
        places = ((g, item) for g, gpu in enumerate(self.gpus) for item in gpu.placed)
        return tuple(
            Instance(number, g, item.placement, item.variant) for number, (g, item) in enumerate(places)
        )

    @property
    def active(self) -> int:
        """GPUs that are not parked."""
        return sum(not gpu.parked for gpu in self.gpus)

    @property
    def canonical(self) -> ClusterConfiguration:
        """The same work with GPUs in a fixed order, parked ones last: equal for interchangeable GPUs."""
        return ClusterConfiguration(tuple(sorted(self.gpus, key=lambda gpu: (gpu.parked, gpu))))

    @property
    def graph(self) -> Counter[tuple[str, str]]:
        """Clover's configuration graph: (variant, slice) -> number of instances."""
        return Counter((item.variant, item.placement.slice) for gpu in self.gpus for item in gpu.placed)

    def distance(self, other: ClusterConfiguration) -> int:
        """Total weight change between the two graphs (Clover's Manhattan distance)."""
        mine, theirs = self.graph, other.graph
        return sum(abs(mine[edge] - theirs[edge]) for edge in mine.keys() | theirs.keys())

    def check(self, profile: Profile) -> None:
        """Refuse what the GPU model cannot hold.

        Raises:
            InputError: an impossible layout, or a variant on a slice it does not fit.
        """
        for index, gpu in enumerate(self.gpus):
            Layout.of(profile.gpu, gpu.layout.placements)
            for item in gpu.placed:
                profile.application.variant(item.variant)
                if not profile.fits(item.variant, profile.gpu.slice_type(item.placement.slice)):
                    raise InputError(
                        f"variant `{item.variant}` does not fit a {item.placement.slice} slice",
                        where=f"GPU {index}",
                        fix=f"choose a pair that profile `{profile.name}` has numbers for",
                    )

    def __str__(self) -> str:
        return " | ".join(map(str, self.gpus))

    @classmethod
    def parse(cls, text: str, profile: Profile) -> ClusterConfiguration:
        """Inverse of `str`.

        Raises:
            InputError: not such a text, or a configuration that the profile refuses.
        """
        configuration = cls(tuple(_parse_gpu(part.strip(), profile) for part in text.split("|")))
        configuration.check(profile)
        return configuration

    @classmethod
    def uniform(cls, gpu: GpuConfiguration, active: int, gpus: int) -> ClusterConfiguration:
        """`active` GPUs alike, the rest parked."""
        return cls((gpu,) * active + (GpuConfiguration(),) * (gpus - active))

    def on_at_most(self, gpus: int) -> ClusterConfiguration:
        """The same on no more GPUs than there are (at least one), those that come first; the rest parked."""
        if self.active <= gpus:
            return self
        kept = tuple(gpu for gpu in self.gpus if not gpu.parked)[: max(gpus, 1)]
        return ClusterConfiguration(kept + (GpuConfiguration(),) * (len(self.gpus) - len(kept)))

    @classmethod
    def parked(cls, gpus: int) -> ClusterConfiguration:
        """All GPUs parked."""
        return cls((GpuConfiguration(),) * gpus)

    def label(self) -> str:
        """Short text for people: 2x[4g:B3 3g:B1] + 2 parked."""
        counts = Counter(self.canonical.gpus)
        parts = []
        for gpu, count in counts.items():
            if gpu.parked:
                parts.append(f"{count} parked")
            else:
                groups = Counter((item.placement.slice, item.variant) for item in gpu.placed)
                inner = " ".join(
                    f"{f'{n}*' if n > 1 else ''}{name}:{variant}"
                    for (name, variant), n in sorted(groups.items(), reverse=True)
                )
                parts.append(f"{count}x[{inner}]")
        return " + ".join(parts)


def _parse_gpu(text: str, profile: Profile) -> GpuConfiguration:
    if text == "parked":
        return GpuConfiguration()
    placed: Iterable[PlacedVariant]
    try:
        placed = []
        for item in text.split("+"):
            place, variant = item.split(":")
            name, start = place.split("@")
            placed.append(
                PlacedVariant(Placement(int(start), profile.gpu.slice_type(name).size, name), variant)
            )
    except ValueError:
        raise InputError(
            f"`{text}` is no configuration of a GPU", fix="write it as 4g@0:B3+3g@4:B1, or parked"
        ) from None
    return GpuConfiguration(tuple(sorted(placed)))
