"""clover-rl live-compare: controllers' days on a real card, beside the simulator's prediction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import command_line, note, number, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.envs.scenario import Scenario
    from clover_rl.envs.signals import EpisodeSignals
    from clover_rl.simulation.model import ClusterModel

__all__ = ["live_compare"]

MOST_PROCESSES = 44
"""MPS serves 48 clients a card (NVIDIA's MPS documentation); some are left for what nobody foresaw."""


def live_compare(
    scenario: str = typer.Argument("h100-live", help="Shipped name or YAML file."),
    policy: str | None = typer.Option(None, help="Bundle of the trained policy, or name of a shipped one."),
    controllers: str = typer.Option("base,static,search,annealing,policy", help="Who, in the order of days."),
    partition: str = typer.Option("mps", help="emulated, mps or mig."),
    devices: str = typer.Option("0", help="Cards, as 0,1 or UUIDs; none for emulated."),
    carbon: Path | None = typer.Option(None, help="Carbon trace; a generated one when left out."),
    load: Path | None = typer.Option(None, help="Load trace; a generated one when left out."),
    start: float = typer.Option(0.0, min=0.0, help="Seconds into the carbon trace."),
    w: float = typer.Option(0.1, help="Weight of carbon, above 0 and below 1."),
    seed: int = typer.Option(0, min=0, help="Of arrivals and generated traces."),
    out: Path = typer.Option(Path("runs/live-compare"), help="Folder of results; a run goes on from there."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Serve the same day under each controller on one card, beside what the simulator predicted."""
    import asyncio

    from clover_rl.agents.bundle import open_bundle
    from clover_rl.agents.shipped import resolve_bundle
    from clover_rl.cli.extras import require
    from clover_rl.cli.models import model_of
    from clover_rl.envs.scenario import load_scenario
    from clover_rl.errors import InputError
    from clover_rl.serving.live.outcome import compared
    from clover_rl.serving.live.plan import Contest, needed_processes, predict
    from clover_rl.serving.live.run import LiveDay, run_live
    from clover_rl.serving.partition.select import PartitionSettings

    require("serve", "grpc", "grpc_health", "grpc_reflection", "onnxruntime", "prometheus_client")
    if not 0.0 < w < 1.0:
        raise InputError(f"--w is {w:g}", fix="use a weight above 0 and below 1")
    bundle = open_bundle(resolve_bundle(policy)) if policy else None
    chosen = load_scenario(scenario)
    cards = PartitionSettings(partition, tuple(filter(None, devices.split(","))))
    cards.check(chosen.gpus)
    file = out / "live.json"
    document = _before(file, {"scenario": chosen.to_dict(), "w": w, "seed": seed, "partition": partition})
    names = [name for name in controllers.split(",") if name and name not in document["days"]]
    model = model_of(chosen)
    if names:
        contest = Contest.of(
            chosen,
            model,
            _signals(chosen, model, carbon, load, start, seed),
            names=names,
            bundle=bundle,
            w=w,
            seed=seed,
        )
        note("predicting every controller's day")
        predicted = predict(contest)
        prepared = needed_processes(model, predicted, MOST_PROCESSES)

        def done(name: str, day: LiveDay) -> None:
            document["days"][name] = compared(day, predicted[name], model)
            document["command"] = command_line()
            file.write_text(json.dumps(document))

        with progress_bar("serving") as bar:
            asyncio.run(
                run_live(contest, cards, _fresh(out), prepared=prepared, report=_told(bar), done=done)
            )
    _picture(document, model.sla_ms, out / "live.png")
    if json_:
        print_json(document)
        return
    _print(document)
    note(f"written: {file} and {out / 'live.png'}")


def _before(file: Path, identity: dict[str, Any]) -> dict[str, Any]:
    from clover_rl.errors import InputError

    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        return {**identity, "days": {}}
    found: dict[str, Any] = json.loads(file.read_text())
    if any(found.get(key) != value for key, value in identity.items()):
        raise InputError("holds days of another comparison", where=str(file), fix="name another --out folder")
    return found


def _signals(
    scenario: Scenario, model: ClusterModel, carbon: Path | None, load: Path | None, start: float, seed: int
) -> EpisodeSignals:
    import numpy as np

    from clover_rl.agents.windows import file_windows
    from clover_rl.envs.signals import draw_signals
    from clover_rl.errors import InputError

    if carbon and load:
        (window,) = file_windows(
            scenario, model, carbon=[carbon], load=[load], start_s=start, days=1.0, seed=seed
        )
        if window.steps < round(86_400.0 / (scenario.interval_s * scenario.time_scale)):
            raise InputError(
                "the traces are shorter than a step and a day",
                where=f"{carbon.name}, {load.name}",
                fix="use longer ones",
            )
        return window.signals
    if carbon or load:
        raise InputError("one trace is given and the other is not", fix="give both --carbon and --load")
    return draw_signals(scenario, model.baseline.capacity, "test", 1.0, np.random.default_rng([seed, 4]))


def _fresh(out: Path) -> Path:
    """A new folder for the server's state: a ledger would be gone on with."""
    number = sum(1 for _ in out.glob("server-*"))
    return out / f"server-{number}"


def _told(bar: Any) -> Any:
    import sys

    def tell(share: float, remark: str) -> None:
        bar(share, remark)
        if not sys.stderr.isatty():
            note(f"{100.0 * share:3.0f} % {remark}")

    return tell


def _print(document: dict[str, Any]) -> None:
    from clover_rl.serving.live.outcome import order_of

    days = document["days"]
    rows = []
    for name, day in days.items():
        for side in ("measured", "predicted"):
            found = day[side]
            rows.append(
                [
                    f"{name}, {side}",
                    number(found["objective"], 4),
                    number(found["energy_j_per_request"], 2),
                    number(found["p95_ms"], 1),
                    number(1000.0 * found["carbon_g_per_request"], 3),
                    number(found["accuracy"], 4),
                    number(found["sla_held"], 2),
                    f"{found['transitions']:.4g}",
                    f"{found['requests']:.0f}",
                    str(day["client"]["lost"]) if side == "measured" else "-",
                ]
            )
    print_table(
        f"a day under each controller, w = {document['w']:g}",
        [
            *("controller", "objective", "J/request", "p95 ms", "mg CO2/request", "accuracy", "SLA held"),
            *("transitions", "requests", "lost"),
        ],
        rows,
    )
    for side in ("measured", "predicted"):
        typer.echo(f"order by objective, {side}: {', '.join(order_of(days, side))}")


def _picture(document: dict[str, Any], sla_ms: float, path: Path) -> None:
    try:
        from clover_rl.cli.live_compare_figure import draw_days

        draw_days(document["days"], sla_ms, path)
    except ImportError:
        note("no picture: matplotlib is not installed")
