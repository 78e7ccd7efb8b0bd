"""Tables of docs/results.md: `python -m clover_rl.cli.results_page docs --traces FOLDER --out RESULTS`.

Every window of every suite is run, or gone on with, in a results folder of its own (RESULTS/SUITE/WINDOW,
which `clover-rl evaluate --check` confirms); what the page needs of them is kept in results.json beside it.
`--only SUITE` and `--window NAME` run some; `--write` only writes the page again from results.json.
`--policies FOLDER` has the bundles: SCENARIO*.clover, pooled where there are several.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clover_rl.agents.document import Inputs
from clover_rl.cli.chosen import chosen_scenario
from clover_rl.cli.evaluate import evaluated, named_policies
from clover_rl.cli.results_suites import SUITES, PinnedWindow, Suite, load_file
from clover_rl.cli.results_tables import condensed, tables
from clover_rl.cli.scenario_page import fill
from clover_rl.errors import CloverError, InputError

__all__ = ["main", "run_suite", "write_page"]

KEPT, PAGE = "results.json", "results.md"


def run_window(
    suite: Suite,
    window: PinnedWindow,
    *,
    traces: Path,
    out: Path,
    policies: Path | None = None,
    jobs: int = 1,
    days: float | None = None,
) -> dict[str, Any]:
    """The document of one window of a suite; what is kept in its results folder is not done again.

    Args:
        suite, window: what to run.
        traces: folder with `carbon` and `workload`.
        out: folder for results.
        policies: folder with bundles.
        jobs: processes.
        days: shorter windows, to try it out.

    Raises:
        InputError: a trace that is not there, or bundles that do not belong together.
        BundleError: a bundle for something else.
    """
    settings = [
        *suite.settings,
        f"carbon.kind={window.kind}",
        f"carbon.utc_offset_h={window.utc_offset_h:g}",
    ]
    found = sorted(policies.glob(f"{suite.bundles}*.clover")) if policies and suite.bundles else []
    found = found[: suite.seeds]
    files, bundles = named_policies(found, []) if len(found) < 2 else named_policies([], found)
    carbon, load = traces / "carbon" / f"{window.file}.csv", load_file(suite, traces, out)
    inputs = Inputs(
        scenario=suite.scenario,
        carbon=[carbon],
        load=[load],
        start=window.start,
        days=min(window.days, days or window.days),
        count=1,
        seed=1,
        weights=suite.weights,
        against=suite.against,
        causes=[*suite.split, *(file.name for file in files[:1])] if suite.split else [],
        conditions=suite.conditions,
        policies=files,
    )
    command = f"python -m clover_rl.cli.results_page docs --only {suite.name}"
    folder = out / suite.name / window.name
    return evaluated(
        chosen_scenario(suite.scenario, settings), inputs, bundles, out=folder, jobs=jobs, command=command
    )


def run_suite(suite: Suite, windows: Sequence[str] | None = None, **options: Any) -> Iterator[dict[str, Any]]:
    """What the page keeps of a suite's windows, or of those named, one after the other; see `run_window`."""
    for window in suite.windows:
        if windows is None or window.name in windows:
            sys.stderr.write(f"{suite.name}: {window.name}\n")
            yield condensed(run_window(suite, window, **options), window)


def write_page(folder: Path, suites: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Keep what windows found, beside what is kept of others, and fill the page; returns its path.

    Raises:
        InputError: the page has not the places for it.
    """
    path, page = folder / KEPT, folder / PAGE
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for suite in SUITES:
        found = {row["window"]: row for row in (*kept.get(suite.name, ()), *suites.get(suite.name, ()))}
        if found:
            kept[suite.name] = [found[w.name] for w in suite.windows if w.name in found]
    lines = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(each) for each in kept[name]) + "\n]"
        for name in (suite.name for suite in SUITES)
        if name in kept
    ]
    path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    page.write_text(fill(page.read_text(encoding="utf-8"), tables(kept), where=str(page)), encoding="utf-8")
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run suites and write the page; 2 and one sentence where something is wrong."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(prog="python -m clover_rl.cli.results_page", description=__doc__)
    parser.add_argument("folder", type=Path, help="of results.md")
    parser.add_argument("--traces", type=Path, help="folder with carbon and workload")
    parser.add_argument("--out", type=Path, help="folder for results")
    parser.add_argument("--policies", type=Path, help="folder with bundles")
    parser.add_argument("--only", action="append", choices=names, help="a suite; may be repeated")
    parser.add_argument("--window", action="append", help="a window of the suites; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--days", type=float, help="shorter windows, to try it out")
    parser.add_argument("--write", action="store_true", help="only write the page again")
    asked = parser.parse_args(arguments)
    try:
        if not asked.write:
            if asked.traces is None or asked.out is None:
                raise InputError("runs need traces and a results folder", fix="give --traces and --out")
            options = {key: getattr(asked, key) for key in ("traces", "out", "policies", "jobs", "days")}
            chosen = [suite for suite in SUITES if asked.only is None or suite.name in asked.only]
            for suite in chosen:
                for window in run_suite(suite, asked.window, **options):
                    write_page(asked.folder, {suite.name: [window]})
        print(write_page(asked.folder, {}))
    except CloverError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
