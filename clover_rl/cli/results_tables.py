"""What docs/results.md keeps of a result file, and the tables that it makes of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from clover_rl.agents.causes import CAUSES
from clover_rl.agents.conditions import Conditions
from clover_rl.agents.document import file_hash
from clover_rl.agents.evaluate import LEAST_GAP
from clover_rl.agents.pooling import mean_interval
from clover_rl.agents.shipped import shipped_names, shipped_policy
from clover_rl.cli.results_suites import PinnedWindow
from clover_rl.cli.scenario_page import table

__all__ = ["condensed", "tables"]

Kept = Mapping[str, Sequence[Mapping[str, Any]]]
"""Suite -> its windows, as `condensed` gives them."""

POLICY = "policy"
_FIGURES = (
    *("objective", "headroom_share", "carbon_g_per_request", "base_carbon_g_per_request", "accuracy_loss"),
    *("sla_held", "transitions", "live_trials", "decision_us"),
)
_WANTED_SHARE, _WANTED_SLA, _WANTED_SLA_OFF, _WANTED_LOSS = 0.75, 0.995, 0.99, 0.02
_DIGITS = 5


def condensed(content: Mapping[str, Any], window: PinnedWindow) -> dict[str, Any]:
    """A result file without what the page does not show; figures of five significant digits."""
    (carbon,), (load,) = content["inputs"]["carbon"], content["inputs"]["load"]
    first = content["windows"][0]
    return {
        "window": window.name,
        "carbon": {"file": f"{window.file}.csv", "sha256": carbon["sha256"], "kind": window.kind},
        "load": {
            "file": f"{first['load']}.csv",
            "sha256": load["sha256"],
            "factor": _short(first["load_factor"]),
        },
        "start": window.start,
        "days": _short(
            first["steps"]
            * content["scenario_definition"]["interval_s"]
            * content["scenario_definition"]["time_scale"]
            / 86_400.0
        ),
        "sla_ms": _short(first["sla_ms"]),
        "scenario": content["scenario_definition"],
        "seed": content["seed"],
        "model": content["model"],
        "margins": content["margins"],
        "versions": content["versions"],
        "policies": [
            {"name": each["name"], "sha256": each["sha256"]} for each in content["inputs"]["policies"]
        ],
        "rows": [
            {
                "w": row["w"],
                "gap": _short(row["gap"]),
                "best_static": row["best_static"],
                "conditions": row["conditions"],
                "controllers": {name: _run(run) for name, run in row["controllers"].items()},
            }
            for row in content["windows"]
        ],
        "equal_accuracy": [
            {
                "accuracy_loss": row["accuracy_loss"],
                "conditions": row["conditions"],
                "controllers": {
                    name: run and {"saved": _short(run["saved"]), "saving": _shares(run["saving"])}
                    for name, run in row["controllers"].items()
                },
            }
            for row in content["equal_accuracy"]
        ],
    }


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: _short(run[name]) for name in _FIGURES} | {"saving": _shares(run["saving"])}
    return kept | ({"seeds": run["seeds"], "members": run["members"]} if "seeds" in run else {})


def _shares(saving: Mapping[str, float] | None) -> dict[str, Any] | None:
    return {name: _short(share) for name, share in saving.items()} if saving else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def tables(kept: Kept) -> dict[str, str]:
    """What the page's marked places hold."""
    return {
        "windows": _windows(kept.get("main", ())),
        "targets": _targets(kept),
        "summary": _summary(kept),
        "headroom": _headroom(kept.get("main", ())),
        "equal": _equal(kept),
        "causes": _causes(kept),
        "robust": _robust(kept.get("robust", ())),
    }


def _plain(windows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Windows and rows in which nothing departs."""
    for window in windows:
        for row in window["rows"]:
            if not row["conditions"]:
                yield window, row


def _names(windows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Controllers, a pool in place of its members."""
    found: dict[str, None] = {}
    for _, row in _plain(windows):
        members = {name for run in row["controllers"].values() for name in run.get("members", ())}
        found.update(dict.fromkeys(name for name in row["controllers"] if name not in members))
    return list(found)


def _windows(windows: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        ["window", "carbon", "kind", "starts", "days", "load factor", "SLA ms", "sha256 of the carbon file"]
    ]
    rows.append(["---"] * len(rows[0]))
    for each in windows:
        carbon = each["carbon"]
        rows.append(
            [
                f"`{each['window']}`",
                f"`{carbon['file']}`",
                carbon["kind"],
                each["start"],
                f"{each['days']:.3g}",
                f"{each['load']['factor']:.3g}",
                f"{each['sla_ms']:.1f}",
                f"`{carbon['sha256'][:16]}`",
            ]
        )
    return table(rows)


def _summary(kept: Kept) -> str:
    head = [
        "controller",
        "share of headroom",
        "least",
        "above static",
        "SLA held",
        "least",
        "transitions/day",
    ]
    head += ["live trials/day", "decision µs"]
    text = ""
    for suite, windows in kept.items():
        if suite == "robust":
            continue
        rows = [head, ["---"] * len(head)]
        for name in _names(windows):
            runs = [
                (window, row, row["controllers"][name])
                for window, row in _plain(windows)
                if name in row["controllers"]
            ]
            shares = [run["headroom_share"] for _, _, run in runs if run["headroom_share"] is not None]
            held = [run["sla_held"] for _, _, run in runs]
            above = sum(run["objective"] > row["controllers"]["static"]["objective"] for _, row, run in runs)
            rows.append(
                [
                    f"`{name}`",
                    _mean_share(windows, name, shares),
                    f"{min(shares):.2f}" if shares else "-",
                    f"{above} of {len(runs)}",
                    f"{100 * fmean(held):.2f} %",
                    f"{100 * min(held):.2f} %",
                    f"{fmean(run['transitions'] / window['days'] for window, _, run in runs):.1f}",
                    f"{fmean(run['live_trials'] / window['days'] for window, _, run in runs):.1f}",
                    f"{median(run['decision_us'] for _, _, run in runs):.0f}",
                ]
            )
        worth = sum(row["gap"] >= LEAST_GAP for _, row in _plain(windows))
        total = sum(1 for _ in _plain(windows))
        text += (
            f"\n### {suite}\n\n{len(windows)} windows, {total} rows of windows and weights, {worth} with a "
            f"gap of {LEAST_GAP:g} or more.\n\n{table(rows)}"
        )
    return text


def _mean_share(windows: Sequence[Mapping[str, Any]], name: str, shares: Sequence[float]) -> str:
    """Mean share, with the interval over training seeds of their means where there are several."""
    if not shares:
        return "-"
    by_seed: dict[str, list[float]] = {}
    for _, row in _plain(windows):
        for member in row["controllers"].get(name, {}).get("members", ()):
            share = row["controllers"][member]["headroom_share"]
            if share is not None:
                by_seed.setdefault(member, []).append(share)
    found = mean_interval([fmean(each) for each in by_seed.values()])
    text = f"{fmean(shares):.3f}"
    return text if found is None else f"{text} ± {(found[2] - found[1]) / 2.0:.3f} ({len(by_seed)} seeds)"


def _headroom(windows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in _names(windows) if name not in ("static", "oracle", "base", "co2opt")]
    rows = [["window", "w", "gap", *(f"`{name}`" for name in names)], ["---"] * (len(names) + 3)]
    for window, row in _plain(windows):
        shares = [row["controllers"][name]["headroom_share"] for name in names]
        cells = ["-" if share is None else f"{share:.2f}" for share in shares]
        rows.append([f"`{window['window']}`", f"{row['w']:g}", f"{row['gap']:.4f}", *cells])
    return table(rows)


def _equal(kept: Kept) -> str:
    text = ""
    for suite, windows in kept.items():
        if suite == "robust":
            continue
        names = [name for name in _names(windows) if name not in ("base", "co2opt")]
        rows = [["window", "loss", *(f"`{name}`" for name in names)], ["---"] * (len(names) + 2)]
        for window in windows:
            for row in window["equal_accuracy"]:
                runs = [row["controllers"].get(name) for name in names]
                cells = ["-" if run is None else f"{100 * run['saved']:.1f}" for run in runs]
                rows.append([f"`{window['window']}`", f"{100 * row['accuracy_loss']:g} %", *cells])
        text += f"\n### {suite}\n\n{table(rows)}"
    return text


def _causes(kept: Kept) -> str:
    head = ["suite", "window", "controller", "accuracy loss", "saved"]
    head += [cause.replace("_", " ") for cause in CAUSES]
    rows = [head, ["---"] * len(head)]
    for suite, windows in kept.items():
        for window in windows:
            for row in window["equal_accuracy"]:
                # the split takes a blind twin's runs, so of a pool one member has it
                names = [name for name in row["controllers"] if name.startswith(POLICY)]
                for name in (*names, "search", "oracle"):
                    run = row["controllers"].get(name)
                    if row["conditions"] or not run or not run["saving"]:
                        continue
                    cells = [f"{100 * run['saving'][cause]:.1f}" for cause in ("total", *CAUSES)]
                    loss = f"{100 * row['accuracy_loss']:g} %"
                    rows.append([suite, f"`{window['window']}`", f"`{name}`", loss, *cells])
    return table(rows)


def _robust(windows: Sequence[Mapping[str, Any]]) -> str:
    head = ["conditions", "window", "w", "controller", "objective", "against `search`", "SLA held"]
    head += ["saved against BASE there", "accuracy loss"]
    rows = [head, ["---"] * len(head)]
    for window in windows:
        for row in window["rows"]:
            runs = row["controllers"]
            members = {name for run in runs.values() for name in run.get("members", ())}
            for name, run in runs.items():
                if name in members:
                    continue
                saved = 1.0 - run["carbon_g_per_request"] / runs["base"]["carbon_g_per_request"]
                rows.append(
                    [
                        Conditions(**row["conditions"]).name,
                        f"`{window['window']}`",
                        f"{row['w']:g}",
                        f"`{name}`",
                        f"{run['objective']:.4f}",
                        f"{run['objective'] - runs['search']['objective']:+.4f}",
                        f"{100 * run['sla_held']:.2f} %",
                        f"{100 * saved:.1f} %",
                        f"{100 * run['accuracy_loss']:.2f} %",
                    ]
                )
    return table(rows)


def _targets(kept: Kept) -> str:
    """Each target: where the shipped policy meets it, and the mean of its seeds; misses are named."""
    windows = kept.get("main", ())
    if POLICY not in _names(windows):
        return "No policy has been compared yet.\n"
    scenario = windows[0]["scenario"]["name"]
    shipped = file_hash(shipped_policy(scenario).bundle) if scenario in shipped_names() else None
    found = {each["sha256"]: each["name"] for each in windows[0]["policies"]}
    names = [found[shipped], POLICY] if shipped in found else [POLICY]
    titles = ["met by the shipped policy", "by the mean of its seeds"][-len(names) :]
    cases = [dict(_cases(kept, name)) for name in names]
    rows = [["target", *titles, "missed at"], ["---"] * (len(names) + 2)]
    for target in cases[0]:
        met = [f"{sum(met for _, met in each[target])} of {len(each[target])}" for each in cases]
        rows.append([target, *met, "; ".join(at for at, met in cases[0][target] if not met)])
    return table(rows)


def _cases(kept: Kept, name: str) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Each target of a policy, and where it is met."""
    windows = kept.get("main", ())
    plain = [
        (f"{window['window']} at w = {row['w']:g}", row["controllers"]) for window, row in _plain(windows)
    ]
    shares = [(at, runs[name]["headroom_share"]) for at, runs in plain]
    yield (
        f"at least {_WANTED_SHARE:.0%} of the headroom wherever the gap is {LEAST_GAP:g} or more",
        [(at, share >= _WANTED_SHARE) for at, share in shares if share is not None],
    )
    held = [(at, runs[name]["sla_held"] >= _WANTED_SLA) for at, runs in plain]
    yield f"SLA held in at least {100 * _WANTED_SLA:g} % of intervals", held
    rivals = [n for n in _names(windows) if n == "static" or n.startswith(("search", "annealing"))]
    for rival in rivals:
        above = [(at, runs[name]["objective"] > runs[rival]["objective"]) for at, runs in plain]
        yield f"above `{rival}`", above
    for rival in ("search", "search-blind"):
        less = []
        for window in windows:
            for row in window["equal_accuracy"]:
                mine, theirs = row["controllers"].get(name), row["controllers"].get(rival)
                if mine and theirs and row["accuracy_loss"] <= _WANTED_LOSS:
                    at = f"{window['window']} at {100 * row['accuracy_loss']:g} %"
                    less.append((at, mine["saved"] > theirs["saved"]))
        yield f"less carbon than `{rival}` at 1 % and 2 % accuracy loss, where both reach it", less
    off: list[tuple[str, bool]] = []
    ahead: list[tuple[str, bool]] = []
    for window in kept.get("robust", ()):
        for row in window["rows"]:
            if row["conditions"].get("service") not in (0.8, 1.2) or name not in row["controllers"]:
                continue
            at = (
                f"{window['window']}, service and energy x {row['conditions']['service']:g}, w = {row['w']:g}"
            )
            mine = row["controllers"][name]
            off.append((at, mine["sla_held"] >= _WANTED_SLA_OFF))
            ahead.append((at, mine["objective"] > row["controllers"]["search"]["objective"]))
    yield f"service and energy off by 20 %: SLA held in {_WANTED_SLA_OFF:.0%} of intervals", off
    yield "service and energy off by 20 %: above `search`", ahead
