"""docs/headroom.md shows what was run, for every scenario shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clover_rl.agents.headroom import HeadroomRow, verdict
from clover_rl.cli import headroom_page
from clover_rl.cli.headroom_page import SEEDS, mean_rows, tables, write_page
from clover_rl.cli.scenario_page import fill
from clover_rl.envs.scenario import load_scenario, scenario_names

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT = json.loads((DOCS / "headroom.json").read_text(encoding="utf-8"))


def row(w: float, gap: float) -> HeadroomRow:
    return HeadroomRow(w=w, base=-0.1, static=0.0, search=0.0, oracle=gap, gap=gap, search_share=None)


def test_the_page_holds_the_runs_kept() -> None:
    page = (DOCS / "headroom.md").read_text(encoding="utf-8")
    assert fill(page, tables(KEPT), where="page") == page, "run python -m clover_rl.cli.headroom_page docs"


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_shipped_has_a_run_at_the_weights_it_reports(name: str) -> None:
    assert len(KEPT[name]) == len(SEEDS)
    for report, seed in zip(KEPT[name], SEEDS, strict=True):
        assert report["scenario"] == name
        assert report["command"].startswith(f"clover-rl scenario headroom {name} ")
        assert f"--seed {seed}" in report["command"] or seed == 1  # the default
        assert [item["w"] for item in report["rows"]] == load_scenario(name).weights.evaluate
        for item in report["rows"]:
            assert item["gap"] == pytest.approx(item["oracle"] - item["static"])
            assert item["base"] <= item["static"]


def test_an_empty_gap_is_said_plainly() -> None:
    assert verdict([row(0.02, 0.001), row(0.1, -0.001)]).startswith("nothing to win: at every weight one")
    assert verdict([row(0.02, 0.001), row(0.1, 0.002)]).startswith(
        "something to win at w = 0.1; elsewhere one"
    )
    assert verdict([row(0.02, 0.003), row(0.1, 0.002)]) == "something to win at every weight"


def test_the_hardest_comes_first_and_gaps_worth_it_are_bold() -> None:
    def report(name: str, gap: float) -> dict[str, object]:
        return {
            "scenario": name,
            "command": f"clover-rl scenario headroom {name} --json",
            "windows": 4,
            "days": 2.0,
            "margins": {"oracle": 0.1},
            "rows": [row(0.02, gap)],
        }

    easy, hard = ([report(name, gap), report(name, 0.0)] for name, gap in (("easy", 0.001), ("hard", 0.006)))
    found = tables({"easy": easy, "hard": hard})
    assert found["summary"].index("hard") < found["summary"].index("easy")
    assert "| **0.0030** (0.0060, 0.0000) | something" in found["summary"]
    assert "| 0.0005 (0.0010, 0.0000) | nothing to win" in found["summary"]
    assert "| 0.02 | -0.1000 | 0.0000 | 0.0000 | 0.0060 | 0.0060 | - |" in found["details"]


def test_a_run_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "headroom.json").write_text("{}")
    (tmp_path / "headroom.md").write_text("<!-- summary -->\n<!-- end -->\n<!-- details -->\n<!-- end -->\n")
    monkeypatch.setattr(headroom_page, "measure", lambda name, seed: KEPT[name][SEEDS.index(seed)])
    page = write_page(tmp_path, ["demo"])
    assert "`demo`" in page.read_text()
    assert json.loads((tmp_path / "headroom.json").read_text()) == {"demo": KEPT["demo"]}


def test_means_are_over_all_windows() -> None:
    runs = [{"rows": [row(0.02, 0.006)]}, {"rows": [row(0.02, 0.002)]}]
    (mean,) = mean_rows(runs)
    assert (mean["gap"], mean["w"], mean["oracle"], mean["search_share"]) == (0.004, 0.02, 0.004, 0.0)
