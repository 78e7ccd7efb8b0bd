"""Scenario: everything that defines an environment, in one YAML file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from clover_rl.cluster.carbon import EmbodiedCarbon, SciAccount
from clover_rl.cluster.objective import Objective
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.cluster.provenance import Provenance
from clover_rl.control.codecs import ActionCodec, ObservationCodec
from clover_rl.envs.scenario_parts import Carbon, Embodied, Episode, Load, Part, Penalty, Positive, Weights
from clover_rl.errors import InputError
from clover_rl.signals import (
    BlurredTruth,
    Forecaster,
    Persistence,
    TraceSignal,
    TypicalDay,
    read_carbon_csv,
    read_load_csv,
)
from clover_rl.simulation.model import ClusterModel, build_model
from clover_rl.yamlfile import find_yaml, load_mapping, shipped_names, validate_model

__all__ = ["Scenario", "load_scenario", "scenario_names"]

FOLDER = Path(__file__).parent / "scenarios"
DAY_S = 86_400.0

MOST_STEPS = 200_000
"""Of an episode; a year in intervals of 300 s has 105 120."""
MOST_BINS = 1_000_000
"""Of an episode's generated load."""


class Scenario(Part):
    """A scenario; every key with its default.

    Times are seconds. `embodied: {}` has SCI counted, with defaults.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
    """What commands and reports call it: lower-case letters, digits and hyphens."""
    title: Annotated[str, Field(min_length=1, max_length=200)]
    """One line for people."""
    profile: Annotated[str, Field(min_length=1, max_length=1000)]
    """Profile (GPU model, application, measured times and energies): a shipped name (`clover-rl profile
    list`), or the path of a YAML file relative to this file's folder."""
    gpus: Annotated[int, Field(ge=1, le=64)] = 4
    """GPUs of the cluster, all of one model."""
    interval_s: Annotated[float, Field(ge=0.001, le=604_800)] = 300.0
    """Time between decisions, s."""
    time_scale: Positive = 1.0
    """Seconds of the signals that pass in one second of the cluster; above 1 a day is compressed, and only
    the signals are."""
    pue: Annotated[float, Field(ge=1, le=5)] = 1.2
    """Power usage effectiveness: the data centre's energy over the GPUs'."""
    reference_g_per_kwh: Positive = 250.0
    """Intensity that carbon is set against in the objective, gCO2/kWh."""
    sla_ms: Positive | None = None
    """Bound on the p95, ms; BASE's own p95 at 80 % of its capacity when left out."""
    timeout_s: Annotated[float, Field(ge=0.001, le=86_400)] = 10.0
    """A request that waits longer is given up, s."""
    penalty: Penalty = Penalty()
    weights: Weights = Weights()
    load: Load = Load()
    carbon: Carbon = Carbon()
    embodied: Embodied | None = None
    episode: Episode = Episode()
    folder: SkipJsonSchema[Path | None] = Field(default=None, exclude=True, repr=False)
    """Where the file lies; set by `load_scenario`."""

    @model_validator(mode="after")
    def _episode_of_some_steps(self) -> Self:
        step = self.interval_s * self.time_scale
        steps = round(self.episode.days * DAY_S / step)
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(
                f"an episode of {self.episode.days:g} days has {steps} steps of {step:g} s of the signals, "
                f"and 1 to {MOST_STEPS} are possible: change `episode.days`, `interval_s` or `time_scale`"
            )
        bins = self.episode.days * DAY_S / self.load.bin_s
        if bins > MOST_BINS:
            raise ValueError(
                f"an episode of {self.episode.days:g} days has {bins:.0f} bins of load, and at most "
                f"{MOST_BINS} are possible: change `episode.days` or `load.bin_s`"
            )
        return self

    def __getstate__(self) -> dict[Any, Any]:
        """Without what was read from other files, which is read again where it is needed."""
        state = super().__getstate__()
        kept = {key: value for key, value in state["__dict__"].items() if key in type(self).model_fields}
        return {**state, "__dict__": kept}

    @cached_property
    def loaded_profile(self) -> Profile:
        """The profile; raises InputError where it is wrong."""
        return load_profile(self.profile, near=self.folder)

    @cached_property
    def carbon_traces(self) -> tuple[TraceSignal, ...]:
        """The user's own carbon files, read; raises InputError naming file and line where one is wrong."""
        return tuple(self.read_carbon(self.path_of(name)) for name in self.carbon.files)

    @cached_property
    def load_traces(self) -> tuple[TraceSignal, ...]:
        """The user's own load files, read; raises like `carbon_traces`."""
        return tuple(read_load_csv(self.path_of(name)) for name in self.load.files)

    @property
    def traces_hash(self) -> str:
        """Of what the user's own files hold; what is tuned on them is tuned anew when they change."""
        content = hashlib.sha256()
        for trace in (*self.carbon_traces, *self.load_traces):
            content.update(trace.kind.encode() + trace.times_s.tobytes() + trace.values.tobytes())
        return content.hexdigest()

    def read_carbon(self, path: Path) -> TraceSignal:
        """A carbon file as this scenario counts it; raises InputError where it is wrong."""
        return read_carbon_csv(path, kind=self.carbon.kind, utc_offset_h=self.carbon.utc_offset_h)

    def path_of(self, name: str) -> Path:
        """Where a file that the scenario names lies."""
        return (self.folder or Path()) / name

    def to_dict(self, *, absolute: bool = False) -> dict[str, Any]:
        """As plain JSON values; with `absolute`, the user's own files by their full paths."""
        content = self.model_dump(mode="json")
        if absolute:
            if self.folder is not None and self.path_of(self.profile).is_file():
                content["profile"] = str(self.path_of(self.profile))
            for part in ("carbon", "load"):
                content[part]["files"] = [str(self.path_of(n).resolve()) for n in content[part]["files"]]
        return content

    def to_public_dict(self) -> dict[str, Any]:
        """As plain JSON values for others to read: of files only the names."""
        content = self.to_dict()
        content["profile"] = Path(self.profile).name
        for part in ("carbon", "load"):
            content[part]["files"] = [Path(name).name for name in content[part]["files"]]
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
