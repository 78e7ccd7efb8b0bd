"""What `search` saves when it keeps more in reserve: carbon at equal accuracy loss, and the SLA held there.

The margin that `search` has in evaluations is that of the highest objective on training windows. Larger
ones break the SLA less often and save less; so a controller that saves less than `search` and holds the SLA
more often can be set beside the `search` that holds it as often.

    python -m benchmarks.reserve h100-efficientnet --carbon FILE --load FILE --start T
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.trace_window import trace_parser, trace_window
from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.equal_accuracy import LOSSES, at_loss
from clover_rl.agents.margins import FORECAST_MARGINS, search_for
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.runs import run_controller, summarise
from clover_rl.agents.shipped import resolve_bundle
from clover_rl.agents.windows import Window
from clover_rl.envs.scenario import Scenario

__all__ = ["main"]

WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def _run(
    scenario: Scenario, window: Window, policy: Path | None, task: tuple[str, float, float]
) -> dict[str, Any]:
    """One run: of the policy, or of `search` with a margin."""
    model = scenario.model()
    name, margin, w = task
    controller = (
        PolicyController(open_bundle(policy), model)
        if name == "policy" and policy
        else search_for(scenario, model, None, margin)
    )
    signals, steps, seed = window.signals, window.steps, window.seed
    records = run_controller(scenario, model, controller, signals, steps=steps, w=w, seed=seed)
    return asdict(summarise(records, model))


def _told(name: str, runs: Sequence[dict[str, Any]]) -> str:
    cells = [f"| {name} | {100 * min(run['sla_held'] for run in runs):.2f} |"]
    for loss in LOSSES[:2]:
        found = at_loss(runs, loss)
        cells.append(
            f" {100 * found['saved']:.1f} | {100 * found['sla_held']:.2f} |" if found else " - | - |"
        )
    cells.append(" " + " | ".join(f"{run['objective']:.4f}" for run in runs) + " |")
    return "".join(cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row for the policy and one for each margin."""
    parser = trace_parser("benchmarks.reserve", __doc__)
    parser.add_argument("--policy", help="name or file; the scenario's shipped one when left out")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args(arguments)
    scenario, window = trace_window(asked)
    policy = resolve_bundle(asked.policy or asked.scenario)
    rows = [("policy", 0.0), *(("search", margin) for margin in FORECAST_MARGINS)]
    tasks = [(name, margin, w) for name, margin in rows for w in WEIGHTS]
    with ProcessPoolExecutor(asked.jobs) as processes:
        results = list(processes.map(partial(_run, scenario, window, policy), tasks))
    print(
        "| controller, margin | SLA held %, least | saved % at 1 % loss | SLA held % there "
        "| saved % at 2 % loss | SLA held % there | objective at w = "
        + " | ".join(f"{w:g}" for w in WEIGHTS)
        + " |"
    )
    print("|" + " --- |" * (6 + len(WEIGHTS)))
    for at, (name, margin) in enumerate(rows):
        runs = results[at * len(WEIGHTS) : (at + 1) * len(WEIGHTS)]
        print(_told(name if name == "policy" else f"{name}, {margin:g}", runs))


if __name__ == "__main__":
    main()
