"""Packing a trained policy for shipping: bundle, recipe, training record, and what its evaluation found."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clover_rl.agents.bundle import Bundle, open_bundle
from clover_rl.agents.evaluate import CONTROLLERS
from clover_rl.agents.shipped import Record, ShippedPolicy, read_record
from clover_rl.agents.train.recipe import load_recipe
from clover_rl.errors import InputError
from clover_rl.yamlfile import validate_model

__all__ = ["headline", "pack"]

MOST_BYTES = 4 * 2**20
"""A bundle goes into every wheel; a policy of two layers takes a fraction of this."""

SHOWN = (
    *("objective", "headroom_share", "carbon_g_per_request", "base_carbon_g_per_request", "accuracy_loss"),
    *("sla_held", "transitions", "live_trials", "decision_us"),
)
"""What result.json keeps of each controller, window and weight."""

DIGITS = 6
"""Significant digits kept: the record is for reading, and a run repeats to no more on another machine."""

KINDS = {
    "windows_with_gap": "modelled",
    "headroom_share_mean": "modelled",
    "headroom_share_min": "modelled",
    "carbon_saving_mean": "modelled",
    "accuracy_loss_mean": "modelled",
    "sla_held_mean": "modelled",
    "sla_held_min": "modelled",
    "decision_us_mean": "measured",
    "training_seconds": "measured",
}
"""Figures of a simulated evaluation are modelled, whatever the profile rests on; clocks are real."""


def pack(run: Path, bundle: Path, evaluation: Path, into: Path) -> ShippedPolicy:
    """Write INTO/NAME/ with all that is shipped of a policy, NAME being the bundle's file name.

    Args:
        run: run folder of `clover-rl train` that the bundle was exported from.
        bundle: the `.clover` file.
        evaluation: JSON document of `clover-rl evaluate` with this bundle as its only policy.
        into: folder of policies.

    Raises:
        InputError: a part is missing, or belongs to something else.
        BundleError: the bundle is damaged, or does not do what it recorded.
    """
    opened = open_bundle(bundle)
    opened.replay()
    if bundle.stem in CONTROLLERS or bundle.stem == "policy":
        raise InputError(
            f"a policy cannot be called `{bundle.stem}`, a controller is", fix="rename the bundle"
        )
    if bundle.stat().st_size > MOST_BYTES:
        raise InputError(
            f"has {bundle.stat().st_size / 2**20:.1f} MiB, at most {MOST_BYTES >> 20} are shipped",
            where=str(bundle),
            fix="train a smaller network",
        )
    load_recipe(run / "recipe.yaml")
    training = read_record(run / "training.json")
    document = read_record(evaluation)
    scenario = opened.manifest["scenario"]["name"]
    if document.get("scenario") != scenario:
        raise InputError(
            f"is of the scenario `{document.get('scenario')}`, the bundle of `{scenario}`",
            where=str(evaluation),
            fix="evaluate the bundle on its own scenario",
        )
    evaluated = [each.get("sha256") for each in (document.get("inputs") or {}).get("policies", [])]
    if evaluated != [opened.sha256]:
        raise InputError(
            "is not the evaluation of this bundle alone",
            where=str(evaluation),
            fix=f"evaluate it: --policy {bundle.name}",
        )
    record = _record(opened, bundle, run, training, document, where=str(evaluation))
    packed = ShippedPolicy(bundle.stem, into / bundle.stem)
    training["command"] = _portable(str(training.get("command", "")))
    try:
        packed.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, packed.bundle)
        shutil.copyfile(run / "recipe.yaml", packed.recipe)
        packed.training.write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        packed.result.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except (OSError, shutil.SameFileError) as error:
        raise InputError(
            f"cannot be written ({error})", where=str(packed.folder), fix="name another folder"
        ) from None
    return packed


def _record(
    opened: Bundle,
    bundle: Path,
    run: Path,
    training: Mapping[str, Any],
    document: Mapping[str, Any],
    *,
    where: str,
) -> Record:
    try:
        rows = [_row(row) for row in document["windows"] if not row.get("conditions")]
        figures = headline(rows) | {"training_seconds": _rounded(training.get("seconds"))}
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            "is no document of `clover-rl evaluate --json` with one policy",
            where=where,
            fix="evaluate the bundle alone, with --policy",
        ) from None
    name = opened.name
    commands = [
        # with the recipe beside the record: the shipped one of its name may have other values by now
        f"{_without_recipe(str(training.get('command', '')))} --recipe {bundle.stem}/recipe.yaml",
        f"clover-rl export {run} -o {bundle.name} --name {shlex.quote(name)}",
        str(document.get("command", "")),
    ]
    content = {
        "scenario": document["scenario"],
        "bundle_sha256": opened.sha256,
        "commands": [_portable(command) for command in commands],
        "seed": document.get("seed"),
        "versions": document.get("versions", {}),
        "intensity_kind": document.get("intensity_kind"),
        "figures": figures,
        "kinds": {name: KINDS[name] for name in figures},
        "windows": rows,
    }
    return validate_model(content, Record, where=where)


def _without_recipe(command: str) -> str:
    words = shlex.split(command)
    while "--recipe" in words:
        at = words.index("--recipe")
        del words[at : at + 2]
    return shlex.join(words)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One window and weight, with what is kept of each controller."""
    if "policy" not in row["controllers"]:
        raise KeyError("policy")
    controllers = {
        name: {key: _rounded(found.get(key)) for key in SHOWN} for name, found in row["controllers"].items()
    }
    return {key: _rounded(row[key]) for key in ("carbon", "load", "w", "sla_ms", "gap")} | {
        "controllers": controllers
    }


def headline(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Headline figures of the policy over windows and weights.

    Args:
        rows: of an evaluation, as its JSON document has them, with a controller `policy` in each.

    Returns:
        Figure -> value. Shares of headroom are over rows whose gap is large enough to say something, and
        None where none is; savings are against BASE at the same intensities.
    """
    found = [row["controllers"]["policy"] for row in rows]
    shares = [item["headroom_share"] for item in found if item["headroom_share"] is not None]
    saved = [1.0 - item["carbon_g_per_request"] / item["base_carbon_g_per_request"] for item in found]
    held = [item["sla_held"] for item in found]
    figures = {
        "windows_with_gap": float(len(shares)),
        "headroom_share_mean": _mean(shares),
        "headroom_share_min": min(shares, default=None),
        "carbon_saving_mean": _mean(saved),
        "accuracy_loss_mean": _mean([item["accuracy_loss"] for item in found]),
        "sla_held_mean": _mean(held),
        "sla_held_min": min(held, default=None),
        "decision_us_mean": _mean([item["decision_us"] for item in found]),
    }
    return {name: _rounded(value) for name, value in figures.items()}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: Any) -> Any:
    if not isinstance(value, float) or value == 0.0 or not math.isfinite(value):
        return value
    return float(f"{value:.{DIGITS}g}")


def _portable(command: str) -> str:
    """A command without absolute paths: their last parts are left, for folders differ between machines."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)
