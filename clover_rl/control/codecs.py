"""ObservationCodec and ActionCodec: states to vectors and actions to configurations, written once for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.choices import Catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS, RATE_LAGS, ControlState
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["ActionCodec", "Features", "Field", "ObservationCodec"]

Floats = NDArray[np.float64]


class Features(NamedTuple):
    """Raw physical quantities of n states, before scaling; each of shape (n, k)."""

    intensity: Floats
    intensity_past: Floats
    intensity_forecast: Floats
    rate: Floats
    clock: Floats
    configuration: Floats
    available: Floats
    p95_over_sla: Floats
    queued: Floats
    log_w: Floats
    log_sla: Floats


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the observation: clip((raw - offset) / scale, low, high), `size` numbers.

    Attributes:
        name: as in Features.
        unit: of the raw quantity.
        size: how many numbers.
        offset, scale: declared constants in the raw unit; nothing is learned from data.
        low, high: bounds after scaling.
        about: what the numbers are, in order.
    """

    name: str
    unit: str
    size: int
    offset: float
    scale: float
    low: float
    high: float
    about: str


@dataclass(frozen=True)
class ObservationCodec:
    """Encodes states as flat float32 vectors.

    Attributes:
        fields: in the order of the vector.
        slots: (variant, slice) pairs whose instances are counted, in order.
        gpus: GPUs of the cluster.
        base_sla_ms: SLA that `log_sla` is relative to, ms.
    """

    fields: tuple[Field, ...]
    slots: tuple[tuple[str, str], ...]
    gpus: int
    base_sla_ms: float

    @classmethod
    def of(cls, model: ClusterModel, *, reference_g_per_kwh: float, interval_s: float) -> ObservationCodec:
        """The codec of a model."""
        profile = model.profile
        slots = tuple(
            (variant, slice_type.name)
            for variant in profile.application.variants
            for slice_type in profile.gpu.default_slices
            if profile.fits(variant, slice_type)
        )
        capacity = model.baseline.capacity
        reference = reference_g_per_kwh
        past = ", ".join(f"{hours:g} h" for hours in PAST_HOURS)
        ahead = ", ".join(f"{hours:g} h" for hours in FORECAST_HOURS)
        pairs = ", ".join(f"{variant} on {name}" for variant, name in slots)
        fields = (
            Field("intensity", "gCO2/kWh", 1, 0.0, reference, 0.0, 8.0, "now"),
            Field("intensity_past", "gCO2/kWh", len(PAST_HOURS), 0.0, reference, 0.0, 8.0, f"{past} ago"),
            Field(
                "intensity_forecast", "gCO2/kWh", len(FORECAST_HOURS), 0.0, reference, 0.0, 8.0, f"in {ahead}"
            ),
            Field(
                "rate", "requests/s", RATE_LAGS, 0.0, capacity, 0.0, 3.0, "completed intervals, latest first"
            ),
            Field("clock", "1", 4, 0.0, 1.0, -1.0, 1.0, "sine and cosine of the hour of day and of the week"),
            Field(
                "configuration",
                "instances per GPU",
                len(slots) + 1,
                0.0,
                1.0,
                0.0,
                7.0,
                f"{pairs}; then the share of GPUs not parked",
            ),
            Field("available", "share of GPUs", 1, 0.0, 1.0, 0.0, 1.0, "that may be used now"),
            Field("p95_over_sla", "1", 1, 0.0, 1.0, 0.0, 3.0, "last completed interval"),
            Field("queued", "requests", 1, 0.0, capacity * interval_s, 0.0, 1.0, "waiting now"),
            Field("log_w", "log10", 1, -1.3, 0.75, -3.0, 3.0, "weight of carbon"),
            Field("log_sla", "log2", 1, 0.0, 1.0, -3.0, 3.0, "SLA relative to the scenario's"),
        )
        return cls(fields, slots, model.gpus, model.sla_ms)

    @cached_property
    def size(self) -> int:
        """Numbers in an observation."""
        return sum(field.size for field in self.fields)

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds, each of shape (size,)."""
        low, high = (
            [getattr(f, side) for f in self.fields for _ in range(f.size)] for side in ("low", "high")
        )
        return np.array(low, np.float32), np.array(high, np.float32)

    def configuration_features(self, configuration: ClusterConfiguration) -> Floats:
        """Instances per GPU for each slot, and the share of GPUs not parked, shape (k,)."""
        graph = configuration.graph
        counts = [graph[slot] / self.gpus for slot in self.slots]
        return np.array([*counts, configuration.active / self.gpus], np.float64)

    def features(self, state: ControlState) -> Features:
        """One state as raw quantities, n = 1."""
        last = state.last
        sla = state.objective.sla_ms
        return Features(
            intensity=np.array([[state.intensity]]),
            intensity_past=np.array([state.intensity_past]),
            intensity_forecast=np.array([state.intensity_forecast]),
            rate=np.array([state.rates]),
            clock=clock_features(np.array([state.hour_of_week])),
            configuration=self.configuration_features(state.configuration)[None],
            available=np.array([[sum(state.available) / self.gpus]]),
            p95_over_sla=np.array([[last.p95_ms / sla if last else 0.0]]),
            queued=np.array([[float(last.queued) if last else 0.0]]),
            log_w=np.array([[math.log10(state.objective.w)]]),
            log_sla=np.array([[math.log2(sla / self.base_sla_ms)]]),
        )

    def encode_features(self, features: Features, out: NDArray[np.float32]) -> None:
        """Scale n states into `out`, shape (n, size)."""
        offset, scale, low, high = self.scales
        whole = np.concatenate([getattr(features, field.name) for field in self.fields], axis=1)
        out[:] = np.minimum(np.maximum((whole - offset) / scale, low), high)

    def encode_field(self, name: str, raw: Floats) -> NDArray[np.float32]:
        """Raw quantities of one field, any shape, scaled and clipped."""
        field = next(item for item in self.fields if item.name == name)
        return np.clip((raw - field.offset) / field.scale, field.low, field.high).astype(np.float32)

    @cached_property
    def starts(self) -> dict[str, int]:
        """Where each field begins in the vector."""
        ends = itertools.accumulate(field.size for field in self.fields)
        return {field.name: end - field.size for field, end in zip(self.fields, ends, strict=True)}

    @cached_property
    def scales(self) -> Floats:
        """Offset, scale, lower and upper bound of each number of the vector, shape (4, size)."""
        columns = [(f.offset, f.scale, f.low, f.high) for f in self.fields for _ in range(f.size)]
        return np.array(columns, np.float64).T.copy()

    def encode(self, state: ControlState, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """One state as a vector of shape (size,), written into `out` where given."""
        target = np.empty(self.size, np.float32) if out is None else out
        self.encode_features(self.features(state), target[None])
        return target

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "fields": [asdict(field) for field in self.fields],
            "slots": [list(slot) for slot in self.slots],
            "gpus": self.gpus,
            "base_sla_ms": self.base_sla_ms,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ObservationCodec:
        """Inverse of `to_dict`.

        Raises:
            InputError: keys are missing or fields are not those of this version.
        """
        try:
            fields = tuple(Field(**field) for field in content["fields"])
            slots = tuple((str(variant), str(name)) for variant, name in content["slots"])
            codec = cls(fields, slots, int(content["gpus"]), float(content["base_sla_ms"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the observation fields cannot be read ({error})", fix="export the policy again"
            ) from None
        if tuple(field.name for field in fields) != Features._fields:
            raise InputError(
                "the observation fields are not those of this version", fix="export the policy again"
            )
        return codec


def clock_features(hour_of_week: Floats) -> Floats:
    """Sine and cosine of the hour of day and of the week, shape (n, 4)."""
    day = hour_of_week * (2.0 * math.pi / 24.0)
    week = hour_of_week * (2.0 * math.pi / 168.0)
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=-1)


@dataclass(frozen=True)
class ActionCodec:
    """Actions are indices into a catalogue."""

    catalogue: Catalogue

    @property
    def catalogue_hash(self) -> str:
        """Hash that a bundle and a server must agree on."""
        return self.catalogue.hash

    @cached_property
    def active(self) -> NDArray[np.int64]:
        """GPUs that each action uses, shape (n,)."""
        return np.array([item.active for item in self.catalogue.configurations], np.int64)

    def decode(self, action: int) -> ClusterConfiguration:
        """The configuration that an action stands for.

        Raises:
            InputError: no such action.
        """
        if not 0 <= action < len(self.catalogue):
            raise InputError(
                f"action {action} is outside the catalogue", fix=f"use 0 to {len(self.catalogue) - 1}"
            )
        return self.catalogue[action]

    def encode(self, configuration: ClusterConfiguration) -> int:
        """The action that stands for a configuration.

        Raises:
            InputError: it is not in the catalogue.
        """
        index = self.catalogue.index(configuration)
        if index is None:
            raise InputError(
                f"`{configuration.label()}` is not in the catalogue", fix="choose one of its configurations"
            )
        return index

    def masks_for(self, available: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Allowed actions for numbers of usable GPUs, shape (n, actions); no row is all false.

        With no GPU usable the configurations with fewest GPUs stay allowed.
        """
        least = int(self.active.min())
        return self.active[None, :] <= np.maximum(available, least)[:, None]

    def masks(self, state: ControlState) -> NDArray[np.bool_]:
        """Allowed actions of one state, shape (actions,)."""
        return np.asarray(self.masks_for(np.array([sum(state.available)]))[0])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        texts = [str(item) for item in self.catalogue.configurations]
        return {"catalogue": texts, "catalogue_hash": self.catalogue_hash}


def texts_hash(texts: Sequence[str]) -> str:
    """Hash of a catalogue given as texts, without parsing it."""
    import hashlib

    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
