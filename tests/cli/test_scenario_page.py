"""docs/scenarios.md says what the model says."""

from __future__ import annotations

from pathlib import Path

import pytest

from clover_rl.cli.scenario_page import fill, tables
from clover_rl.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scenarios.md"


def test_the_page_holds_the_models_keys_and_the_scenarios_shipped() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, tables(), where="page") == page, "run python -m clover_rl.cli.scenario_page docs"


def test_only_marked_places_are_filled() -> None:
    text = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n"
    assert fill(text, {"x": "new\n"}, where="page") == text.replace("old", "new")
    with pytest.raises(InputError, match="page: there are 0 places `<!-- z -->`"):
        fill(text, {"z": ""}, where="page")
