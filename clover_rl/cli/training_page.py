"""Tables of docs/training.md: `python -m clover_rl.cli.training_page [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from clover_rl.agents.train.recipe import RECIPES, CommonRecipe, load_recipe, recipe_names
from clover_rl.agents.train.space import Range, load_space, space_of
from clover_rl.cli.docstrings import items_of
from clover_rl.cli.scenario_page import fill, table

__all__ = ["tables", "write_page"]


def tables() -> dict[str, str]:
    """What the page's marked places hold."""
    return {"recipes": _recipes(), "keys": _keys(), "spaces": _spaces()}


def _recipes() -> str:
    shipped = [["name", "what it does", "searched by `tune`"], ["---"] * 3]
    for name in recipe_names():
        searched = ", ".join(f"`{field}`" for field in load_space(space_of(load_recipe(name))).fields)
        shipped.append([f"`{name}`", load_recipe(name).about, searched])
    return table(shipped)


def _keys() -> str:
    """Every key with its value in each shipped recipe, a dash where it has none."""
    contents = [load_recipe(name).model_dump(mode="json") for name in recipe_names()]
    keys = dict.fromkeys(key for content in contents for key in content if key not in ("name", "about"))
    rows = [["key", *(f"`{name}`" for name in recipe_names()), "meaning"]]
    rows.append(["---"] * len(rows[0]))
    for key in keys:
        if key == "algorithm":
            continue
        values = [_value(content[key]) if key in content else "-" for content in contents]
        rows.append([f"`{key}`", *values, _meaning(key)])
    return table(rows)


def _meaning(key: str) -> str:
    """What a key means; where it means different things, for which recipe which."""
    users: dict[str, list[str]] = {}
    for name, kind in RECIPES.items():
        for each in kind.__mro__:
            items = items_of(each, "Attributes") if issubclass(each, CommonRecipe) else {}
            if key in items:
                users.setdefault(items[key].rstrip("."), []).append(f"`{name}`")
                break
    if len(users) == 1:
        return next(iter(users))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in users.items())


def _spaces() -> str:
    rows = [["recipe", "key", "searched"], ["---"] * 3]
    for recipe in recipe_names():
        for name, part in load_space(space_of(load_recipe(recipe))).fields.items():
            if isinstance(part, Range):
                shown = f"{part.low:g} to {part.high:g}{', logarithmically' if part.log else ''}"
            else:
                shown = ", ".join(_value(item) for item in part.choices)
            rows.append([f"`{recipe}`", f"`{name}`", shown])
    return table(rows)


def _value(value: object) -> str:
    return "none" if value is None else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def write_page(folder: Path) -> Path:
    """Fill the page in a folder; returns its path."""
    page = folder / "training.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), tables(), where=str(page)), encoding="utf-8")
    return page


if __name__ == "__main__":
    print(write_page(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")))
