"""clover-rl evaluate: controllers compared on the same windows, or a result file confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.chosen import (
    CARBON,
    LOAD,
    SETTINGS,
    START,
    chosen_scenario,
    chosen_windows,
    require_both,
)
from clover_rl.cli.output import command_line, note, print_json, progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clover_rl.agents.bundle import Bundle
    from clover_rl.agents.document import Inputs, PolicyFile
    from clover_rl.envs.scenario import Scenario

__all__ = ["evaluate", "evaluated", "named_policies"]

POOL = "policy"
"""Name of policies that differ in their training seed only."""


def evaluate(
    scenario: str | None = typer.Argument(None, help="Shipped name or YAML file."),
    policy: list[str] = typer.Option(
        [], help="Bundle, or name of a shipped one; may be repeated. The scenario's own when left out."
    ),
    policy_seeds: list[str] = typer.Option(
        [], metavar="GLOB", help="Bundles that differ in their training seed only, as 'seeds/*.clover'."
    ),
    against: str = typer.Option(
        "base,co2opt,static,search,annealing,oracle", help="Controllers, separated by commas."
    ),
    carbon: list[Path] = CARBON,
    load: list[Path] = LOAD,
    start: str = START,
    days: float = typer.Option(14.0, min=0.001, help="Length of a window."),
    windows: int = typer.Option(3, min=1, help="Test windows that are drawn, where no files are given."),
    w: list[float] = typer.Option([], help="Weight of carbon; the scenario's when left out."),
    seed: int = typer.Option(1, min=0, help="Of windows and arrivals."),
    settings: list[str] = SETTINGS,
    causes: bool = typer.Option(
        False, "--causes", help="Split savings by cause: takes about twice as many runs."
    ),
    robust: bool = typer.Option(
        False, "--robust", help="Also with service and energy off by 10 and 20 %, bursts, feeds out."
    ),
    accuracy_budget: float | None = typer.Option(
        None, help="Accuracy that may be lost a day, as 0.01: policies and searches run within it as well."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Results folder: finished runs are kept there, and not done again."
    ),
    jobs: int = typer.Option(1, min=1, max=256, help="Processes to run in."),
    check: Path | None = typer.Option(
        None, "--check", help="Do the runs of a result file again, and confirm its figures."
    ),
    check_sample: int | None = typer.Option(
        None, min=1, help="With --check: only so many runs, drawn by --seed."
    ),
    tolerance: float = typer.Option(
        1e-6, min=0.0, max=1.0, help="With --check: largest difference of a figure, as a share of it."
    ),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Compare controllers at event level: equal hardware, load and arrivals, transitions charged to all.

    With --out FOLDER each finished run is kept in FOLDER/runs and the document in FOLDER/result.json; called
    again after an interruption, or with more windows or controllers, only what is missing is done.

    With --check FILE a result file is confirmed instead; --carbon, --load and --policy then say where its
    files are now, where they are no longer where they were.
    """
    from clover_rl.agents.conditions import PLAIN, ROBUST
    from clover_rl.agents.document import Inputs
    from clover_rl.agents.plan import ALL
    from clover_rl.agents.shipped import resolve_bundle
    from clover_rl.cli.evaluate_check import checked
    from clover_rl.cli.evaluate_show import show
    from clover_rl.cli.policy_choice import default_policies
    from clover_rl.errors import InputError

    named = [resolve_bundle(name) for name in policy]
    seeds = _matches(policy_seeds)
    if check is not None:
        checked(
            check,
            scenario=scenario,
            files=[*carbon, *load, *named, *seeds],
            sample=check_sample,
            seed=seed,
            tolerance=tolerance,
            jobs=jobs,
            json_=json_,
        )
        return
    if scenario is None:
        raise InputError("no scenario is named", fix="give a shipped name, a YAML file, or --check FILE")
    chosen = chosen_scenario(scenario, settings)
    if not named and not seeds:
        named = default_policies(chosen)
    files, bundles = named_policies(named, seeds)
    inputs = Inputs(
        scenario=scenario,
        carbon=carbon,
        load=load,
        start=start,
        days=days,
        count=windows,
        seed=seed,
        weights=list(dict.fromkeys(w or chosen.weights.evaluate)),
        against=[name.strip() for name in against.split(",") if name.strip()],
        causes=(ALL,) if causes else (),
        conditions=ROBUST if robust else (PLAIN,),
        policies=files,
        accuracy_budget=accuracy_budget,
    )
    content = evaluated(chosen, inputs, bundles, out=out, jobs=jobs)
    if json_:
        print_json(content)
    else:
        show(content)


def _matches(patterns: Sequence[str]) -> list[Path]:
    """Files that patterns name, in order.

    Raises:
        InputError: a pattern that names none.
    """
    from glob import glob

    from clover_rl.errors import InputError

    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob(pattern))
        if not names:
            raise InputError(f"no bundle is called {pattern}", fix="check the pattern of --policy-seeds")
        found.update(dict.fromkeys(Path(name) for name in names))
    return list(found)


def named_policies(alone: Sequence[Path], seeds: Sequence[Path]) -> tuple[list[PolicyFile], list[Bundle]]:
    """Bundles and what they are called: `policy` a single one or the pool, else with their files' names.

    Raises:
        InputError: bundles of a pool that differ in more than their seed.
        BundleError: one that is damaged.
    """
    from clover_rl.agents.bundle import open_bundle
    from clover_rl.agents.document import PolicyFile
    from clover_rl.agents.pooling import require_alike, seed_name

    own = [open_bundle(path) for path in alone]
    members = [open_bundle(path) for path in seeds]
    if members:
        require_alike(members)
    single = len(own) == 1 and not members
    files = [
        PolicyFile(POOL if single else f"{POOL} {path.stem}", path, bundle.sha256)
        for path, bundle in zip(alone, own, strict=True)
    ]
    files += [
        PolicyFile(seed_name(POOL, bundle), path, bundle.sha256, POOL)
        for path, bundle in zip(seeds, members, strict=True)
    ]
    return files, [*own, *members]


def evaluated(
    scenario: Scenario,
    inputs: Inputs,
    bundles: Sequence[Bundle],
    *,
    out: Path | None = None,
    jobs: int = 1,
    command: str | None = None,
) -> dict[str, Any]:
    """The document of an evaluation, done with a progress bar; kept where there is a folder for it.

    `command` is what the document says that it comes from; the present command line when left out.

    Raises:
        InputError: a wrong name, file, weight or folder.
        BundleError: a bundle for something else.
    """
    from clover_rl.agents import evaluate as evaluation
    from clover_rl.agents.document import document
    from clover_rl.agents.run_store import RunStore
    from clover_rl.cli.models import model_of
    from clover_rl.errors import InputError
    from clover_rl.jsonfile import write_json

    _ = scenario.sci  # refused before anything takes time
    require_both(inputs.carbon, inputs.load)
    unknown = sorted(set(inputs.against) - set(evaluation.CONTROLLERS))
    if unknown:
        raise InputError(
            f"unknown controller `{unknown[0]}`", fix=f"use some of {', '.join(evaluation.CONTROLLERS)}"
        )
    store = RunStore(out) if out else None
    model = model_of(scenario)
    found = windows_of(scenario, model, inputs)
    names = [policy.name for policy in inputs.policies]
    try:
        with progress_bar("evaluating") as advance:
            advance(0.0, "margins of who trusts the table, tuned once on training windows")
            result = evaluation.evaluate(
                scenario,
                model,
                found,
                weights=inputs.weights,
                against=inputs.against,
                policies=list(zip(names, bundles, strict=True)),
                causes=inputs.causes,
                conditions=inputs.conditions,
                budget=inputs.accuracy_budget,
                store=store,
                jobs=jobs,
                progress=lambda done, total: advance(done / max(total, 1), f"{done} of {total} runs"),
            )
    except KeyboardInterrupt:
        if out:
            note(f"stopped; finished runs are kept in {out}: the same command will go on from there")
        raise
    content = document(result, inputs, command or command_line())
    if out:
        write_json(out / "result.json", content, indent=2)
    return content


def windows_of(scenario: Scenario, model: Any, inputs: Inputs) -> list[Any]:
    """The windows that inputs ask for; raises like `chosen_windows`."""
    return chosen_windows(
        scenario,
        model,
        inputs.carbon,
        inputs.load,
        start=inputs.start,
        days=inputs.days,
        count=inputs.count,
        split="test",
        seed=inputs.seed,
    )
