"""What is wrong, or strange, with a scenario, said in plain sentences."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import BaseModel, ValidationError

from clover_rl.cluster.planner import plan_transition
from clover_rl.envs.findings import Finding, fine, warning, wrong
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel
from clover_rl.yamlfile import error_sentences, load_mapping

__all__ = ["FEW_CHOICES", "FEW_REQUESTS", "FEW_STEPS", "file_findings", "scenario_findings"]

FEW_CHOICES = 4
"""With fewer configurations there is hardly anything to learn."""
FEW_REQUESTS = 40
"""With fewer requests an interval, its p95 rests on fewer than two slower ones."""
FEW_STEPS = 12
BASE_SLACK = 0.03
"""By so much BASE may miss the peak: where the SLA is its own p95 there, noise of the table decides."""


def file_findings(path: Path) -> list[Finding]:
    """Everything wrong with a scenario's file and with the profile and application that it names.

    Empty when it can be used.
    """
    try:
        content = load_mapping(path)
    except InputError as error:
        return [wrong("file", str(error))]
    try:
        scenario = Scenario.model_validate(content | {"folder": path.resolve().parent})
    except ValidationError as error:
        sentences = [
            f"{path}: {text}{_meant(item['loc'])}" if item["type"] == "extra_forbidden" else f"{path}: {text}"
            for text, item in zip(error_sentences(error), error.errors(), strict=True)
        ]
        return [wrong("file", f"{text}.") for text in sentences]
    try:
        _ = scenario.loaded_profile, scenario.sci
    except InputError as error:
        return [wrong("profile", f"{path}: {error}")]
    return []


def _meant(location: tuple[int | str, ...]) -> str:
    """The known keys that an unknown one may have been meant for."""
    model: type[BaseModel] = Scenario
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return ""
        model = inner[0]
    known = [name for name in model.model_fields if name != "folder"]
    near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(known)}"


def scenario_findings(scenario: Scenario, model: ClusterModel) -> list[Finding]:
    """What of a scenario that loads will not work as its author may think.

    All figures are modelled, from the scenario's own profile and table.
    """
    found = [
        *_latency(scenario, model),
        *_choices(scenario, model),
        *_transitions(scenario, model),
        *_episode(scenario),
    ]
    if found:
        return found
    return [
        fine(
            "scenario",
            f"{len(model.catalogue)} configurations, SLA {model.sla_ms:.3g} ms, load up to "
            f"{_peak(scenario, model):.3g} requests/s; `clover-rl scenario headroom` says what can be won.",
        )
    ]


def _peak(scenario: Scenario, model: ClusterModel) -> float:
    """The load's 99th percentile, requests/s."""
    return scenario.load.peak_share * model.baseline.capacity


def _latency(scenario: Scenario, model: ClusterModel) -> list[Finding]:
    p95, capacity, sla = model.table.p95_ms, model.table.capacity, model.sla_ms
    grid = np.linspace(0.0, 1.0, p95.shape[1])
    fastest = float(p95[:, 1].min())
    found = []
    if scenario.timeout_s * 1000.0 < sla:
        found.append(
            wrong(
                "timeout",
                f"Requests are given up after {scenario.timeout_s:g} s, before the SLA of {sla:.3g} ms is "
                "over, so the SLA is never broken by waiting alone; raise `timeout_s`.",
            )
        )
    if fastest > sla:
        return [
            *found,
            wrong(
                "sla",
                f"No configuration keeps the SLA of {sla:.3g} ms, not even with almost no load: the fastest "
                f"has a p95 of {fastest:.3g} ms. Raise `sla_ms`, or leave it out to take BASE's p95.",
            ),
        ]
    kept = capacity * np.where(p95 <= sla, grid[None, :], 0.0).max(axis=1)
    peak, most, base = _peak(scenario, model), float(kept.max()), float(kept[model.base])
    if most < peak:
        found.append(
            wrong(
                "load",
                f"At the load's peak of {peak:.3g} requests/s no configuration keeps the SLA of {sla:.3g} ms "
                f"(the best does up to {most:.3g}), so every controller breaks it every day. Lower "
                "`load.peak_share`, raise `sla_ms`, or add GPUs.",
            )
        )
    elif base < (1.0 - BASE_SLACK) * peak:
        found.append(
            warning(
                "base",
                f"BASE keeps the SLA only up to {base:.3g} requests/s, and the load's peak is {peak:.3g}: "
                "savings are measured against a rival that breaks its promise. Lower `load.peak_share` or "
                "raise `sla_ms`.",
            )
        )
    requests = 0.5 * peak * scenario.interval_s
    if requests < FEW_REQUESTS:
        found.append(
            warning(
                "interval",
                f"About {requests:.0f} requests arrive in an interval at half the peak: its p95 is noise. "
                "Lengthen `interval_s`, or take more GPUs or a faster profile.",
            )
        )
    return found


def _choices(scenario: Scenario, model: ClusterModel) -> list[Finding]:
    found = []
    variants = model.profile.application.variants.values()
    if len(model.catalogue) < FEW_CHOICES:
        found.append(
            warning(
                "choices",
                f"Pruning leaves {len(model.catalogue)} of {model.full_size} configurations, so there is "
                "hardly anything to choose: the variants differ too little, or the SLA rules most out.",
            )
        )
    if len({variant.accuracy for variant in variants}) == 1 and len(variants) > 1:
        found.append(
            warning(
                "accuracy", "All variants have the same accuracy, so the cheapest always wins; check them."
            )
        )
    if scenario.gpus == 1:
        found.append(
            warning(
                "gpus",
                "With one GPU nothing can be parked, which on larger clusters is most of what is saved.",
            )
        )
    return found


def _transitions(scenario: Scenario, model: ClusterModel) -> list[Finding]:
    if model.co2opt == model.base:
        return []
    plan = plan_transition(model.catalogue[model.base], model.catalogue[model.co2opt], model.profile)
    if plan.duration_s <= scenario.interval_s:
        return []
    return [
        warning(
            "transitions",
            f"Going from BASE to CO2OPT takes {plan.duration_s:.3g} s, longer than an interval of "
            f"{scenario.interval_s:g} s; a controller that decides so often is always in between. "
            "Lengthen `interval_s`.",
        )
    ]


def _episode(scenario: Scenario) -> list[Finding]:
    step_s = scenario.interval_s * scenario.time_scale
    steps = scenario.episode.days * 86_400.0 / step_s
    found = []
    if steps < FEW_STEPS:
        days = scenario.episode.days
        text = f"An episode of {days:g} days has {steps:.1f} steps of {step_s:g} s of the signals"
        found.append(
            (wrong if round(steps) < 1 else warning)(
                "episode", f"{text}; lengthen `episode.days` or shorten `interval_s`."
            )
        )
    elif scenario.episode.days < 1.0:
        found.append(
            warning(
                "episode",
                f"An episode of {scenario.episode.days:g} days never sees a whole day, and with it neither "
                "night nor noon of some; lengthen `episode.days` unless that is meant.",
            )
        )
    return found
