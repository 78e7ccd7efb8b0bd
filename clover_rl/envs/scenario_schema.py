"""JSON Schema of scenario files, and each key in words: both read off the model that validates them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clover_rl.envs.scenario import FOLDER, Scenario

__all__ = ["SCHEMA_FILE", "KeyRow", "json_schema", "key_rows", "schema_text"]

SCHEMA_FILE: Path = FOLDER / "scenario.schema.json"
"""Shipped beside the scenarios, whose first line names it."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key.

    Attributes:
        key: with its dots.
        values: type and range in words.
        default: as it would be written; empty where the key must be given.
        about: what it means.
        part: whether it only holds other keys.
    """

    key: str
    values: str
    default: str
    about: str
    part: bool


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file."""
    found = Scenario.model_json_schema()
    _tidy(found)
    return (
        {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found | {"title": "Clover-RL scenario"}
    )


def schema_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def key_rows() -> list[KeyRow]:
    """Every key of a scenario, in order, nested ones after the key that holds them."""
    found = json_schema()
    return list(_rows(found, found["$defs"], ""))


def _rows(model: dict[str, Any], parts: dict[str, Any], prefix: str) -> Iterator[KeyRow]:
    for name, field in model["properties"].items():
        reference = _reference(field)
        default = field.get("default")
        shown = "" if name in model.get("required", ()) else json.dumps(default)
        if reference is None:
            yield KeyRow(prefix + name, _values(field), shown, field.get("description", ""), False)
            continue
        part = parts[reference]
        about = field.get("description") or part.get("description", "").partition("\n\n")[0]
        left_out = "left out" if default is None else ""
        yield KeyRow(prefix + name, "keys below", left_out, about, True)
        yield from _rows(part, parts, f"{prefix}{name}.")


def _reference(field: dict[str, Any]) -> str | None:
    for option in (field, *field.get("anyOf", ())):
        if "$ref" in option:
            return str(option["$ref"]).rpartition("/")[2]
    return None


def _values(field: dict[str, Any]) -> str:
    options = field.get("anyOf")
    if options:
        return " or ".join(_values(option) for option in options)
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    kind = field["type"]
    if kind == "array":
        least = field.get("minItems", 0)
        return f"list of {_values(field['items'])}" + (f", {least} or more" if least else "")
    if kind == "null":
        return "`null`"
    if kind == "string":
        return f"text like `{field['pattern']}`" if "pattern" in field else "text"
    return " ".join(filter(None, (kind, _range(field))))


def _range(field: dict[str, Any]) -> str:
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high, below = field.get("maximum"), field.get("exclusiveMaximum")
    start = f"{low:g}" if low is not None else f"above {above:g}" if above is not None else ""
    end = f"{high:g}" if high is not None else f"below {below:g}" if below is not None else ""
    return f"{start} to {end}" if start and end else start or end


def _tidy(node: Any) -> None:
    """Descriptions without line breaks amid a sentence; titles that only repeat a key left out."""
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            paragraphs = inspect.cleandoc(node["description"]).split("\n\n")
            node["description"] = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _tidy(value)
    elif isinstance(node, list):
        for value in node:
            _tidy(value)
