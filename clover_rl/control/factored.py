"""FactoredCodec: actions as a vector of choices: active GPUs, layout, variant per slice type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clover_rl.cluster.choices import Catalogue
from clover_rl.cluster.configuration import GpuConfiguration
from clover_rl.cluster.geometry import multiset_layouts
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError

__all__ = ["FactoredCodec"]


@dataclass(frozen=True)
class FactoredCodec:
    """A MultiDiscrete action: (GPUs in use - 1, layout, variant on 7g, on 4g, on 3g, on 2g, on 1g).

    The variants of slice types that the layout lacks are ignored, so several vectors may mean the same
    configuration; `encode` gives the one with zeros there.

    Attributes:
        layouts: multisets of slices, in order.
        slices: slice types, in the order of the vector.
        variants: variants, in order.
        gpus: GPUs of the cluster.
        indices: of the configuration in the full catalogue, -1 where a variant does not fit, shape `nvec`.
    """

    layouts: tuple[tuple[str, ...], ...]
    slices: tuple[str, ...]
    variants: tuple[str, ...]
    gpus: int
    indices: NDArray[np.int32]

    @classmethod
    def of(cls, profile: Profile, catalogue: Catalogue) -> FactoredCodec:
        """The codec of a full homogeneous catalogue."""
        gpus = len(catalogue[0].gpus)
        layouts = multiset_layouts(profile.gpu)
        slices = tuple(item.name for item in profile.gpu.default_slices)
        variants = tuple(profile.application.variants)
        known: dict[tuple[int, GpuConfiguration], int] = {}
        for index, item in enumerate(catalogue.configurations):
            known[item.active, next(gpu for gpu in item.gpus if not gpu.parked)] = index
        shape = (gpus, len(layouts), *(len(variants),) * len(slices))
        indices = np.full(shape, -1, np.int32)
        for number, layout in enumerate(layouts):
            for chosen in np.ndindex(*shape[2:]):
                names = {name: variants[v] for name, v in zip(slices, chosen, strict=True)}
                gpu = GpuConfiguration.of(layout, {name: names[name] for name in layout.multiset})
                for active in range(1, gpus + 1):
                    indices[(active - 1, number, *chosen)] = known.get((active, gpu), -1)
        return cls(tuple(layout.multiset for layout in layouts), slices, variants, gpus, indices)

    @property
    def nvec(self) -> tuple[int, ...]:
        """How many choices each number of the vector has."""
        return self.indices.shape

    def decode(self, actions: ArrayLike) -> NDArray[np.intp]:
        """Indices in the full catalogue, shape (...,) for vectors of shape (..., 2 + slices); -1 where none.

        Raises:
            InputError: not such a vector, or a number outside its choices.
        """
        vectors = np.asarray(actions)
        if vectors.shape[-1:] != (len(self.nvec),) or not np.issubdtype(vectors.dtype, np.integer):
            raise InputError(
                f"a factored action is {len(self.nvec)} whole numbers, not {vectors.dtype} {vectors.shape}",
                fix=f"choose each below {list(self.nvec)}",
            )
        if ((vectors < 0) | (vectors >= np.array(self.nvec))).any():
            raise InputError(
                "a number of a factored action is outside its choices",
                fix=f"choose each below {list(self.nvec)}",
            )
        found: NDArray[np.int32] = self.indices[tuple(np.moveaxis(vectors, -1, 0))]
        return np.asarray(found, np.intp)

    def encode(self, index: int) -> NDArray[np.int64]:
        """A vector that means a configuration of the full catalogue.

        Raises:
            InputError: no such configuration.
        """
        found = self._vectors.get(index)
        if found is None:
            raise InputError(f"configuration {index} is not in the catalogue", fix="use one that is")
        return np.array(found, np.int64)

    @cached_property
    def _vectors(self) -> dict[int, tuple[int, ...]]:
        vectors: dict[int, tuple[int, ...]] = {}
        for place in np.ndindex(*self.nvec):
            index = int(self.indices[place])
            if index >= 0:
                vectors.setdefault(index, place)
        return vectors

    @cached_property
    def _static(self) -> list[NDArray[np.bool_]]:
        """Allowed layouts, and variants of each slice type, whatever the state."""
        fits = self.indices >= 0
        variants = []
        for axis, name in enumerate(self.slices):
            used = fits[:, [name in layout for layout in self.layouts]]
            others = tuple(a for a in range(fits.ndim) if a != axis + 2)
            allowed: NDArray[np.bool_] = np.asarray(used.any(axis=others))
            variants.append(allowed if allowed.any() else np.ones_like(allowed))
        layouts: NDArray[np.bool_] = np.asarray(fits.any(axis=(0, *range(2, fits.ndim))))
        return [layouts, *variants]

    def masks_for(self, available: NDArray[np.int64]) -> NDArray[np.bool_]:
        """One flat row per number of usable GPUs, shape (n, sum of nvec), as MaskablePPO reads them.

        Every vector of allowed numbers is a configuration that may be chosen; one GPU is always allowed.
        """
        active = np.arange(1, self.gpus + 1)[None, :] <= np.maximum(available, 1)[:, None]
        rest = np.broadcast_to(np.concatenate(self._static), (len(active), sum(map(len, self._static))))
        return np.concatenate([active, rest], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "layouts": [list(layout) for layout in self.layouts],
            "slices": list(self.slices),
            "variants": list(self.variants),
            "gpus": self.gpus,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], profile: Profile, catalogue: Catalogue) -> FactoredCodec:
        """Inverse of `to_dict`, against the profile and the full catalogue it belongs to.

        Raises:
            InputError: it belongs to another profile.
        """
        codec = cls.of(profile, catalogue)
        if _plain(codec.to_dict()) != _plain(content):
            raise InputError("the factored actions are those of another profile", fix="use its own")
        return codec


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
