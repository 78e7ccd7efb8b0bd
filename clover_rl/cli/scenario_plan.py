"""clover-rl scenario plan: the steps of a transition, and what it is expected to cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from clover_rl.cli.chosen import SCENARIO, SETTINGS, chosen_scenario
from clover_rl.cli.output import command_line, number, print_json, print_table

if TYPE_CHECKING:
    from clover_rl.cluster.configuration import ClusterConfiguration
    from clover_rl.envs.scenario import Scenario

__all__ = ["plan"]


def plan(
    scenario: str = SCENARIO,
    source: str = typer.Argument(help='Now, GPU by GPU: "4g@0:B3+3g@4:B1 | parked", or base, or co2opt.'),
    target: str = typer.Argument(help="Wanted, in the same form."),
    rate: float | None = typer.Option(
        None, help="Load meanwhile, requests/s; half of BASE's capacity when left out."
    ),
    window_s: float | None = typer.Option(
        None, help="Time over which p95 and energy are compared; the plan's length when left out."
    ),
    settings: list[str] = SETTINGS,
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Plan a transition: steps with times, and predicted cost in capacity, latency and energy."""
    from clover_rl.cluster.objective import BaseLine
    from clover_rl.cluster.planner import plan_transition
    from clover_rl.simulation.physics import Physics
    from clover_rl.simulation.transition_cost import predict_transition

    chosen = chosen_scenario(scenario, settings)
    profile = chosen.loaded_profile
    load = 0.5 * BaseLine.of(profile, chosen.gpus).capacity if rate is None else rate
    before, after = (_configuration(text, chosen) for text in (source, target))
    made = plan_transition(before, after, profile, load_rps=load)
    cost = predict_transition(made, Physics(profile), load, timeout_s=chosen.timeout_s, window_s=window_s)
    if json_:
        print_json(
            {"scenario": chosen.name, "command": command_line(), "rate": load, "kind": "modelled"}
            | {"plan": made.to_dict(), "start_times_s": list(made.start_times_s), "cost": asdict(cost)}
        )
        return
    print_table(
        f"{before.label()} -> {made.target.label()}: {len(made.steps)} steps, {made.duration_s:.1f} s",
        ["step", "GPU", "slice", "variant", "from, s", "takes, s", "after"],
        [
            [
                f"{index} {step.what}",
                str(step.gpu),
                str(step.placement),
                step.variant or "",
                number(start, 2),
                number(step.duration_s, 2),
                ", ".join(map(str, step.needs)),
            ]
            for index, (step, start) in enumerate(zip(made.steps, made.start_times_s, strict=True))
        ],
    )
    print_table(
        f"predicted at {load:.1f} requests/s over {cost.window_s:.1f} s (modelled): least capacity "
        f"{cost.least_capacity_rps:.1f} requests/s, {cost.unserved:.0f} requests must wait for it",
        ["", "p95, ms", "energy, J", "timed out"],
        [
            [name, number(part.p95_ms, 1), number(part.energy_j, 0), number(part.timed_out, 0)]
            for name, part in (
                ("moving", cost.moving),
                ("staying", cost.staying),
                ("there already", cost.there),
            )
        ],
    )


def _configuration(text: str, scenario: Scenario) -> ClusterConfiguration:
    from clover_rl.cluster.choices import base_configuration, co2opt_configuration
    from clover_rl.cluster.configuration import ClusterConfiguration
    from clover_rl.errors import InputError

    profile = scenario.loaded_profile
    named = {"base": base_configuration, "co2opt": co2opt_configuration}
    if text in named:
        return named[text](profile, scenario.gpus)
    found = ClusterConfiguration.parse(text, profile)
    if len(found.gpus) != scenario.gpus:
        raise InputError(
            f"`{text}` has {len(found.gpus)} GPUs and scenario `{scenario.name}` {scenario.gpus}",
            fix='name each, as "7g@0:B7 | parked"',
        )
    return found
