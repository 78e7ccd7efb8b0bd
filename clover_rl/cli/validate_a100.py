"""clover-rl validate a100: Clover's 18 points against the shipped profiles, with what is behind each miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from clover_rl.cli.output import command_line, print_json, print_table

if TYPE_CHECKING:
    from clover_rl.simulation.validation.a100 import Miss, PredictedPoint
    from clover_rl.simulation.validation.a100_points import Point

__all__ = ["a100"]

RUNS = ("event", "table", "arrivals", "busy_host", "tail")
QUANTITIES: tuple[Literal["energy_j", "p95_ms"], ...] = ("energy_j", "p95_ms")


def a100(
    figure: Path | None = typer.Option(None, help="PNG to draw: p95 and energy against load."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Predict the 18 points that Clover's authors measured on two A100, and name what each miss violates.

    Energy and p95 of BASE and STATIC of three applications at three loads, 36 numbers, at both fidelities.
    Then the runs that lift one assumption each: what the artifact's generator really sent, service that slows
    when the host is busy, power that outlasts a request.
    """
    from clover_rl.cli.extras import require
    from clover_rl.simulation.validation.a100 import ASSUMPTIONS, TOLERANCE, find_misses, predict_points

    if figure:
        require("train", "matplotlib")
    predicted = predict_points()
    misses = find_misses(predicted)
    within = {
        run: {
            f"{share:g}": sum(abs(item.off(run, name)) <= share for item in predicted for name in QUANTITIES)
            for share in (TOLERANCE, 2 * TOLERANCE)
        }
        for run in RUNS
    }
    if figure:
        from clover_rl.cli.validate_a100_figure import draw_points

        draw_points(predicted, figure)
    if json_:
        print_json(
            {
                "command": command_line(),
                "numbers": len(QUANTITIES) * len(predicted),
                "within": within,
                "points": [_row(item) for item in predicted],
                "misses": [_miss_row(miss) for miss in misses],
                "assumptions": ASSUMPTIONS,
            }
        )
        return
    _print_points(predicted, within)
    _print_misses(misses)


def _row(item: PredictedPoint) -> dict[str, Any]:
    row: dict[str, Any] = _named(item.point)
    for name in QUANTITIES:
        row[name] = {
            "published": getattr(item.point, name),
            "predicted": getattr(item.event.median, name),
            "predicted_low": getattr(item.event.low, name),
            "predicted_high": getattr(item.event.high, name),
            **{run: getattr(item.run(run), name) for run in RUNS[1:]},
            "error": item.off("event", name),
            "table_error": item.off("table", name),
        }
    return row


def _named(point: Point) -> dict[str, Any]:
    return {
        "application": point.application,
        "configuration": point.configuration,
        "interarrival_s": point.interarrival_s,
        "requests": point.requests,
    }


def _miss_row(miss: Miss) -> dict[str, Any]:
    rest = {key: value for key, value in asdict(miss).items() if key != "point"}
    return {**_named(miss.point), **rest, "assumption": miss.assumption}


def _label(point: Point) -> str:
    return f"{point.application}, {point.configuration}, {point.interarrival_s:g} s"


def _print_points(predicted: Sequence[PredictedPoint], within: dict[str, dict[str, int]]) -> None:
    titles = ("energy per request of both cards, J", "p95 latency, ms")
    for name, title, digits, lifted in zip(QUANTITIES, titles, (1, 0), ("tail", "busy_host"), strict=True):
        shown = ("event", "table", "arrivals", lifted)
        print_table(
            f"{title}: published, predicted at both fidelities, and with one assumption lifted",
            ["application, configuration, mean gap", "published", *shown],
            [
                [
                    _label(item.point),
                    f"{getattr(item.point, name):.{digits}f}",
                    *(
                        f"{getattr(item.run(run), name):.{digits}f} ({100 * item.off(run, name):+.1f} %)"
                        for run in shown
                    ),
                ]
                for item in predicted
            ],
        )
    print_table(
        f"of {len(QUANTITIES) * len(predicted)} numbers",
        ["", *RUNS],
        [
            [f"within {100 * float(share):g} %", *(str(within[run][share]) for run in RUNS)]
            for share in within["event"]
        ],
    )


def _print_misses(misses: Sequence[Miss]) -> None:
    print_table(
        "predictions off by more than 5 %, and the run that isolates what is behind each",
        ["application, configuration, mean gap", "what", "off", "run", "off there", "assumption violated"],
        [
            [
                _label(miss.point),
                f"{miss.quantity}, {miss.fidelity}",
                f"{100 * miss.off:+.1f} %",
                miss.run,
                f"{100 * miss.off_there:+.1f} %{'' if miss.explained else ', not explained'}",
                miss.assumption.partition(":")[0],
            ]
            for miss in misses
        ],
    )
