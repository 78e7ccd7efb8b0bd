"""Profiles and applications as YAML files: the schema, validation and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from clover_rl.cluster.application import Application, TensorSpec, Variant
from clover_rl.cluster.frozen import FrozenMapping
from clover_rl.cluster.gpu import CATALOGUE, gpu_model
from clover_rl.cluster.profile import Interference, PowerModel, Profile, TransitionTimes
from clover_rl.cluster.provenance import Provenance, ProvenanceKind
from clover_rl.errors import InputError
from clover_rl.yamlfile import find_yaml, load_model, shipped_names

__all__ = ["application_names", "load_application", "load_profile", "profile_names"]


def _no_switch(value: object) -> object:
    # YAML's yes, no, on and off are booleans, and a boolean would pass for 1 or 0.
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Number = Annotated[float, BeforeValidator(_no_switch)]
_APPLICATIONS = CATALOGUE / "applications"
_PROFILES = CATALOGUE / "profiles"

Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[Number, Field(ge=0, allow_inf_nan=False)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Banded(_File):
    band: tuple[Positive, Positive] | None = None

    @field_validator("band")
    @classmethod
    def _holds_the_number(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and not band[0] <= 1.0 <= band[1]:
            raise ValueError(
                "expected two multiples of the number, the lower at most 1, the upper at least 1"
            )
        return band


class _Provenance(_Banded):
    kind: ProvenanceKind
    source: str = Field(min_length=3)

    def value(self) -> Provenance:
        return Provenance(self.kind, self.source, self.band)


class _Exception(_Banded):
    """Where one number differs from its group; the source is the group's unless it has its own."""

    kind: ProvenanceKind
    source: str | None = Field(default=None, min_length=3)

    def value(self, group: _Provenance) -> Provenance:
        return Provenance(self.kind, self.source or group.source, self.band)


class _Tensor(_File):
    name: str
    datatype: Literal["BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"]
    shape: list[int] = Field(min_length=1)

    def value(self) -> TensorSpec:
        return TensorSpec(self.name, self.datatype, tuple(self.shape))


class _Variant(_File):
    accuracy: Annotated[Positive, Field(le=1)]
    model: str | None = None
    entry_point: str | None = None


class _Application(_File):
    name: str
    title: str
    metric: str
    request: str
    accuracy_provenance: _Provenance
    variants: dict[str, _Variant] = Field(min_length=1)
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    folder: str | None = None
    idempotent: bool = True


class _Power(_File):
    parked_w: NonNegative
    idle_w: Positive
    limit_w: Positive
    slowdown_exponent: NonNegative = 0.0
    provenance: _Provenance
    parts: dict[Literal["parked_w", "idle_w", "limit_w", "slowdown_exponent"], _Exception] = {}

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.parked_w <= self.idle_w < self.limit_w:
            raise ValueError("expected parked_w <= idle_w < limit_w")
        return self


class _PerSlice(_File):
    values: dict[str, Annotated[dict[str, Positive], Field(min_length=1)]] = Field(min_length=1)
    provenance: _Provenance
    pairs: dict[str, dict[str, _Exception]] = {}

    @model_validator(mode="after")
    def _pairs_have_numbers(self) -> Self:
        for variant, row in self.pairs.items():
            for slice_name in row:
                if slice_name not in self.values.get(variant, {}):
                    raise ValueError(
                        f"pairs.{variant}.{slice_name} says where a number comes from that is missing"
                    )
        return self

    def exceptions(self, group: str) -> dict[str, Provenance]:
        """Own entries of pairs: `group.variant.slice` -> provenance."""
        return {
            f"{group}.{variant}.{slice_name}": entry.value(self.provenance)
            for variant, row in self.pairs.items()
            for slice_name, entry in row.items()
        }


class _PerVariant(_File):
    values: dict[str, Positive] = Field(min_length=1)
    provenance: _Provenance


class _Interference(_File):
    sensitivity: dict[str, NonNegative]
    pressure: dict[str, NonNegative]
    sms: dict[str, PositiveInt]
    gpu_sms: PositiveInt
    own_exponent: Annotated[NonNegative, Field(le=1)] = 0.0
    provenance: _Provenance


class _Times(_File):
    create_s: NonNegative
    destroy_s: NonNegative
    load_s: dict[str, NonNegative]
    create_provenance: _Provenance
    load_provenance: _Provenance


class _Jitter(_File):
    cv: NonNegative
    provenance: _Provenance


class _Profile(_File):
    name: str
    gpu: str
    application: str
    partition: Literal["mps", "mig", "emulated"]
    service_ms: _PerSlice
    energy_j: _PerSlice
    memory_mib: _PerVariant
    jitter: _Jitter
    power: _Power
    interference: _Interference | None = None
    times: _Times


def application_names() -> tuple[str, ...]:
    """Names of the applications shipped."""
    return shipped_names(_APPLICATIONS)


def profile_names() -> tuple[str, ...]:
    """Names of the profiles shipped."""
    return shipped_names(_PROFILES)


def load_application(name: str, *, near: Path | None = None) -> Application:
    """An application by the name it is shipped under, or from a YAML file.

    Args:
        name: shipped name, or path of a `.yaml` file.
        near: folder that a relative path starts from.

    Raises:
        InputError: unknown name, or a file that is wrong.
    """
    return _read_application(find_yaml(name, _APPLICATIONS, "application", near=near))


def _read_application(path: Path) -> Application:
    file = load_model(path, _Application)
    provenance = file.accuracy_provenance.value()
    variants = {
        key: Variant(key, entry.accuracy, provenance, entry.model, entry.entry_point)
        for key, entry in file.variants.items()
    }
    accuracies = [variant.accuracy for variant in variants.values()]
    if accuracies != sorted(accuracies):
        raise InputError(
            "key `variants`: expected variants from the least to the most accurate",
            where=str(path),
            fix="reorder them",
        )
    return Application(
        name=file.name,
        title=file.title,
        metric=file.metric,
        request=file.request,
        variants=FrozenMapping(variants),
        inputs=tuple(tensor.value() for tensor in file.inputs),
        outputs=tuple(tensor.value() for tensor in file.outputs),
        folder=file.folder,
        idempotent=file.idempotent,
    )


def load_profile(name: str, *, near: Path | None = None) -> Profile:
    """A profile by the name it is shipped under, or from a YAML file.

    Args:
        name: shipped name, or path of a `.yaml` file.
        near: folder that a relative path starts from.

    Raises:
        InputError: unknown name, or a file that is wrong: the sentence names file and key.
    """
    path = find_yaml(name, _PROFILES, "profile", near=near)
    file = load_model(path, _Profile)
    where = str(path)
    application = _read_application(
        find_yaml(file.application, _APPLICATIONS, "application", near=path.parent, where=where)
    )
    try:
        gpu = gpu_model(file.gpu)
    except InputError as error:
        raise InputError(f"key `gpu`: {error.what}", where=where, fix=error.fix) from None
    for key, rows in (("service_ms", file.service_ms.values), ("energy_j", file.energy_j.values)):
        _check_variants(rows, application, f"{key}.values", where)
        for variant, row in rows.items():
            for slice_name in row:
                if slice_name not in gpu.slices:
                    raise InputError(
                        f"key `{key}.values.{variant}.{slice_name}`: unknown slice type",
                        where=where,
                        fix=f"use one of {', '.join(gpu.slices)}",
                    )
    for variant, row in file.service_ms.values.items():
        if row.keys() != file.energy_j.values[variant].keys():
            raise InputError(
                f"key `energy_j.values.{variant}`: expected the same slices as `service_ms`",
                where=where,
                fix="give both numbers for each slice",
            )
    _check_variants(file.memory_mib.values, application, "memory_mib.values", where)
    _check_variants(file.times.load_s, application, "times.load_s", where)
    law = file.interference
    if law:
        _check_variants(law.sensitivity, application, "interference.sensitivity", where)
        _check_variants(law.pressure, application, "interference.pressure", where)
        for slice_name in sorted({name for row in file.service_ms.values.values() for name in row}):
            if slice_name not in law.sms:
                raise InputError(
                    f"key `interference.sms.{slice_name}` is missing",
                    where=where,
                    fix="give the SMs of every slice that `service_ms` names",
                )
    provenance = {
        "service": file.service_ms.provenance.value(),
        "energy": file.energy_j.provenance.value(),
        "memory": file.memory_mib.provenance.value(),
        "jitter": file.jitter.provenance.value(),
        "power": file.power.provenance.value(),
        "create": file.times.create_provenance.value(),
        "load": file.times.load_provenance.value(),
        "accuracy": application.largest.accuracy_provenance,
        **file.service_ms.exceptions("service"),
        **file.energy_j.exceptions("energy"),
        **{f"power.{name}": item.value(file.power.provenance) for name, item in file.power.parts.items()},
    }
    if law:
        provenance["interference"] = law.provenance.value()
    profile = Profile(
        name=file.name,
        gpu=gpu,
        application=application,
        service_s={v: {s: ms / 1000 for s, ms in row.items()} for v, row in file.service_ms.values.items()},
        energy_j=file.energy_j.values,
        memory_mib=file.memory_mib.values,
        jitter_cv=file.jitter.cv,
        power=PowerModel(
            file.power.parked_w, file.power.idle_w, file.power.limit_w, file.power.slowdown_exponent
        ),
        interference=(
            Interference(law.sensitivity, law.pressure, law.sms, law.gpu_sms, law.own_exponent)
            if law
            else None
        ),
        times=TransitionTimes(file.times.create_s, file.times.destroy_s, file.times.load_s),
        provenance=FrozenMapping(provenance),
        partition=file.partition,
    )
    for variant in application.variants:
        if not any(profile.fits(variant, slice_type) for slice_type in gpu.slices.values()):
            raise InputError(
                f"key `memory_mib.values.{variant}`: variant `{variant}` "
                f"({profile.memory_mib[variant]:g} MiB) fits no slice of {gpu.name}",
                where=where,
                fix="remove the variant or choose a larger GPU model",
            )
    if not profile.fits(application.largest.name, gpu.slices["7g"]):
        raise InputError(
            f"BASE needs variant `{application.largest.name}` on the slice 7g, which has no numbers here",
            where=where,
            fix="add that pair to `service_ms` and `energy_j`",
        )
    return profile


def _check_variants(rows: object, application: Application, key: str, where: str) -> None:
    names = set(rows)  # type: ignore[call-overload]
    if names != set(application.variants):
        wrong = sorted(names ^ set(application.variants))
        raise InputError(
            f"key `{key}`: expected exactly the variants of `{application.name}`, "
            f"which differ in {', '.join(wrong)}",
            where=where,
            fix="list each variant once",
        )
