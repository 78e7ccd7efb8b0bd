"""docs/training.md says what the recipes are."""

from __future__ import annotations

from pathlib import Path

from clover_rl.agents.train.recipe import load_recipe, recipe_names
from clover_rl.cli.scenario_page import fill
from clover_rl.cli.training_page import tables

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_the_page_is_written_from_the_recipes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, tables(), where="page") == page, "run python -m clover_rl.cli.training_page docs"


def test_every_key_has_a_meaning_and_its_values() -> None:
    rows = tables()["keys"].splitlines()
    cells = {row.split(" | ")[0].strip("| `"): row.split(" | ")[1:] for row in rows[2:]}
    for column, name in enumerate(recipe_names()):
        for key, value in load_recipe(name).model_dump(mode="json").items():
            if key not in ("name", "about", "algorithm"):
                shown = cells[key][column].strip("`")
                assert shown == (
                    "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
                )
    assert all(len(row[-1].strip("| ")) > 3 for row in cells.values())
