"""The parts of a scenario: what each nested key means, its unit, its range and its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["Carbon", "Embodied", "Episode", "Load", "Part", "Penalty", "Positive", "Weights"]

Positive = Annotated[float, Field(ge=0.001, le=1e6, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=1e-6, lt=1)]
Files = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=1000)]
TrainShare = Annotated[float, Field(ge=0, le=0.95)]


class Part(BaseModel):
    """Base of everything in a scenario: no unknown keys, no changes afterwards, no booleans for numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object) -> object:
        # YAML's yes, no, on and off are booleans, and a boolean would pass for 1 or 0.
        if isinstance(value, bool):
            raise ValueError("expected no yes or no")
        return value


class Penalty(Part):
    """What an interval over the SLA costs: base + slope × min(p95 / SLA - 1, 2)."""

    base: NonNegative = 0.1
    """For being over the SLA at all, in units of the objective."""
    slope: NonNegative = 0.5
    """For each SLA's worth that the p95 is above it, up to two."""


class Weights(Part):
    """Weights of carbon against accuracy, above 0 and below 1."""

    low: Weight = 0.01
    """Least weight drawn in training, log-uniformly."""
    high: Weight = 0.3
    """Largest weight drawn in training."""
    evaluate: Annotated[list[Weight], Field(min_length=1, max_length=50)] = [0.02, 0.05, 0.10, 0.15]
    """Weights that `evaluate` and `scenario headroom` report, and that margins are tuned for."""

    @model_validator(mode="after")
    def _ordered(self) -> Weights:
        if self.low >= self.high:
            raise ValueError("expected low < high")
        return self


class _Source(Part):
    """A signal that is generated, or comes from the user's own files."""

    files: Files = []
    """CSV files of your own, relative to this file's folder: the test split draws its episodes from them in
    place of generated signals."""
    train_share: TrainShare = 0.0
    """First share of each file that training draws from; testing then draws from the rest. 0: training stays
    on generated signals, and testing has the whole files."""

    def own(self, split: str) -> bool:
        """Whether a split draws from the files."""
        return bool(self.files) and (split == "test" or self.train_share > 0.0)


class Load(_Source):
    """How much load, and where it comes from: generated, or the user's own files."""

    peak_share: Annotated[float, Field(gt=0, le=2)] = 0.8
    """The load's 99th percentile as a share of BASE's capacity; every load is scaled to it."""
    bin_s: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """Bins of a generated load, s of the signals; within a bin arrivals are Poisson."""


class Carbon(_Source):
    """Which carbon intensity, where it comes from, and how it is forecast."""

    kind: Literal["average life-cycle", "average direct"] = "average life-cycle"
    """Kind that is counted; signals of another kind are refused, and files are taken to be of this one."""
    forecast: Literal["persistence", "typical-day", "blurred"] = "blurred"
    """`persistence`: the present value; `typical-day`: the mean of the same hour on the seven days before;
    `blurred`: the truth, wrong by one error path per issue time that grows with the horizon to 7.5, 17, 23
    and 25 % of mean absolute error on the first to fourth day."""
    utc_offset_h: Annotated[float, Field(ge=-12, le=14)] = 0.0
    """Local standard time of the files minus UTC, h; a policy sees the local hour."""


class Embodied(Part):
    """Embodied carbon, counted beside operational carbon and never within it.

    A card's figure comes from its GPU model, unless `kg_per_gpu` gives one with its `source`.
    """

    lifetime_years: Annotated[float, Field(gt=0, le=50)] = 5.0
    """Years over which it is spread evenly; 5 is the useful life to which Amazon cut part of its servers in
    2025 because AI hardware ages faster (Form 10-K for 2024; Alphabet's and Microsoft's say six years)."""
    kg_per_gpu: Positive | None = None
    """Embodied carbon of one GPU, kgCO2e; the GPU model's when left out."""
    source: Annotated[str, Field(min_length=3, max_length=1000)] | None = None
    """Where `kg_per_gpu` comes from; the two go together."""

    @model_validator(mode="after")
    def _sourced(self) -> Embodied:
        if (self.kg_per_gpu is None) != (self.source is None):
            raise ValueError("expected `kg_per_gpu` and `source` together")
        return self


class Episode(Part):
    """Length of an episode."""

    days: Annotated[float, Field(gt=0, le=400)] = 2.0
    """Days of the signals."""
