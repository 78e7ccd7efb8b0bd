"""How fast a recipe learns: the share of headroom after its budget, beside that after a longer one.

    python -m benchmarks.learning h100-efficientnet --seed 0 --seed 1

Each seed is trained twice, one core a run and all runs of a budget side by side. Shares are those of the
validation episodes (training split, event level). Also shown: when a run first came within 0.02 of its best.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from clover_rl.agents.train.recipe import load_recipe
from clover_rl.agents.train.trainer import train
from clover_rl.envs.scenario import load_scenario

__all__ = ["main", "reached_s"]

NEAR = 0.02


def reached_s(history: Sequence[dict[str, Any]]) -> float:
    """Seconds until a run's best share so far was within NEAR of the best of all."""
    shares = [entry["headroom_share"] for entry in history]
    best = max(shares)
    return next(e["seconds"] for e, share in zip(history, shares, strict=True) if share >= best - NEAR)


def _trained(scenario: str, recipe: str, seconds: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        train(load_scenario(scenario), load_recipe(recipe, seconds=seconds), Path(folder), seed=seed)
        history = json.loads((Path(folder) / "training.json").read_text(encoding="utf-8"))["history"]
    return {
        "seed": seed,
        "budget_s": seconds,
        "best_share": max(entry["headroom_share"] for entry in history),
        "reached_s": reached_s(history),
        "shares": [round(entry["headroom_share"], 3) for entry in history],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print one JSON line a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("scenario")
    parser.add_argument("--recipe", default="pretrained")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; 0 and 1 when left out")
    parser.add_argument("--seconds", type=float, action="append", help="budgets; 180 and 600 when left out")
    asked = parser.parse_args(arguments)
    seeds = asked.seed or [0, 1]
    load_scenario(asked.scenario).model()  # its table is built once, before the processes ask for it
    with ProcessPoolExecutor(len(seeds)) as processes:
        for seconds in asked.seconds or [180.0, 600.0]:
            runs = [processes.submit(_trained, asked.scenario, asked.recipe, seconds, seed) for seed in seeds]
            for run in runs:
                print(json.dumps(run.result()), flush=True)


if __name__ == "__main__":
    main()
