"""Tables of docs/scenarios.md, and the shipped schema: `python -m clover_rl.cli.scenario_page [FOLDER]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from clover_rl.envs.scenario import load_scenario, scenario_names
from clover_rl.envs.scenario_schema import SCHEMA_FILE, key_rows, schema_text
from clover_rl.errors import InputError

__all__ = ["fill", "table", "tables", "write_page"]


def tables() -> dict[str, str]:
    """What the page's marked places hold."""
    shipped = [["name", "what"], ["---", "---"]]
    shipped += [[f"`{name}`", load_scenario(name).title] for name in scenario_names()]
    keys = [["key", "values", "default", "meaning"], ["---"] * 4]
    keys += [[f"`{row.key}`", row.values, _default(row.default), row.about] for row in key_rows()]
    return {"shipped": table(shipped), "keys": table(keys)}


def fill(text: str, parts: Mapping[str, str], *, where: str) -> str:
    """A page with what lies between `<!-- NAME -->` and `<!-- end -->` replaced.

    Raises:
        InputError: the page has no such place.
    """
    for name, content in parts.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->\n)", re.DOTALL)
        text, count = place.subn(lambda found, new=content: found[1] + new + found[2], text)  # type: ignore[misc]
        if count != 1:
            raise InputError(
                f"there are {count} places `<!-- {name} -->` to `<!-- end -->`", where=where, fix="keep one"
            )
    return text


def table(rows: list[list[str]]) -> str:
    """Markdown of rows, the first two its head."""
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def _default(text: str) -> str:
    return text if not text or text == "left out" else f"`{text}`"


def write_page(folder: Path) -> list[Path]:
    """Fill the page in a folder, and write the schema beside the shipped scenarios; returns both paths."""
    page = folder / "scenarios.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), tables(), where=str(page)), encoding="utf-8")
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
    return [page, SCHEMA_FILE]


if __name__ == "__main__":
    for path in write_page(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(path)
