"""docs/headroom.md shows what was run, for every scenario shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clover_rl.agents.headroom import HeadroomRow, verdict
from clover_rl.cli import headroom_page
from clover_rl.cli.headroom_page import tables, write_page
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
    report = KEPT[name]
    assert report["scenario"] == name
    assert report["command"] == f"clover-rl scenario headroom {name} --json"
    assert [item["w"] for item in report["rows"]] == load_scenario(name).weights.evaluate
    for item in report["rows"]:
        assert item["gap"] == pytest.approx(item["oracle"] - item["static"])
        assert item["base"] < item["static"]


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

    found = tables({"easy": report("easy", 0.0001), "hard": report("hard", 0.004)})
    assert found["summary"].index("hard") < found["summary"].index("easy")
    assert "| **0.0040** | something" in found["summary"]
    assert "| 0.0001 | nothing to win" in found["summary"]
    assert "| 0.02 | -0.1000 | 0.0000 | 0.0000 | 0.0040 | 0.0040 | - |" in found["details"]


def test_a_run_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "headroom.json").write_text("{}")
    (tmp_path / "headroom.md").write_text("<!-- summary -->\n<!-- end -->\n<!-- details -->\n<!-- end -->\n")
    monkeypatch.setattr(headroom_page, "measure", lambda name: KEPT[name])
    page = write_page(tmp_path, ["demo"])
    assert "`demo`" in page.read_text()
    assert json.loads((tmp_path / "headroom.json").read_text()) == {"demo": KEPT["demo"]}
