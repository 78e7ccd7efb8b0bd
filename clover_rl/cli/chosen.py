"""What commands that take a scenario have in common: its argument, `--set`, `--carbon` and `--load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from clover_rl.agents.windows import Window
    from clover_rl.envs.scenario import Scenario
    from clover_rl.envs.signals import Split
    from clover_rl.simulation.model import ClusterModel

__all__ = [
    "CARBON",
    "HELD_BACK_SHARE",
    "LOAD",
    "SCENARIO",
    "SETTINGS",
    "START",
    "chosen_scenario",
    "chosen_windows",
    "require_both",
    "trained_on",
]

HELD_BACK_SHARE = 0.25
"""Last share of files that training never reads, unless the scenario's `train_share` says otherwise."""

SCENARIO = typer.Argument(help="Shipped name or YAML file.")
SETTINGS = typer.Option(
    [],
    "--set",
    metavar="KEY=VALUE",
    help="Change a key of the scenario, as load.peak_share=0.7; may be repeated.",
)
CARBON = typer.Option([], "--carbon", help="Carbon CSV; may be repeated.")
LOAD = typer.Option([], "--load", help="Load CSV; may be repeated.")
START = typer.Option("0", "--start", help="Where in the carbon file: seconds, or a UTC timestamp.")


def chosen_scenario(name: str, settings: Sequence[str] = ()) -> Scenario:
    """The scenario that a command line names, with its `--set` options.

    Raises:
        InputError: a wrong name, file or setting.
    """
    from clover_rl.envs.overrides import override
    from clover_rl.envs.scenario import load_scenario

    return override(load_scenario(name), settings)


def trained_on(scenario: Scenario, carbon: Sequence[Path], load: Sequence[Path]) -> Scenario:
    """The scenario with files to train on, all but their last part; either kind may be left out.

    Raises:
        InputError: a file that is wrong.
    """
    from clover_rl.envs.scenario import load_scenario

    changes: dict[str, object] = {}
    for kind, files in (("carbon", carbon), ("load", load)):
        if files:
            part = scenario.carbon if kind == "carbon" else scenario.load
            share = part.train_share or 1.0 - HELD_BACK_SHARE
            names = [str(path.resolve()) for path in files]
            changes[kind] = part.model_dump() | {"files": names, "train_share": share}
    found = load_scenario(scenario, **changes)
    _ = found.traces_hash  # read now, before anything takes time
    return found


def chosen_windows(
    scenario: Scenario,
    model: ClusterModel,
    carbon: Sequence[Path],
    load: Sequence[Path],
    *,
    start: str,
    days: float,
    count: int,
    split: Split,
    seed: int,
) -> list[Window]:
    """Windows from the files given, one for each pair; else drawn as the episodes of a split are.

    Raises:
        InputError: a wrong file or start.
    """
    from clover_rl.agents.windows import file_windows, generated_windows

    require_both(carbon, load)
    if not carbon:
        return generated_windows(scenario, model, count=count, days=days, split=split, seed=seed)
    begin = start_s(start, carbon)
    return file_windows(scenario, model, carbon=carbon, load=load, start_s=begin, days=days, seed=seed)


def require_both(carbon: Sequence[Path], load: Sequence[Path]) -> None:
    """Refuse carbon files without load files, and the other way round."""
    from clover_rl.errors import InputError

    if bool(carbon) != bool(load):
        raise InputError(
            "carbon and load files go together",
            fix="give at least one of each, or none for generated windows",
        )


def start_s(text: str, carbon: Sequence[Path]) -> float:
    """Seconds into the carbon files."""
    from datetime import UTC, datetime

    from clover_rl.errors import InputError
    from clover_rl.signals import read_carbon_csv

    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InputError(
            f"--start `{text}` is neither seconds nor a timestamp", fix="write 86400 or 2021-03-01T00:00:00Z"
        ) from None
    epochs = {read_carbon_csv(path).epoch for path in carbon}
    if len(epochs) > 1:
        raise InputError(
            "the carbon files begin at different moments, so one timestamp cannot start all windows",
            fix="give --start in seconds, or evaluate them one by one",
        )
    epoch = epochs.pop()
    if epoch is None or moment.tzinfo is None:
        raise InputError(
            "a timestamp needs a zone and a carbon file with timestamps", fix="give --start in seconds"
        )
    return (moment.astimezone(UTC) - epoch).total_seconds()
