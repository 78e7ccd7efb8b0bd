"""Placement and Layout: which slices can stand together on one GPU, by enumeration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from clover_rl.cluster.gpu import COMPUTE_SLICES, MEMORY_SLICES, GpuModel, SliceType
from clover_rl.errors import InputError

__all__ = ["PARKED", "Layout", "Placement", "enumerate_layouts", "maximal_layouts", "multiset_layouts"]


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """A slice at its place: it takes the memory slices from `start` to `start + size - 1`."""

    start: int
    size: int
    slice: str

    def __str__(self) -> str:
        return f"{self.slice}@{self.start}"


@dataclass(frozen=True, slots=True, order=True)
class Layout:
    """The placed slices of one GPU, by start; without any slice the GPU is parked."""

    placements: tuple[Placement, ...] = ()

    @classmethod
    def of(cls, model: GpuModel, placements: Iterable[Placement]) -> Layout:
        """A layout that MIG accepts on this model.

        Raises:
            InputError: a slice stands where it may not, slices overlap, they need too many compute slices, or
                more than one has the media engines.
        """
        layout = cls(tuple(sorted(placements)))
        reach = 0
        compute = 0
        media = 0
        for placement in layout.placements:
            slice_type = model.slice_type(placement.slice)
            if placement.start not in slice_type.starts or placement.size != slice_type.size:
                raise InputError(
                    f"a {placement.slice} slice cannot start at memory slice {placement.start}",
                    where=model.name,
                    fix=f"start it at one of {', '.join(map(str, slice_type.starts))}",
                )
            if placement.start < reach:
                raise InputError(
                    f"slice {placement} overlaps the one before it", where=model.name, fix="move one of them"
                )
            reach = placement.start + placement.size
            compute += slice_type.compute
            media += slice_type.media
        if compute > COMPUTE_SLICES:
            raise InputError(
                f"the layout takes {compute} compute slices of {COMPUTE_SLICES}",
                where=model.name,
                fix="remove a slice",
            )
        if media > 1:
            raise InputError(
                f"{media} slices ask for the media engines, which only one can have",
                where=model.name,
                fix="leave one, and make the others 1g",
            )
        return layout

    @property
    def multiset(self) -> tuple[str, ...]:
        """Names of the slices, largest first, places left aside."""
        return tuple(sorted((p.slice for p in self.placements), key=_largest_first))

    def __str__(self) -> str:
        return "+".join(map(str, self.placements)) or "parked"


PARKED = Layout()


def _largest_first(name: str) -> tuple[int, str]:
    return (-int(name[0]), name)


def _places(slice_types: Sequence[SliceType]) -> list[tuple[Placement, int, bool]]:
    return sorted(
        (Placement(start, slice_type.size, slice_type.name), slice_type.compute, slice_type.media)
        for slice_type in slice_types
        for start in slice_type.starts
    )


@lru_cache(maxsize=64)
def enumerate_layouts(model: GpuModel, slices: tuple[str, ...] | None = None) -> tuple[Layout, ...]:
    """Every layout of a GPU model, parked and non-maximal ones included, in a fixed order.

    Args:
        model: the GPU model.
        slices: names of the slice types allowed; the model's default set when left out.
    """
    types = model.default_slices if slices is None else tuple(model.slice_type(name) for name in slices)
    places = _places(types)
    found: list[Layout] = []

    def extend(chosen: tuple[Placement, ...], first: int, reach: int, compute: int, media: bool) -> None:
        found.append(Layout(chosen))
        for index in range(first, len(places)):
            placement, cost, takes_media = places[index]
            if placement.start < reach or compute + cost > COMPUTE_SLICES or (media and takes_media):
                continue
            end = placement.start + placement.size
            if end <= MEMORY_SLICES:
                extend((*chosen, placement), index + 1, end, compute + cost, media or takes_media)

    extend((), 0, 0, 0, False)
    return tuple(sorted(found))


@lru_cache(maxsize=64)
def maximal_layouts(model: GpuModel, slices: tuple[str, ...] | None = None) -> tuple[Layout, ...]:
    """The layouts to which no slice can be added."""
    layouts = enumerate_layouts(model, slices)
    known = {frozenset(layout.placements) for layout in layouts}
    smaller = {members - {member} for members in known for member in members}
    return tuple(layout for layout in layouts if frozenset(layout.placements) not in smaller)


@lru_cache(maxsize=64)
def multiset_layouts(model: GpuModel, slices: tuple[str, ...] | None = None) -> tuple[Layout, ...]:
    """One maximal layout for each distinct multiset of slices: the first in order."""
    by_multiset: dict[frozenset[tuple[str, int]], Layout] = {}
    for layout in maximal_layouts(model, slices):
        by_multiset.setdefault(frozenset(Counter(layout.multiset).items()), layout)
    return tuple(by_multiset.values())
