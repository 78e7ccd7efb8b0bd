"""Scenario: everything that defines an environment, in one YAML file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clover_rl.cluster.carbon import EmbodiedCarbon, SciAccount
from clover_rl.cluster.objective import Objective
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.cluster.provenance import Provenance
from clover_rl.control.codecs import ActionCodec, ObservationCodec
from clover_rl.errors import InputError
from clover_rl.signals import BlurredTruth, Forecaster, Persistence, TypicalDay
from clover_rl.simulation.model import ClusterModel, build_model
from clover_rl.yamlfile import find_yaml, load_mapping, shipped_names, validate_model

__all__ = ["Scenario", "load_scenario", "scenario_names"]

FOLDER = Path(__file__).parent / "scenarios"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object) -> object:
        # YAML's yes, no, on and off are booleans, and a boolean would pass for 1 or 0.
        if isinstance(value, bool):
            raise ValueError("expected no yes or no")
        return value


class Penalty(_Part):
    """a + b x min(p95 / SLA - 1, 2) when p95 > SLA."""

    base: NonNegative = 0.1
    slope: NonNegative = 0.5


class Weights(_Part):
    """Weights of carbon: the range drawn from in training, log-uniformly, and those reported."""

    low: Weight = 0.01
    high: Weight = 0.3
    evaluate: list[Weight] = Field(default=[0.02, 0.05, 0.10, 0.15], min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Weights:
        if self.low >= self.high:
            raise ValueError("expected low < high")
        return self


class Load(_Part):
    """How much load: its 99th percentile as a share of BASE's capacity; the bins it is given in, s."""

    peak_share: Annotated[float, Field(gt=0, le=2)] = 0.8
    bin_s: Positive = 300.0


class Carbon(_Part):
    """Which carbon intensity, and how it is forecast."""

    kind: Literal["average life-cycle", "average direct"] = "average life-cycle"
    forecast: Literal["persistence", "typical-day", "blurred"] = "blurred"


class Embodied(_Part):
    """Embodied carbon, counted beside operational carbon and never within it.

    A card's figure comes from its GPU model, unless `kg_per_gpu` gives one with its `source`. It is spread
    evenly over `lifetime_years`; 5 years is the useful life to which Amazon cut part of its servers in 2025
    because AI hardware ages faster (Form 10-K for 2024; Alphabet's and Microsoft's say six years).
    """

    lifetime_years: Annotated[float, Field(gt=0, le=50)] = 5.0
    kg_per_gpu: Positive | None = None
    source: Annotated[str, Field(min_length=3)] | None = None

    @model_validator(mode="after")
    def _sourced(self) -> Embodied:
        if (self.kg_per_gpu is None) != (self.source is None):
            raise ValueError("expected `kg_per_gpu` and `source` together")
        return self


class Episode(_Part):
    """Length of an episode in days of the signals."""

    days: Positive = 2.0


class Scenario(_Part):
    """A scenario; every key with its default.

    Times are seconds, `time_scale` says how many seconds of the signals pass in one second of the cluster:
    above 1 a day is compressed, and only the signals are. `embodied: {}` has SCI counted, with defaults.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    profile: str
    gpus: Annotated[int, Field(ge=1, le=64)] = 4
    interval_s: Positive = 300.0
    time_scale: Positive = 1.0
    pue: Annotated[float, Field(ge=1, le=5)] = 1.2
    reference_g_per_kwh: Positive = 250.0
    sla_ms: Positive | None = None
    timeout_s: Positive = 10.0
    penalty: Penalty = Penalty()
    weights: Weights = Weights()
    load: Load = Load()
    carbon: Carbon = Carbon()
    embodied: Embodied | None = None
    episode: Episode = Episode()
    folder: Path | None = Field(default=None, exclude=True, repr=False)

    def __getstate__(self) -> dict[Any, Any]:
        """Without the loaded profile, which is read again where it is needed."""
        state = super().__getstate__()
        kept = {key: value for key, value in state["__dict__"].items() if key != "loaded_profile"}
        return {**state, "__dict__": kept}

    @cached_property
    def loaded_profile(self) -> Profile:
        """The profile; raises InputError where it is wrong."""
        return load_profile(self.profile, near=self.folder)

    def to_dict(self, *, absolute: bool = False) -> dict[str, Any]:
        """As plain JSON values; with `absolute`, a profile file of the user's own by its full path."""
        content = self.model_dump(mode="json")
        if absolute and self.folder is not None and (self.folder / self.profile).is_file():
            content["profile"] = str(self.folder / self.profile)
        return content

    @property
    def sci(self) -> SciAccount | None:
        """How SCI is counted; None where the scenario leaves embodied carbon out.

        Raises:
            InputError: no embodied carbon is known of the GPU model, and the scenario gives none.
        """
        wanted = self.embodied
        if wanted is None:
            return None
        gpu = self.loaded_profile.gpu
        made = gpu.embodied
        if wanted.kg_per_gpu is not None and wanted.source is not None:
            made = EmbodiedCarbon(
                wanted.kg_per_gpu, "as the scenario says", Provenance("nominal", wanted.source)
            )
        if made is None:
            raise InputError(
                f"key `embodied`: no embodied carbon of {gpu.title} with a source is known",
                where=self.name,
                fix="give `kg_per_gpu` and `source`, or leave `embodied` out",
            )
        return SciAccount(self.carbon.kind, self.gpus, made, wanted.lifetime_years)

    def model(
        self, progress: Callable[[int, int], None] | None = None, *, pruned: bool = True
    ) -> ClusterModel:
        """The cluster model, from the cache where it is there.

        Args:
            progress: told (done, total) while it is built.
            pruned: False keeps the whole catalogue, as factored actions need it.
        """
        return build_model(
            self.loaded_profile,
            self.gpus,
            sla_ms=self.sla_ms,
            reference_g_per_kwh=self.reference_g_per_kwh,
            penalty=(self.penalty.base, self.penalty.slope),
            pruned=pruned,
            progress=progress,
        )

    def objective(self, model: ClusterModel, w: float, sla_ms: float | None = None) -> Objective:
        """The objective at a weight, with the scenario's SLA unless another is given."""
        return Objective(
            base=model.baseline,
            sla_ms=model.sla_ms if sla_ms is None else sla_ms,
            w=w,
            reference_g_per_kwh=self.reference_g_per_kwh,
            penalty_base=self.penalty.base,
            penalty_slope=self.penalty.slope,
        )

    def observation_codec(self, model: ClusterModel) -> ObservationCodec:
        """The codec of this scenario's observations."""
        return ObservationCodec.of(
            model, reference_g_per_kwh=self.reference_g_per_kwh, interval_s=self.interval_s
        )

    def action_codec(self, model: ClusterModel) -> ActionCodec:
        """The codec of this scenario's actions."""
        return ActionCodec(model.catalogue)

    def forecaster(self, rng: np.random.Generator) -> Forecaster:
        """The forecaster of carbon that the scenario names, seeded where it needs to be."""
        kind = self.carbon.forecast
        if kind == "blurred":
            return BlurredTruth(seed=int(rng.integers(2**31)))
        return TypicalDay() if kind == "typical-day" else Persistence()


def scenario_names() -> tuple[str, ...]:
    """Names of the scenarios shipped."""
    return shipped_names(FOLDER)


def load_scenario(name: str | Path | Scenario, **overrides: object) -> Scenario:
    """A scenario by the name it is shipped under, from a YAML file, or as it is.

    Args:
        name: shipped name, path of a `.yaml` file, or a Scenario.
        overrides: top-level keys in place of the file's.

    Raises:
        InputError: unknown name, or a file that is wrong: the sentence names file and key.
    """
    if isinstance(name, Scenario):
        if not overrides:
            return name
        content = name.model_dump() | overrides
        return validate_model(content | {"folder": name.folder}, Scenario, where=name.name)
    path = find_yaml(name, FOLDER, "scenario")
    folder = None if path.parent == FOLDER else path.resolve().parent
    content = load_mapping(path)
    if "folder" in content:
        raise InputError("unknown key `folder`", where=str(path), fix="correct that key")
    return validate_model(content | overrides | {"folder": folder}, Scenario, where=str(path))
