"""docs/results.md is written from results that can be gone on with, and names each missed target."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clover_rl.agents.conditions import PLAIN, Conditions
from clover_rl.cli.results_page import PAGE, main, run_suite, write_page
from clover_rl.cli.results_suites import GENERATED, SUITES, WINDOWS, PinnedWindow, Suite, load_file
from clover_rl.cli.results_tables import tables
from clover_rl.envs.scenario import load_scenario
from clover_rl.signals import read_load_csv
from tests.cli.test_cli import SMALL, write_traces

DOCS = Path(__file__).parents[2] / "docs"
WINDOW = PinnedWindow("days", "days", "average direct", 0.0, "2021-03-01T02:00:00Z")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the real traces have it."""
    folder = tmp_path_factory.mktemp("traces")
    carbon, load = write_traces(folder)
    for part, file in (("carbon", carbon), ("workload", load)):
        (folder / part).mkdir()
        shutil.move(file, folder / part)
    return folder


@pytest.fixture(scope="module")
def kept(traces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What a small suite, and its robust twin, leave of one short window."""
    out = tmp_path_factory.mktemp("results")
    suite = Suite(
        "main",
        SMALL,
        windows=(WINDOW,),
        load="load",
        against=("base", "search", "annealing"),
        weights=(0.05, 0.15),
        split=("search", "oracle"),
    )
    robust = replace(suite, name="robust", split=(), conditions=(PLAIN, Conditions(service=1.2, energy=1.2)))
    found = {each.name: list(run_suite(each, traces=traces, out=out, days=0.1)) for each in (suite, robust)}
    assert (out / "main" / "days" / "result.json").is_file()
    return found


def test_the_page_has_a_place_for_every_table_and_small_results(
    kept: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    shutil.copy(DOCS / PAGE, tmp_path)
    page = write_page(tmp_path, kept)
    text = page.read_text()
    assert "`days.csv`" in text
    assert "average direct" in text
    assert "service x 1.2, energy x 1.2" in text
    assert "No policy has been compared yet." in text
    assert json.loads((tmp_path / "results.json").read_text()) == kept
    write_page(tmp_path, {})  # from what is kept
    assert page.read_text() == text
    (window,) = kept["main"]
    assert window["rows"][0]["controllers"]["search"]["saving"]["total"] is not None
    assert str(tmp_path.parent) not in json.dumps(kept)  # no paths of this machine


def with_policy(windows: list[dict[str, Any]], better: float) -> list[dict[str, Any]]:
    """A policy by search's side, better by so much, over two seeds."""
    found = copy.deepcopy(windows)
    for window in found:
        for row in window["rows"]:
            row["gap"] = 0.01
            runs = row["controllers"]
            for name, off in (("policy seed 1", -0.001), ("policy seed 2", 0.001), ("policy", 0.0)):
                runs[name] = dict(runs["search"])
                runs[name]["objective"] += better + off
                runs[name] |= {"headroom_share": 0.8 + 10 * off, "sla_held": 1.0}
            runs["policy"] |= {"seeds": 2, "members": ["policy seed 1", "policy seed 2"]}
        for row in window["equal_accuracy"]:
            for name in ("search", "policy"):
                row["controllers"][name] = {"saved": 0.3 + better * (name == "policy"), "saving": None}
    return found


def test_targets_are_counted_and_misses_named(kept: dict[str, list[dict[str, Any]]]) -> None:
    suites = {name: with_policy(windows, 0.5) for name, windows in kept.items()}
    targets = tables(suites)["targets"].splitlines()
    assert len(targets) == 2 + 2 + 3 + 2 + 2  # head, share and SLA, three rivals, carbon, robustness
    met = [line.split("|")[2].strip() for line in targets[2:]]
    assert met == [*["2 of 2"] * 6, "0 of 0", *["2 of 2"] * 2]
    worse = {name: with_policy(windows, -0.5) for name, windows in kept.items()}
    targets = tables(worse)["targets"].splitlines()
    (line,) = (line for line in targets if line.startswith("| above `search` "))
    assert "0 of 2" in line
    assert "days at w = 0.05; days at w = 0.15" in line
    summary = tables(suites)["summary"]
    assert "0.800 ± " in summary
    assert "(2 seeds)" in summary
    assert "`policy seed 1`" not in summary


def test_the_suites_are_those_of_the_acceptance() -> None:
    assert len(WINDOWS) == 11
    assert sorted({window.days for window in WINDOWS}) == [2.0, 14.0]
    assert sum(window.days == 14.0 for window in WINDOWS) == 8
    for window in WINDOWS:
        assert ("lifecycle" in window.file) == (window.kind == "average life-cycle")
    assert SUITES[0].name == "main"
    for suite in SUITES:
        assert load_scenario(suite.scenario).name == suite.scenario
        assert set(suite.split) <= set(suite.against)


def test_the_pinned_windows_lie_within_the_real_traces(shared_data: Path) -> None:
    for window in WINDOWS:
        assert (shared_data / "carbon" / f"{window.file}.csv").is_file()
        first = (shared_data / "carbon" / f"{window.file}.csv").read_text().splitlines()
        stamped = not first[1].split(",")[0].isdigit()
        assert stamped == window.start.endswith("Z")
        if stamped:
            assert any(line.startswith(window.start) for line in first)


def test_a_generated_load_is_the_same_each_time(tmp_path: Path) -> None:
    suite = Suite("x", SMALL, load=GENERATED)
    first, second = (load_file(suite, tmp_path, tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    trace = read_load_csv(first)
    assert trace.end_s >= 14.5 * 86_400.0
    assert trace.values.mean() == pytest.approx(200.0, rel=1e-3)


def test_a_mistake_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "give --traces and --out" in capsys.readouterr().err
    (tmp_path / PAGE).write_text("nothing")
    assert main([str(tmp_path), "--write"]) == 2
    assert "there are 0 places" in capsys.readouterr().err
