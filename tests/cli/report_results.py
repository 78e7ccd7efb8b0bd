"""Results as `evaluate --out` writes them, made up: every figure has something to show."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

CONTROLLERS = {"base": 1.0, "static": 0.6, "search": 0.55, "annealing": 0.8, "policy": 0.52, "oracle": 0.5}
"""Controller -> carbon over BASE's."""
REGIONS = ("US-CA <July>", "GB $April$")
WEIGHTS = (0.05, 0.1)
HOURS = 48
CONDITIONS = ({"service": 1.2, "energy": 1.2}, {"outage_hours": 4.0})


def disturbed(conditions: dict[str, Any], controllers: dict[str, Any]) -> dict[str, Any]:
    """A row under conditions; everybody holds the SLA less often."""
    kept = ("objective", "carbon_g_per_request", "base_carbon_g_per_request", "accuracy_loss")
    changed = {
        name: {key: figures[key] for key in kept} | {"sla_held": 0.97, "headroom_share": None}
        for name, figures in controllers.items()
    }
    return {"conditions": conditions, "controllers": changed}


def course(region: int, share: float) -> dict[str, list[Any]]:
    hours = range(HOURS)
    swing = [1.0 if hour < 24 else 2.0 for hour in hours]
    wave = [math.sin(2 * math.pi * hour / 24) for hour in hours]
    return {
        "hour": list(hours),
        "intensity": [250 + 50 * region + 60 * s * x for s, x in zip(swing, wave, strict=True)],
        "rate": [100 + 60 * x for x in wave],
        "p95_over_sla": [None if hour == 3 else 0.6 + 0.6 * share * wave[hour] for hour in hours],
        "active_gpus": [2 if x > 0 else 1 for x in wave],
        "energy_w": [900 * share] * HOURS,
        "carbon_g": [300 * share + 40 * x for x in wave],
        "accuracy": [0.8] * HOURS,
        "configuration": ["2x[4g:B5 3g:B3]" if x > 0 else "1x[7*1g:B1] + 1 parked" for x in wave],
    }


def document(scenario: str = "h100-efficientnet") -> dict[str, Any]:
    windows = []
    for region, name in enumerate(REGIONS):
        for w in WEIGHTS:
            controllers: dict[str, Any] = {}
            for order, (controller, share) in enumerate(CONTROLLERS.items()):
                carbon = share * (1.1 - w)
                headroom = None if region and w == 0.1 else {"annealing": -7.5}.get(controller, 0.2 * order)
                controllers[controller] = {
                    "objective": 0.01 * order,
                    "carbon_g_per_request": 1.0 if controller == "base" else carbon,
                    "base_carbon_g_per_request": 1.0,
                    "accuracy_loss": 0.0 if controller == "base" else 0.2 * w * (1 + region),
                    "p95_over_sla": 0.5,
                    "sla_held": 0.999,
                    "transitions": 10,
                    "live_trials": 4,
                    "decision_us": 90.0,
                    "headroom_share": headroom,
                    "saving": {
                        "total": 1 - carbon,
                        "consolidation": 0.5 * (1 - carbon),
                        "partitioning": 0.1 * (1 - carbon),
                        "variants": 0.3 * (1 - carbon),
                        "following_load": 0.15 * (1 - carbon),
                        "following_carbon": -0.05 * (1 - carbon),
                    },
                    "run": f"{region}-{w:g}-{controller}".replace(".", "_"),
                }
            row = {"carbon": name, "load": "m-large", "w": w, "sla_ms": 110.0, "gap": 0.004}
            windows.append(row | {"conditions": {}, "controllers": controllers})
            if not region and w == WEIGHTS[0]:
                windows += [row | disturbed(each, controllers) for each in CONDITIONS]
    equal = [
        {
            "carbon": name,
            "load": "m-large",
            "window": region,
            "conditions": {},
            "accuracy_loss": 0.02,
            "controllers": {"policy": {"carbon_g_per_request": 0.51, "saved": 0.49}, "search": None},
        }
        for region, name in enumerate(REGIONS)
    ]
    return {
        "equal_accuracy": equal,
        "scenario": scenario,
        "scenario_definition": {"name": scenario, "profile": "h100-efficientnet"},
        "command": "clover-rl evaluate h100-efficientnet --out results",
        "seed": 1,
        "versions": {"python": "3.11.7", "clover-rl": "0.1.0"},
        "margins": {"oracle": 0.1},
        "intensity_kind": "average direct",
        "windows": windows,
    }


def tiny() -> dict[str, Any]:
    """One window at one weight, for tests that are about something else."""
    content = document()
    return content | {"windows": content["windows"][:1]}


def training(seed: int = 3) -> dict[str, Any]:
    history = [
        {
            "seconds": second,
            "states": 100 * second,
            "phase": "clone" if second < 40 else "exact",
            "headroom_share": 0.8 - 2.0 * math.exp(-second / 30),
            "objective": 0.01,
        }
        for second in range(5, 181, 15)
    ]
    return {"seed": seed, "seconds": 180.0, "command": "clover-rl train", "history": history, "versions": {}}


def write_results(folder: Path, content: dict[str, Any], *, runs: bool = True) -> Path:
    (folder / "runs").mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content))
    regions = list(dict.fromkeys(row["carbon"] for row in content["windows"]))
    for row in content["windows"]:
        for name, figures in row["controllers"].items():
            if runs and "run" in figures:
                about = {
                    "knows": "what a test knows",
                    "time_scale": 1.0,
                    "start_hour_of_week": 31.0,
                    "series": course(regions.index(row["carbon"]), CONTROLLERS.get(name, 0.5)),
                }
                (folder / "runs" / f"{figures['run']}.json").write_text(json.dumps(about))
    return folder
