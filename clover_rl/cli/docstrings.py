"""Sections of docstrings, for pages that are written from the code."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["first_paragraphs", "items_of"]

_ITEM = re.compile(r"^([a-z_][\w, ]*): (.*)$")


def items_of(target: Any, section: str) -> dict[str, str]:
    """The items of a section such as Args or Attributes, each text as one line.

    An item for several names, `a, b: text`, gives each of them the text.
    """
    lines = (inspect.getdoc(target) or "").splitlines()
    if f"{section}:" not in lines:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines[lines.index(f"{section}:") + 1 :]:
        if line and not line.startswith(" "):
            break
        match = _ITEM.match(line.removeprefix("    ")) if not line.startswith("     ") else None
        if match:
            names = [name.strip() for name in match[1].split(",")]
            found |= dict.fromkeys(names, match[2])
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found


def first_paragraphs(target: Any) -> str:
    """What stands before the first section."""
    text = inspect.getdoc(target) or ""
    return re.split(r"\n(?:Args|Attributes|Returns|Raises):\n", text)[0].strip()
