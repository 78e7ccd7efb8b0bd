"""The schema that editors read says what the model that validates says, and so does the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clover_rl.envs.overrides import keys_of
from clover_rl.envs.scenario import FOLDER, load_scenario, scenario_names
from clover_rl.envs.scenario_schema import SCHEMA_FILE, json_schema, key_rows, schema_text
from clover_rl.errors import InputError

STALE = "run python -m clover_rl.cli.scenario_page docs"


def test_the_schema_shipped_is_the_models() -> None:
    # as values: versions of pydantic write 0 or 0.0
    assert (
        json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema() == json.loads(schema_text())
    ), STALE


def test_every_key_is_explained_with_values_and_default() -> None:
    rows = {row.key: row for row in key_rows()}
    assert tuple(rows) == keys_of()
    for row in rows.values():
        assert len(row.about) > 10, row.key
        assert row.about[-1] == ".", row.key
        assert "\n" not in row.about
        assert row.values
    assert {key for key, row in rows.items() if not row.default and not row.part} == {
        "name",
        "title",
        "profile",
    }
    assert (rows["gpus"].values, rows["gpus"].default) == ("integer 1 to 64", "4")
    assert rows["carbon.forecast"].values == "`persistence` or `typical-day` or `blurred`"
    assert rows["embodied"].default == "left out"


def holds(schema: dict[str, Any], value: Any, parts: dict[str, Any]) -> bool:
    """Whether a value is valid under what this schema uses of JSON Schema; anything else is an error."""
    known = {"$ref", "anyOf", "default", "description", "type", "enum", "items", "properties", "required"}
    known |= {"additionalProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern"}
    known |= {"minLength", "maxLength", "minItems", "maxItems", "$schema", "$defs", "title"}
    assert schema.keys() <= known, schema.keys() - known
    if "$ref" in schema:
        return holds(parts[schema["$ref"].rpartition("/")[2]], value, parts)
    if "anyOf" in schema:
        return any(holds(option, value, parts) for option in schema["anyOf"])
    types = {"object": dict, "array": list, "string": str, "null": type(None), "integer": int}
    if schema["type"] == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
    elif not isinstance(value, types[schema["type"]]):
        return False
    if isinstance(value, dict):
        return (
            set(schema.get("required", ())) <= value.keys() <= schema["properties"].keys()
            and schema["additionalProperties"] is False
            and all(holds(schema["properties"][key], item, parts) for key, item in value.items())
        )
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(
            holds(schema["items"], item, parts) for item in value
        )
    if isinstance(value, int | float):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and value > schema.get("exclusiveMinimum", value - 1)
            and value < schema.get("exclusiveMaximum", value + 1)
        )
    return "enum" not in schema or value in schema["enum"]


@pytest.mark.parametrize("name", scenario_names())
def test_scenarios_shipped_name_the_schema_and_are_valid_under_it(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA_FILE.name}\n")
    schema = json_schema()
    assert holds(schema, yaml.safe_load(text), schema["$defs"])
    assert holds(schema, load_scenario(name).to_dict(), schema["$defs"])


@pytest.mark.parametrize(
    "text",
    ["gpu: 4", "gpus: 65", "gpus: two", "load: 3", "load: {peak: 1}", "carbon: {kind: marginal}", "pue: 0.5"],
)
def test_what_the_model_refuses_an_editor_marks(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"name: own\ntitle: My own\nprofile: h100-albert\n{text}\n")
    with pytest.raises(InputError):
        load_scenario(path)
    schema = json_schema()
    assert not holds(schema, yaml.safe_load(path.read_text()), schema["$defs"])


def test_the_schema_is_json_of_a_known_draft() -> None:
    found = json.loads(schema_text())
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["required"] == ["name", "title", "profile"]
    assert "folder" not in found["properties"]
