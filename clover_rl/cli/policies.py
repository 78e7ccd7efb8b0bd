"""clover-rl policies: what is shipped, what each was trained with and achieved, and packing another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clover_rl.cli.output import number, print_json, print_table

if TYPE_CHECKING:
    from clover_rl.agents.shipped import ShippedPolicy

__all__ = ["app", "policy_document"]

app = typer.Typer(help="Policies shipped with the package: list, show, pack.", no_args_is_help=True)

SHARES = {
    *("headroom_share_mean", "headroom_share_min", "carbon_saving_mean", "accuracy_loss_mean"),
    *("sla_held_mean", "sla_held_min"),
}


def policy_document(policy: ShippedPolicy) -> dict[str, Any]:
    """All that is known of a shipped policy, as one JSON object.

    Raises:
        InputError: a record of it cannot be read.
        BundleError: its bundle is damaged.
    """
    from clover_rl.agents.bundle import open_bundle
    from clover_rl.agents.shipped import read_record
    from clover_rl.agents.train.recipe import load_recipe

    bundle = open_bundle(policy.bundle)
    record = policy.record()
    manifest = bundle.manifest
    training = read_record(policy.training)
    return {
        "name": policy.name,
        "scenario": record.scenario,
        "application": manifest["application"],
        "gpu": manifest["gpu"],
        "gpus": manifest["gpus"],
        "recipe": load_recipe(policy.recipe).name,
        "trained_with": {
            "seed": training.get("seed"),
            "seconds": training.get("seconds"),
            "states": training.get("states"),
            "versions": training.get("versions", {}),
        },
        "size_bytes": policy.bundle.stat().st_size,
        "sha256": bundle.sha256,
        "catalogue_hash": manifest["actions"]["catalogue_hash"],
        "profile_hash": manifest["profile_hash"],
        "actions": len(manifest["actions"]["catalogue"]),
        "observations": bundle.observation_codec.size,
        "figures": record.figures,
        "kinds": record.kinds,
        "commands": record.commands,
        "evaluated_with": record.versions,
        "windows": record.windows,
    }


@app.command("list")
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """The policies shipped: scenario, recipe, size, and what they achieved."""
    from clover_rl.agents.shipped import shipped_names, shipped_policy

    found = [policy_document(shipped_policy(name)) for name in shipped_names()]
    if json_:
        print_json([{key: item for key, item in policy.items() if key != "windows"} for policy in found])
        return
    if not found:
        typer.echo("no policy is shipped yet; `clover-rl train SCENARIO` makes one")
        return
    rows = [
        [
            policy["name"],
            policy["scenario"],
            policy["recipe"],
            number(policy["trained_with"]["seconds"], 0),
            f"{policy['size_bytes'] / 1024:.0f}",
            number(policy["figures"]["headroom_share_mean"], 2),
            _percent(policy["figures"]["carbon_saving_mean"]),
            _percent(policy["figures"]["accuracy_loss_mean"]),
            _percent(policy["figures"]["sla_held_min"], 2),
            policy["sha256"][:12],
        ]
        for policy in found
    ]
    columns = ["name", "scenario", "recipe", "trained s", "KiB", "headroom", "saved", "accuracy loss"]
    print_table("policies", [*columns, "SLA held, worst", "sha256"], rows)
    typer.echo(
        "headroom, savings, losses and SLA are modelled (simulated at event level, means over windows and\n"
        "weights); `clover-rl policies show NAME` has each with its kind, and the commands that reproduce it"
    )


@app.command()
def show(
    name: str = typer.Argument(help="Name of a shipped policy."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """One shipped policy: how it was made, what it achieved in each window, how to reproduce it."""
    from clover_rl.agents.shipped import shipped_policy

    policy = policy_document(shipped_policy(name))
    if json_:
        print_json(policy)
        return
    trained = policy["trained_with"]
    typer.echo(
        f"{policy['name']}: {policy['application']} on {policy['gpus']} x {policy['gpu']}, scenario "
        f"{policy['scenario']}\n"
        f"trained with {policy['recipe']}, seed {trained['seed']}, {number(trained['seconds'], 0)} s; "
        f"{policy['observations']} observations, {policy['actions']} actions, {policy['size_bytes']} bytes\n"
        f"sha256 {policy['sha256']}\ncatalogue {policy['catalogue_hash']}\nprofile {policy['profile_hash']}"
    )
    figures = [
        [key, _percent(value, 2) if key in SHARES else _plain(value), policy["kinds"][key]]
        for key, value in policy["figures"].items()
    ]
    print_table("figures", ["figure", "value", "kind"], figures)
    rows = [
        [
            f"{row['carbon']} x {row['load']}",
            f"{row['w']:g}",
            number(row["gap"], 4),
            number(row["controllers"]["policy"]["headroom_share"], 2),
            _percent(
                1.0
                - row["controllers"]["policy"]["carbon_g_per_request"]
                / row["controllers"]["policy"]["base_carbon_g_per_request"]
            ),
            _percent(row["controllers"]["policy"]["accuracy_loss"], 2),
            _percent(row["controllers"]["policy"]["sla_held"], 2),
        ]
        for row in policy["windows"]
    ]
    columns = ["window", "w", "gap", "headroom", "saved", "accuracy loss", "SLA held"]
    print_table("windows", columns, rows)
    typer.echo("reproduced by\n" + "\n".join(f"  {command}" for command in policy["commands"]))


@app.command()
def pack(
    run: Path = typer.Argument(help="Run folder of `clover-rl train`."),
    bundle: Path = typer.Argument(help="The .clover file exported from it; its name becomes the policy's."),
    evaluation: Path = typer.Argument(help="JSON document of `clover-rl evaluate --policy BUNDLE`."),
    into: Path = typer.Option(Path("policies"), help="Folder of policies; those shipped lie in the package."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Put a policy, its recipe and its records into a folder as they are shipped."""
    from clover_rl.cli.extras import require

    require("train", "onnxruntime", "onnx")
    from clover_rl.agents.packing import pack as pack_policy

    packed = pack_policy(run, bundle, evaluation, into)
    if json_:
        print_json(policy_document(packed))
        return
    typer.echo(f"{packed.folder}: {packed.bundle.name}, recipe, training and evaluation record")


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
