"""check_document: does a result file's evaluation again, all or a sample, and confirms its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from clover_rl import __version__
from clover_rl.agents.bundle import Bundle, open_bundle
from clover_rl.agents.conditions import Conditions
from clover_rl.agents.document import (
    FORMAT,
    Inputs,
    PolicyFile,
    document,
    file_hash,
    identity,
    sealed,
    with_pools,
)
from clover_rl.agents.equal_accuracy import equal_accuracy
from clover_rl.agents.evaluate import LEAST_GAP, evaluate
from clover_rl.agents.margins import MAKERS
from clover_rl.agents.plan import RowPlan, plan_rows
from clover_rl.agents.pooling import Pools
from clover_rl.agents.runs import RunResult
from clover_rl.agents.tasks import RUN_VERSION, Bench, RunTask, run_tasks
from clover_rl.agents.windows import Window
from clover_rl.envs.scenario import FOLDER, Scenario
from clover_rl.errors import InputError
from clover_rl.jsonfile import plain
from clover_rl.simulation.model import ClusterModel
from clover_rl.yamlfile import find_yaml, validate_model

__all__ = ["TOLERANCE", "CheckReport", "Located", "check_document", "locate"]

TOLERANCE = 1e-6
"""Largest difference of a figure, as a share of it. The same versions on like machines give the same bits."""

_NO_FIGURES = frozenset({"decision_us"})
"""Times of decisions: no two runs share them."""
_ABSOLUTE = 1e-12
_COMPARED = ("model", "margins", "windows", "equal_accuracy")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was confirmed: runs done again, of how many; rows; and the tolerance."""

    runs: int
    of: int
    rows: int
    tolerance: float


@dataclass(frozen=True, slots=True)
class Located:
    """A result file's inputs, found again: its scenario, and each file by the hash of what it holds."""

    scenario: Scenario
    inputs: Inputs
    bundles: tuple[Bundle, ...]


def locate(content: Mapping[str, Any], *, scenario: str | None = None, files: Sequence[Path] = ()) -> Located:
    """Find what a result file was made from.

    Args:
        content: the file.
        scenario: where its scenario lies now, for a profile or traces beside it; where it lay when left out.
        files: where its traces and bundles may lie now, besides where they lay.

    Raises:
        InputError: no result file, or a file that is nowhere, or has changed.
        BundleError: a bundle that is damaged.
    """
    try:
        if content["format"] != FORMAT:
            raise InputError(
                f"the result file has format {content['format']}, and this version reads {FORMAT}",
                fix="check it with the version that wrote it",
            )
        asked = content["inputs"]
        hashes = {file_hash(path): path for path in files}
        folder = _folder(scenario or asked["scenario"])
        found = validate_model(
            {**content["scenario_definition"], "folder": folder}, Scenario, where="scenario_definition"
        )
        policies = [
            PolicyFile(
                each["name"], _located(each, hashes, "bundle", "--policy"), each["sha256"], each["pool"]
            )
            for each in asked["policies"]
        ]
        inputs = Inputs(
            scenario=asked["scenario"],
            carbon=[_located(each, hashes, "carbon file", "--carbon") for each in asked["carbon"]],
            load=[_located(each, hashes, "load file", "--load") for each in asked["load"]],
            start=str(asked["start"]),
            days=float(asked["days"]),
            count=int(asked["count"]),
            seed=int(asked["seed"]),
            weights=[float(w) for w in asked["weights"]],
            against=[str(name) for name in asked["against"]],
            causes=[str(name) for name in asked["causes"]],
            conditions=[_conditions(each) for each in asked["conditions"]],
            policies=policies,
            accuracy_budget=asked.get("accuracy_budget"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"is no result file of `clover-rl evaluate` ({type(error).__name__}: {error})",
            fix="give its result.json",
        ) from None
    return Located(found, inputs, tuple(open_bundle(policy.path) for policy in policies))


def _folder(scenario: str) -> Path | None:
    try:
        path = find_yaml(scenario, FOLDER, "scenario")
    except InputError:
        return None  # it may name nothing beside it
    return None if path.parent == FOLDER else path.resolve().parent


def _conditions(content: Mapping[str, Any]) -> Conditions:
    known = {field.name for field in fields(Conditions)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise ValueError(f"unknown condition `{unknown[0]}`")
    return Conditions(**content)


def _located(entry: Mapping[str, str], hashes: Mapping[str, Path], noun: str, option: str) -> Path:
    wanted, path = entry["sha256"], Path(entry["path"])
    if wanted in hashes:
        return hashes[wanted]
    if path.is_file() and file_hash(path) == wanted:
        return path
    state = "has changed since" if path.is_file() else "is not there"
    raise InputError(
        f"the {noun} {path.name} with sha256 {wanted[:12]}... {state}",
        where=str(path),
        fix=f"say with {option} where it is now",
    )


def check_document(
    content: Mapping[str, Any],
    located: Located,
    model: ClusterModel,
    windows: Sequence[Window],
    *,
    sample: int | None = None,
    sample_seed: int = 0,
    tolerance: float = TOLERANCE,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Confirm a result file.

    Args:
        content: the file.
        located: what it was made from.
        model, windows: of its scenario and inputs.
        sample: do only so many runs again, drawn by `sample_seed`; all when left out. What follows from
            the file's own figures is confirmed anyway; how savings divide into causes is not, only that they
            add up.
        tolerance: largest difference of a figure, as a share of it; times of decisions are left out.
        jobs: processes.
        progress: called with (runs done, runs in all).

    Raises:
        InputError: naming the first figure that differs.
    """
    _require_form(content, located.inputs)
    inputs, policies = located.inputs, dict(zip(_names(located), located.bundles, strict=True))
    windows = _named(windows, content["inputs"])
    same_version = content["model"].get("clover_rl") == __version__
    head = plain(identity(located.scenario, inputs))
    _require_alike(head, {name: content.get(name) for name in head}, tolerance, keys=False)
    if sample is None:
        evaluation = evaluate(
            located.scenario,
            model,
            windows,
            weights=inputs.weights,
            against=inputs.against,
            policies=list(policies.items()),
            causes=inputs.causes,
            conditions=inputs.conditions,
            budget=inputs.accuracy_budget,
            jobs=jobs,
            progress=progress,
        )
        again = plain(document(evaluation, inputs, ""))
        _require_alike(
            {name: again[name] for name in _COMPARED},
            {name: content.get(name) for name in _COMPARED},
            tolerance,
            keys=same_version,
        )
        runs = sum(len(row["controllers"]) for row in content["windows"])
        report = CheckReport(runs, runs, len(content["windows"]), tolerance)
    else:
        report = _check_sample(
            content, located, model, windows, policies, sample, sample_seed, tolerance, jobs, progress
        )
    if content.get("checksum") != sealed(content)["checksum"]:
        raise InputError(
            "figures are confirmed, but something else in it was changed after it was written: "
            "its checksum differs",
            fix="ask for the file as it was written",
        )
    return report


def _require_form(content: Mapping[str, Any], inputs: Inputs) -> None:
    """Refuse a file that lacks what is read of it below, or has something else in its place."""
    place = "model"
    try:
        for place in ("model", "margins", "inputs"):
            content[place].keys()
        for kind in ("oracle", *(name for name in inputs.against if name in MAKERS)):
            place = f"margins.{kind}"
            float(content["margins"][kind])
        for at, row in enumerate(content["windows"]):
            place = f"windows[{at}]"
            for key in ("window", "w", "conditions", "causes", "gap", "best_static"):
                row[key]
            for name, run in row["controllers"].items():
                place = f"windows[{at}].controllers.{name}"
                if run is None and name in inputs.pools:
                    continue  # a pool has no figures where a member has none
                run["headroom_share"], run["saving"]
                if not all(run[key] is None or _number(run[key]) for key in RunResult.__slots__):
                    raise TypeError("text for a number")
                run["objective"] + 0.0
        content["equal_accuracy"][:0]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{place} is not as `clover-rl evaluate` writes it ({type(error).__name__}: {error})",
            fix="ask for the file as it was written",
        ) from None


def _named(windows: Sequence[Window], asked: Mapping[str, Any]) -> list[Window]:
    """Windows with the names of their files when the result was made: they may have moved."""
    stems = [[Path(entry["path"]).stem for entry in asked[kind]] for kind in ("carbon", "load")]
    names = list(product(*stems))
    if len(names) != len(windows):
        return list(windows)  # generated ones have names of their own
    return [replace(own, carbon=c, load=load) for own, (c, load) in zip(windows, names, strict=True)]


def _names(located: Located) -> list[str]:
    return [policy.name for policy in located.inputs.policies]


def _check_sample(
    content: Mapping[str, Any],
    located: Located,
    model: ClusterModel,
    windows: Sequence[Window],
    policies: Mapping[str, Bundle],
    sample: int,
    seed: int,
    tolerance: float,
    jobs: int,
    progress: Callable[[int, int], None],
) -> CheckReport:
    inputs, rows = located.inputs, content["windows"]
    bench = Bench(located.scenario, model, tuple(windows), policies, content["margins"])
    plans = [
        plan
        for each in inputs.conditions
        for plan in plan_rows(
            bench, inputs.weights, inputs.against, conditions=each, budget=inputs.accuracy_budget
        )
    ]
    _require_rows(plans, rows, content["model"], bench.facts, windows, inputs.pools)
    places = [(at, name) for at, plan in enumerate(plans) for name in [*plan.runs, "static"]]
    rng = np.random.default_rng(seed)
    chosen = [places[i] for i in sorted(rng.permutation(len(places))[:sample].tolist())]
    tasks: dict[tuple[int, str], RunTask] = {}
    for at, name in chosen:
        tasks[at, name] = plans[at].runs[name] if name != "static" else _declared(plans[at], rows[at])
    rivals = [task for at, name in chosen if name == "static" for task in plans[at].candidates]
    found = run_tasks(bench, list(dict.fromkeys([*tasks.values(), *rivals])), jobs=jobs, progress=progress)
    for (at, name), task in tasks.items():
        if name == "static" and (best := plans[at].best_static(bench, found)) != task:
            assert best.static is not None, "candidates are static"
            raise InputError(
                f"windows[{at}].best_static is `{rows[at]['best_static']}`, "
                f"but `{best.static.label()}` is better"
            )
        result = found[bench.key(task, plans[at].w)]
        declared = rows[at]["controllers"][name]
        again = {key: getattr(result, key) for key in result.__slots__}
        where = f"windows[{at}].controllers.{name}"
        _require_alike(again, {key: declared.get(key) for key in again}, tolerance, keys=False, at=where)
    _require_derived(plans, rows)
    members = [_without(row, inputs.pools) for row in rows]
    equal = [with_pools(row, inputs.pools) for row in equal_accuracy(members)]
    again = {"windows": [with_pools(row, inputs.pools) for row in members], "equal_accuracy": equal}
    declared = {"windows": list(rows), "equal_accuracy": content["equal_accuracy"]}
    _require_alike(plain(again), declared, tolerance, keys=True)
    return CheckReport(len(chosen), len(places), len(rows), tolerance)


def _without(row: Mapping[str, Any], pools: Pools) -> dict[str, Any]:
    """A row without the pools, which follow from their members."""
    kept = {name: value for name, value in row["controllers"].items() if name not in pools}
    return {**row, "controllers": kept}


def _declared(plan: RowPlan, row: Mapping[str, Any]) -> RunTask:
    for task in plan.candidates:
        if task.static is not None and task.static.label() == row["best_static"]:
            return task
    raise InputError(
        f"best_static of the row w = {row['w']:g} is `{row['best_static']}`, which is none of the candidates"
    )


def _require_rows(
    plans: Sequence[RowPlan],
    rows: Sequence[Mapping[str, Any]],
    declared: Mapping[str, Any],
    facts: Mapping[str, Any],
    windows: Sequence[Window],
    pools: Pools,
) -> None:
    """Refuse another model, and rows, windows and controllers that are not those of the inputs."""
    same = declared.get("clover_rl") == __version__ and declared.get("run_version") == RUN_VERSION
    for name, value in facts.items():
        if name not in ("clover_rl", "run_version") and declared.get(name) != value:
            raise InputError(
                f"model.{name} is {declared.get(name)} in the file, and {value} for its scenario here",
                fix="check it with the version that wrote it" if not same else None,
            )
    if len(rows) != len(plans):
        raise InputError(f"it has {len(rows)} rows, and its inputs make {len(plans)}")
    for at, (plan, row) in enumerate(zip(plans, rows, strict=True)):
        mine = (plan.at, plan.w, plan.conditions.to_dict())
        if (row["window"], row["w"], row["conditions"]) != mine:
            raise InputError(f"windows[{at}] is another row than its inputs make in that place")
        about = plain(windows[plan.at].to_dict()) | {"sla_ms": facts["sla_ms"]}
        stated = {name: row.get(name) for name in about}
        _require_alike(about, stated, TOLERANCE, keys=False, at=f"windows[{at}]")
        names = {*plan.runs, "static", *pools}
        for name in sorted(names ^ set(row["controllers"])):
            what = "is missing" if name in names else "is none of those that its inputs name"
            raise InputError(f"windows[{at}].controllers.{name} {what}")
        if row["causes"] is None:
            for name, run in row["controllers"].items():
                if run and (run.get("saving") or run.get("blind_run")):
                    raise InputError(f"windows[{at}].controllers.{name} has savings, and none were asked for")


def _require_derived(plans: Sequence[RowPlan], rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse gaps and shares of headroom that do not follow from the file's own objectives."""
    for at, (plan, row) in enumerate(zip(plans, rows, strict=True)):
        objective = {name: row["controllers"][name]["objective"] for name in (*plan.runs, "static")}
        gap = objective["oracle"] - objective["static"]
        _require_alike({"gap": gap}, {"gap": row["gap"]}, TOLERANCE, keys=False, at=f"windows[{at}]")
        base = (row["causes"] or {}).get("base_carbon_g_per_request")
        wrong_model = plan.conditions.service != 1.0 or plan.conditions.energy != 1.0
        for name, value in objective.items():
            share = None if wrong_model or gap < LEAST_GAP else (value - objective["static"]) / gap
            run, where = row["controllers"][name], f"windows[{at}].controllers.{name}"
            again, declared = {"headroom_share": share}, {"headroom_share": run["headroom_share"]}
            _require_alike(again, declared, TOLERANCE, keys=False, at=where)
            saving = run["saving"]
            if base and saving:
                total = 1.0 - run["carbon_g_per_request"] / base
                parts = sum(part for cause, part in saving.items() if cause != "total")
                for saved in (total, parts):
                    declared = {"total": saving["total"]}
                    _require_alike({"total": saved}, declared, TOLERANCE, keys=False, at=f"{where}.saving")


def _require_alike(again: Any, declared: Any, tolerance: float, *, keys: bool, at: str = "") -> None:
    for where, mine, theirs in _differences(again, declared, tolerance, keys, at):
        raise InputError(
            f"{where} is {theirs} in the file, and {mine} when it is done again",
            fix="the file does not show what its inputs give",
        )


def _differences(
    again: Any, declared: Any, tolerance: float, keys: bool, at: str
) -> Iterator[tuple[str, Any, Any]]:
    """Where, what it is here, and what the file says."""
    if isinstance(again, Mapping) and isinstance(declared, Mapping):
        for name in [*again, *(name for name in declared if name not in again)]:
            if name in _NO_FIGURES or (name in _VERSIONS and not keys):
                continue
            place = f"{at}.{name}" if at else str(name)
            if name not in again or name not in declared:
                yield place, again.get(name, "absent"), declared.get(name, "absent")
            else:
                yield from _differences(again[name], declared[name], tolerance, keys, place)
    elif isinstance(again, list) and isinstance(declared, list):
        if len(again) != len(declared):
            yield f"the number of {at}", len(again), len(declared)
        for index, (mine, theirs) in enumerate(zip(again, declared, strict=False)):
            yield from _differences(mine, theirs, tolerance, keys, f"{at}[{index}]")
    elif _number(again) and _number(declared):
        # written so that NaN and infinities, which no file holds that was written here, are differences
        if not abs(again - declared) <= tolerance * max(abs(again), abs(declared)) + _ABSOLUTE:
            yield at, again, declared
    elif again != declared:
        yield at, again, declared


_VERSIONS = frozenset({"run", "blind_run", "clover_rl", "run_version"})
"""Names that hang on the version, so that another one is no difference."""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
