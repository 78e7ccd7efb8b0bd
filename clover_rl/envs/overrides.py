"""Scenario keys changed from outside the file: `load.peak_share=0.7`, typed and checked by the schema."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.yamlfile import parse_yaml, printable, validate_model

__all__ = ["keys_of", "override"]


def keys_of(model: type[BaseModel] = Scenario) -> tuple[str, ...]:
    """Every key that can be set, nested ones with their dots."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        found.append(name)
        part = part_of(field.annotation)
        if part is not None:
            found += [f"{name}.{key}" for key in keys_of(part)]
    return tuple(found)


def part_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, itself or in a union with None."""
    options = getattr(annotation, "__args__", ()) or (annotation,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, BaseModel)), None)


def override(scenario: Scenario, settings: Sequence[str], *, where: str = "--set") -> Scenario:
    """The scenario with some keys changed.

    Args:
        scenario: as it was read.
        settings: each `key=value` or `key.sub=value`, the value in YAML; a later one wins. They are checked
            together, after the last.
        where: what gave them, for messages.

    Raises:
        InputError: no `=`, an unknown key, or values that the schema refuses.
    """
    if not settings:
        return scenario
    content: dict[str, Any] = scenario.model_dump()
    known = keys_of()
    for text in settings:
        key, equals, value = text.partition("=")
        key, source = key.strip(), printable(f"{where} {text}")
        if not equals:
            raise InputError("no value is given", where=source, fix="write KEY=VALUE, as load.peak_share=0.7")
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            meant = f"did you mean `{near[0]}`? " if near else ""
            raise InputError(
                f"unknown key `{printable(key)}`",
                where=source,
                fix=f"{meant}`clover-rl scenario show NAME` lists all keys",
            )
        *parents, last = key.split(".")
        inner = content
        for parent in parents:
            if not isinstance(inner[parent], dict):
                inner[parent] = {}
            inner = inner[parent]
        inner[last] = parse_yaml(value, where=source, lines=False)
    changed = " ".join(printable(f"{where} {text}") for text in settings)
    return validate_model(content | {"folder": scenario.folder}, Scenario, where=changed)
