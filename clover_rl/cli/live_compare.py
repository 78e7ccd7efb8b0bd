"""clover-rl live-compare: controllers' days on a real card, beside the simulator's prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.chosen import SETTINGS, chosen_scenario
from clover_rl.cli.output import command_line, note, number, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from clover_rl.envs.scenario import Scenario
    from clover_rl.envs.signals import EpisodeSignals
    from clover_rl.serving.live.kept import Kept
    from clover_rl.serving.live.plan import Contest
    from clover_rl.serving.partition.select import PartitionSettings
    from clover_rl.simulation.model import ClusterModel

__all__ = ["live_compare"]

MOST_PROCESSES = 44
"""MPS serves 48 clients a card (NVIDIA's MPS documentation); some are left for what nobody foresaw."""
BUNDLE = "bundle_sha256"
"""Key of a policy's day: which policy that was."""
FORESEEN = 10
"""Days of each controller that are simulated to see which processes will be needed."""


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
    changes: list[str] = SETTINGS,
    calibrate: bool = typer.Option(
        True, help="Measure this card as it serves, 80 s, before the first day, and predict from that too."
    ),
    measure_only: bool = typer.Option(
        False, "--measure-only", help="Leave the predictions for the same command without it, on any machine."
    ),
    out: Path = typer.Option(Path("runs/live-compare"), help="Folder of results; a run goes on from there."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Serve the same day under each controller on one card, beside what the simulator predicts."""
    from clover_rl.agents.bundle import open_bundle
    from clover_rl.agents.shipped import resolve_bundle
    from clover_rl.cli.extras import require
    from clover_rl.cli.models import model_of
    from clover_rl.errors import InputError
    from clover_rl.serving.live.kept import Kept
    from clover_rl.serving.live.plan import Contest
    from clover_rl.serving.partition.select import PartitionSettings

    require("serve", "grpc", "grpc_health", "grpc_reflection", "onnxruntime", "prometheus_client")
    if not 0.0 < w < 1.0:
        raise InputError(f"--w is {w:g}", fix="use a weight above 0 and below 1")
    bundle = open_bundle(resolve_bundle(policy)) if policy else None
    chosen = chosen_scenario(scenario, changes)
    cards = PartitionSettings(partition, tuple(filter(None, devices.split(","))))
    cards.check(chosen.gpus)
    model = model_of(chosen)
    wanted = [name for name in controllers.split(",") if name]
    if not wanted:
        raise InputError("--controllers names none", fix="name some, as base,static,search")
    if partition == "mig":
        raise InputError(
            "live-compare keeps processes waiting, and one that waits holds the MIG slice it was made on",
            fix="use --partition mps on the card with MIG mode off, or serve --partition mig",
        )
    signals = _signals(chosen, model, carbon, load, start, seed)
    identity = {"scenario": chosen.to_dict(), "w": w, "seed": seed, "partition": partition}
    identity |= {"signals_sha256": signals.sha256, "profile_hash": model.profile.hash}
    kept = Kept(out, identity)
    if bundle is not None and kept.days.get("policy", {}).get(BUNDLE, bundle.sha256) != bundle.sha256:
        raise InputError(
            "holds the day of another policy", where=str(kept.file), fix="name another --out folder"
        )

    def contest(names: list[str]) -> Contest:
        return Contest.of(chosen, model, signals, names=names, bundle=bundle, w=w, seed=seed)

    if missing := [name for name in wanted if name not in kept.days]:
        sha256 = bundle.sha256 if bundle else None
        _measure(contest(missing), cards, kept, calibrate=calibrate, bundle=sha256)
    if measure_only:
        note(f"measured: {', '.join(kept.days)}; kept in {out}")
        return
    for index, run in enumerate(kept.runs):
        if missing := [name for name in run["controllers"] if name not in kept.document["days"]]:
            note(f"predicting the days of {', '.join(missing)}")
            _predict(contest(missing), kept, index)
    kept.finish(command_line())
    document = kept.document
    _picture(document, model.sla_ms, out / "live.png")
    if json_:
        print_json(document)
        return
    _print(document)
    note(f"written: {kept.file} and {out / 'live.png'}")


def _measure(
    contest: Contest, cards: PartitionSettings, kept: Kept, *, calibrate: bool, bundle: str | None
) -> None:
    import asyncio

    from clover_rl.serving.live.calibration import stages
    from clover_rl.serving.live.outcome import raw_day
    from clover_rl.serving.live.plan import needed_processes, predict
    from clover_rl.serving.live.run import Orders, run_live

    model = contest.model
    planned = stages(model.profile, model.gpus) if calibrate else []
    note("foreseeing which processes are needed")
    prepared = needed_processes(
        model, predict(contest, FORESEEN), MOST_PROCESSES, [stage.configuration for stage in planned]
    )
    with progress_bar("serving") as bar:
        orders = Orders(
            prepared=prepared,
            stages=planned,
            calibrated=kept.calibrated,
            report=_told(bar),
            done=lambda name, day: kept.day(
                name, raw_day(day, model) | ({BUNDLE: bundle} if name == "policy" else {})
            ),
        )
        asyncio.run(run_live(contest, cards, kept.begin(), orders))


def _predict(contest: Contest, kept: Kept, run: int) -> None:
    from clover_rl.serving.live.calibration import calibrated
    from clover_rl.serving.live.outcome import Predicted, compared
    from clover_rl.serving.live.plan import predict, predict_sent
    from clover_rl.serving.live.replay import replayed
    from clover_rl.simulation.physics import Physics

    model, stages = contest.model, kept.stages(run)
    shipped = predict(contest)
    found = calibrated(model.profile, stages, model.gpus) if stages else None
    card = Physics(found.profile) if found else None
    own = predict(contest, physics=card) if card else None
    for name in contest.makers:
        raw = kept.days[name]
        sides = Predicted(shipped[name])
        if found and card and own:
            sent = predict_sent(contest, name, raw["first"], card, found.front_s)
            sides = Predicted(shipped[name], own[name], sent, replayed(contest, raw, card))
        kept.compared(name, compared(raw, sides, model))
    if found:
        kept.came_to(run, found)


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
    print_table(
        "off: predicted / measured - 1, %; +- what arrivals alone do to a day",
        ["controller", "prediction", "J/request", "+-", "p95", "+-", "p50"],
        [
            [
                name,
                SIDES[side],
                *(number(100.0 * value, 1) for value in _interleaved(errors, day["chance"])),
                number(None if errors["p50_ms"] is None else 100.0 * errors["p50_ms"], 1),
            ]
            for name, day in days.items()
            for side, errors in day["errors"].items()
        ],
    )
    for side in ("measured", "predicted"):
        typer.echo(f"order by objective, {side}: {', '.join(order_of(days, side))}")


SIDES = {
    "shipped": "shipped profile, arrivals of its own",
    "card": "this card's, arrivals of its own",
    "sent": "this card's, the requests sent",
    "replayed": "this card's, replayed",
}


def _interleaved(errors: dict[str, float], chance: dict[str, float]) -> list[float]:
    return [value for key in ("energy_j_per_request", "p95_ms") for value in (errors[key], chance[key])]


def _picture(document: dict[str, Any], sla_ms: float, path: Path) -> None:
    try:
        from clover_rl.cli.live_compare_figure import draw_days

        draw_days(document["days"], sla_ms, path)
    except ImportError:
        note("no picture: matplotlib is not installed")
