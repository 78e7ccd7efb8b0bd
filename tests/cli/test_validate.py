"""clover-rl validate h100: the keys that others build on, other files, and one sentence for a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import run_here

KEYS = ("power_error_mean", "power_error_p95", "slowdown_error_mean", "slowdown_error_p95")
HEADER = (
    "layout,test,gpu_w,sm_clock_mhz,slice,variant,offered_per_s,served_per_s,"
    "mean_ms,p50_ms,p95_ms,utilisation\n"
)
TWO = "2g 2g,mix,300,1980,2g,b7,,17,58,58,58,1\n2g 2g,mix,300,1980,2g,b1,,240,4.2,4,4,1\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> tuple[int, str, str]:
        return run_here(monkeypatch, capsys, "validate", "h100", *arguments)

    return command


def test_the_document_has_the_shipped_profiles_errors_on_top_and_the_details_beside(run: Any) -> None:
    status, out, err = run("--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert all(0.0 < document[key] < 0.1 for key in KEYS)
    assert document["tests"] == len(document["mixes"]) == 74
    assert document["measurements"] == ["h100_mps_albert_384tok.csv", "h100_mps_efficientnet_8img.csv"]
    rows = document["rows"]
    crossed = [row for row in rows if row["fitted_on"] != "as shipped"]
    assert {(row["application"], row["fitted_on"], row["tested_on"]) for row in crossed} == {
        (application, f"fitted on {one}", other)
        for application in ("efficientnet", "albert")
        for one, other in (("4g 3g", "1g 1g 1g 1g 1g 1g 1g"), ("1g 1g 1g 1g 1g 1g 1g", "4g 3g"))
    }
    for row in rows:
        assert set(KEYS) | {"tests", "sensitivity", "pressure", "slowdown_exponent", "own_exponent"} <= set(
            row
        )
    assert sum("another card" in row["tested_on"] for row in rows) == 6
    first = document["mixes"][0]
    assert len(first["predicted_slowdown"]) == len(first["measured_slowdown"]) == len(first["variants"]) == 7
    off = [abs(mix["predicted_w"] / mix["measured_w"] - 1.0) for mix in document["mixes"]]
    assert sum(off) / len(off) == pytest.approx(document["power_error_mean"])


def test_the_table_shows_every_mix_and_every_error(run: Any) -> None:
    status, out, _ = run()
    assert status == 0
    assert "mix3open0.6" in out
    assert "fitted on 4g 3g" in out
    assert "4g 2g 1g, another card" in out


def test_other_files_take_the_place_of_the_packaged_ones(run: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(HEADER + TWO)
    more = tmp_path / "more.csv"
    more.write_text(HEADER + TWO.replace("b7", "XXLarge").replace("b1", "BASE"))
    status, out, _ = run("--measurements", str(own), "--measurements", str(more), "--json")
    document = json.loads(out)
    assert (status, document["tests"], document["measurements"]) == (0, 2, ["own.csv", "more.csv"])
    assert [(row["application"], row["fitted_on"]) for row in document["rows"]] == [
        ("efficientnet", "as shipped"),
        ("albert", "as shipped"),
    ]
    assert all(isinstance(document[key], float) for key in KEYS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + TWO.replace("b1", "zz"), "own.csv:3: variant `zz` belongs to no profile"),
        (HEADER + TWO.replace("240", "many"), "own.csv:3: column `served_per_s`"),
        (HEADER + TWO.splitlines()[0] + "\n", "own.csv: no test has two or more busy instances"),
        (None, "own.csv: cannot be read"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_status_2(
    run: Any, tmp_path: Path, text: str | None, said: str
) -> None:
    own = tmp_path / "own.csv"
    if text is not None:
        own.write_text(text)
    status, out, err = run("--measurements", str(own), "--json")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
