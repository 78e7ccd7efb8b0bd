"""GpuModel and SliceType: what a card is and into which slices MIG can cut it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

from clover_rl.cluster.carbon import EmbodiedCarbon
from clover_rl.cluster.frozen import FrozenMapping
from clover_rl.cluster.provenance import Provenance
from clover_rl.errors import InputError
from clover_rl.yamlfile import load_mapping

__all__ = ["COMPUTE_SLICES", "MEMORY_SLICES", "GpuModel", "SliceType", "gpu_model", "gpu_models"]

MEMORY_SLICES = 8
"""Memory slices of one card; placements count in them (NVIDIA MIG user guide)."""
COMPUTE_SLICES = 7
"""Compute slices of one card that instances may use together (NVIDIA MIG user guide)."""

CATALOGUE = Path(__file__).parent / "catalogue"


@dataclass(frozen=True, slots=True)
class SliceType:
    """One MIG profile of a GPU model.

    Attributes:
        name: short name, the same on every model: 7g, 4g, 3g, 2g, 1g, 1g.dm (double memory), 1g.me (media
            extensions, NVIDIA's `+me`).
        compute: compute slices taken, of 7.
        size: memory slices taken, of 8.
        starts: memory slices at which a slice of this type may begin.
        sms: streaming multiprocessors.
        memory_mib: memory, MiB.
        profile_id: NVML's GPU instance profile id.
        nvml_name: NVIDIA's name on this model, as 1g.10gb.
        optional: left out of the default set of slice types.
        media: a small slice that takes the card's one set of media engines (JPEG, optical flow) along; at
            most one such slice can exist on a GPU (NVIDIA MIG user guide).
    """

    name: str
    compute: int
    size: int
    starts: tuple[int, ...]
    sms: int
    memory_mib: int
    profile_id: int
    nvml_name: str
    optional: bool = False
    media: bool = False


@dataclass(frozen=True, slots=True)
class GpuModel:
    """A GPU model that MIG can cut.

    Attributes:
        name: short name.
        title: name for people.
        sms: streaming multiprocessors that MIG can use.
        slices: short name -> slice type, largest first.
        memory_provenance: where the slices' memory sizes come from.
        embodied: carbon of making a card; None where no figure with a source is known.
    """

    name: str
    title: str
    sms: int
    slices: Mapping[str, SliceType] = field(hash=False)
    memory_provenance: Provenance = field(hash=False)
    embodied: EmbodiedCarbon | None = None

    def slice_type(self, name: str) -> SliceType:
        """The slice type of that name.

        Raises:
            InputError: this model has no such slice type.
        """
        try:
            return self.slices[name]
        except KeyError:
            raise InputError(
                f"unknown slice type `{name}`", where=self.name, fix=f"use one of {', '.join(self.slices)}"
            ) from None

    @property
    def default_slices(self) -> tuple[SliceType, ...]:
        """The slice types in common use, largest first: 7g, 4g, 3g, 2g, 1g."""
        return tuple(slice_type for slice_type in self.slices.values() if not slice_type.optional)


@cache
def gpu_models() -> Mapping[str, GpuModel]:
    """All GPU models shipped, by name."""
    content = load_mapping(CATALOGUE / "gpus.yaml")["gpus"]
    models = {}
    for name, entry in content.items():
        slices = {
            slice_name: SliceType(
                name=slice_name,
                compute=row["compute"],
                size=row["size"],
                starts=tuple(row["start"]),
                sms=row["sms"],
                memory_mib=row["memory_mib"],
                profile_id=row["profile_id"],
                nvml_name=row["nvml_name"],
                optional=row.get("optional", False),
                media=row.get("media", False),
            )
            for slice_name, row in entry["slices"].items()
        }
        made = entry.get("embodied")
        models[name] = GpuModel(
            name=name,
            title=entry["title"],
            sms=entry["sms"],
            slices=FrozenMapping(slices),
            memory_provenance=Provenance(**entry["memory_provenance"]),
            embodied=made and EmbodiedCarbon(made["kg"], made["covers"], Provenance(**made["provenance"])),
        )
    return MappingProxyType(models)


def gpu_model(name: str) -> GpuModel:
    """The GPU model of that name.

    Raises:
        InputError: no such model is shipped.
    """
    models = gpu_models()
    if name not in models:
        raise InputError(f"unknown GPU model `{name}`", fix=f"use one of {', '.join(models)}")
    return models[name]
