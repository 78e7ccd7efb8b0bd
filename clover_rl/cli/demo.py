"""clover-rl demo: the whole loop on one machine: train, compare, export, serve, switch, report."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from clover_rl.cli.output import command_line, note, number, progress_bar

__all__ = ["demo"]

W = 0.05
WINDOWS = 20
WINDOW_DAYS = 7.0


def demo(
    out: Path = typer.Option(Path("clover-demo"), help="Folder of results; made when absent."),
    seconds: float = typer.Option(55.0, min=1.0, help="Training time."),
    seed: int = typer.Option(7, min=0, help="Of training, windows and the served day."),
) -> None:
    """Train a policy, compare it on unseen days, deploy it into a running server while requests flow."""
    from clover_rl.cli.extras import require

    require("demo", "torch", "sb3_contrib", "grpc", "tritonclient", "sklearn", "matplotlib")
    import numpy as np

    from clover_rl.agents.evaluate import evaluate
    from clover_rl.agents.train.export import export_run
    from clover_rl.agents.train.recipe import load_recipe
    from clover_rl.agents.train.trainer import train
    from clover_rl.agents.windows import generated_windows
    from clover_rl.cli.demo_day import serve_day
    from clover_rl.cli.demo_report import compared, write_report
    from clover_rl.cli.models import model_of
    from clover_rl.envs.scenario import load_scenario

    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    scenario = load_scenario("demo")
    note(f"1 of 5  {scenario.title}: building the table of all configurations")
    model = model_of(scenario)
    note(f"2 of 5  training for {seconds:g} s on generated days of five grids (tensorboard --logdir {out})")
    recipe = load_recipe("pretrained", seconds=seconds)
    with progress_bar("training") as advance:
        train(
            scenario,
            recipe,
            out / "run",
            seed=seed,
            command=command_line(),
            overwrite=True,
            report=lambda p: advance(p.share, f"{p.phase}, headroom {number(p.headroom_share, 2)}"),
        )
    bundle_path = out / "policy.clover"
    bundle = export_run(out / "run", bundle_path, name="demo")
    replay = bundle.replay()
    note(
        f"        exported to {bundle_path}: {replay.vectors} observations replayed, "
        f"{replay.near_ties} near ties"
    )
    note(f"3 of 5  comparing on {WINDOWS} unseen weeks of two grids that training never draws")
    windows = generated_windows(
        scenario, model, count=WINDOWS, days=WINDOW_DAYS, split="test", seed=seed + 1000
    )
    with progress_bar("comparing") as advance:
        evaluation = evaluate(
            scenario,
            model,
            windows,
            weights=[W],
            policies=[("policy", bundle)],
            progress=lambda done, total: advance(done / total, f"{done} of {total} runs"),
        )
    comparison = compared(evaluation)
    note(f"4 of 5  serving one day twice, first under annealing, then under the policy (w = {W:g})")
    with progress_bar("serving") as advance:
        day = serve_day(
            scenario,
            model,
            bundle_path,
            out,
            w=W,
            rng=np.random.default_rng([seed, 4]),
            report=advance,
        )
    note("5 of 5  results")
    write_report(scenario, model, day, comparison, out, w=W, seed=seed, command=command_line())
    note(f"done in {time.perf_counter() - began:.0f} s: {out}/summary.json, {out}/day.png, {bundle_path}")
