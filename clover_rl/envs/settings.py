"""EpisodeSettings: what may differ between episodes, beyond the scenario."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from clover_rl.control.budget import check_budget
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import Split
from clover_rl.errors import InputError

__all__ = ["ActionKind", "EpisodeSettings", "Fidelity", "Forecast"]

Fidelity = Literal["table", "event"]
ActionKind = Literal["catalogue", "factored"]
Forecast = Literal["persistence", "typical-day", "blurred"]


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """Constructor arguments of the environments that say how an episode is drawn and played.

    Attributes:
        split: "train" or "test": which grids and load shapes signals are generated from.
        fidelity: "table" (steady state, fast) or "event" (every request).
        actions: "catalogue" or "factored".
        w: fixed weight of carbon; None draws one per episode, log-uniformly within the scenario's range.
        accuracy_budget: share of BASE's accuracy that may be lost a day, in place of a weight: a budget
            keeper moves w within the day.
        sla: multiple of the scenario's SLA, fixed; or two, between which each episode draws its own.
        forecast: of carbon; None takes the scenario's.
        maintenance_per_week: announced outages of one GPU, expected per week of the cluster's time.
        losses_per_week: sudden ones, whose instances are gone at once.
        outage_hours: mean length of an outage, h.
        perturbation: service times, energy and interference are off by factors that the model does not know,
            each drawn log-uniformly between 1 / (1 + p) and 1 + p.
        bin_multiples: bins of a generated load are this many times the scenario's `load.bin_s`; of several,
            each episode draws one, since recorded loads come in bins of any length and a policy must notice.
        days: length of an episode in days of the signals; None takes the scenario's.

    Raises:
        InputError: an argument is outside its values.
    """

    split: Split = "train"
    fidelity: Fidelity = "table"
    actions: ActionKind = "catalogue"
    w: float | None = None
    accuracy_budget: float | None = None
    sla: float | tuple[float, float] | None = None
    forecast: Forecast | None = None
    maintenance_per_week: float = 0.0
    losses_per_week: float = 0.0
    outage_hours: float = 2.0
    perturbation: float = 0.0
    bin_multiples: int | tuple[int, ...] = 1
    days: float | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> EpisodeSettings:
        """From the keyword arguments of an environment's constructor.

        Raises:
            InputError: an unknown name, or a value outside its range.
        """
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                raise InputError(f"unknown argument `{name}`", fix=f"use {', '.join(known)}")
        try:
            return cls(**arguments)
        except TypeError as error:
            raise InputError(f"an argument has the wrong type ({error})", fix="see EpisodeSettings") from None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name, value, allowed in (
            ("split", self.split, ("train", "test")),
            ("fidelity", self.fidelity, ("table", "event")),
            ("action kind", self.actions, ("catalogue", "factored")),
            ("forecast", self.forecast, (None, "persistence", "typical-day", "blurred")),
        ):
            if value not in allowed:
                choices = ", ".join(str(item) for item in allowed if item is not None)
                raise InputError(f"unknown {name} `{value}`", fix=f"use one of {choices}")
        if self.w is not None and not 0.0 < self.w < 1.0:
            raise InputError(f"w is {self.w:g}", fix="use a weight above 0 and below 1, or None to draw it")
        if self.accuracy_budget is not None:
            check_budget(self.accuracy_budget)
            if self.w is not None:
                raise InputError("both w and an accuracy budget are given", fix="leave one of them out")
        low, high = self.sla_range
        if not 0.1 <= low <= high <= 10.0:
            raise InputError(
                f"sla is {self.sla}",
                fix="give a multiple of the scenario's SLA from 0.1 to 10, or two in order",
            )
        for name in ("maintenance_per_week", "losses_per_week"):
            if not 0.0 <= getattr(self, name) <= 1000.0:
                raise InputError(f"{name} is {getattr(self, name):g}", fix="give 0 to 1000")
        if not 0.0 < self.outage_hours < math.inf:
            raise InputError(f"outage_hours is {self.outage_hours:g}", fix="give a number above 0")
        if not 0.0 <= self.perturbation <= 1.0:
            raise InputError(f"perturbation is {self.perturbation:g}", fix="give a share from 0 to 1")
        if not self.bins or not all(isinstance(k, int) and 1 <= k <= 1000 for k in self.bins):
            raise InputError(
                f"bin_multiples is {self.bin_multiples!r}",
                fix="give a whole number from 1 to 1000, or several",
            )
        if self.days is not None and not 0.0 < self.days < math.inf:
            raise InputError(f"an episode of {self.days:g} days", fix="use a number of days above 0")

    @property
    def sla_range(self) -> tuple[float, float]:
        """Multiples of the scenario's SLA between which an episode draws its own."""
        if self.sla is None:
            return 1.0, 1.0
        if isinstance(self.sla, int | float):
            return float(self.sla), float(self.sla)
        try:
            low, high = (float(value) for value in self.sla)
        except (TypeError, ValueError):
            raise InputError(
                f"sla is {self.sla!r}", fix="give one multiple of the scenario's SLA, or two"
            ) from None
        return low, high

    @property
    def bins(self) -> tuple[int, ...]:
        """Multiples of the scenario's bins that episodes draw from."""
        several = self.bin_multiples
        return (several,) if isinstance(several, int) else tuple(several)

    @property
    def outages(self) -> bool:
        """Whether GPUs may be taken away."""
        return self.maintenance_per_week + self.losses_per_week > 0.0

    def length(self, scenario: Scenario) -> tuple[float, int]:
        """Days and steps of an episode.

        Raises:
            InputError: no step fits.
        """
        days = scenario.episode.days if self.days is None else self.days
        steps = round(days * 86_400.0 / (scenario.interval_s * scenario.time_scale))
        if steps < 1:
            raise InputError(f"an episode of {days:g} days has no step", fix="make it longer")
        return days, steps
