"""clover-rl validate a100: 18 points with both fidelities, every miss beside the run that isolates it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import run_here


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> tuple[int, str, str]:
        return run_here(monkeypatch, capsys, "validate", "a100", *arguments)

    return command


def test_the_document_holds_all_points_and_a_run_for_every_miss(run: Any) -> None:
    status, out, err = run("--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert (document["numbers"], len(document["points"])) == (36, 18)
    errors = [point[name]["error"] for point in document["points"] for name in ("energy_j", "p95_ms")]
    assert document["within"]["event"]["0.05"] == sum(abs(error) <= 0.05 for error in errors)
    missed = [miss for miss in document["misses"] if miss["fidelity"] == "event"]
    assert len(missed) == 36 - document["within"]["event"]["0.05"]
    for miss in document["misses"]:
        assert miss["assumption"] == document["assumptions"][miss["run"]]
    for point in document["points"]:
        assert {"published", "predicted", "table", "arrivals", "busy_host", "tail"} <= set(point["p95_ms"])


def test_the_tables_show_points_that_miss_as_well(run: Any) -> None:
    status, out, _ = run()
    assert status == 0
    assert out.count("efficientnet, BASE, 0.2 s") >= 3
    assert "23317" in out
    assert "the load lasts for ever" in out


def test_the_figure_is_written_and_a_path_that_cannot_be_is_one_sentence(run: Any, tmp_path: Path) -> None:
    picture = tmp_path / "a100.png"
    assert run("--figure", str(picture), "--json")[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    status, out, err = run("--figure", str(tmp_path / "file" / "a100.png"), "--json")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
