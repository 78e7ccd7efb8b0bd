"""Reading YAML files into validated models, with errors that name file, key and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clover_rl.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    Model = TypeVar("Model", bound=BaseModel)

__all__ = ["error_sentences", "find_yaml", "load_mapping", "load_model", "shipped_names", "validate_model"]


def shipped_names(folder: Path) -> tuple[str, ...]:
    """Names of the YAML files in a folder of this package, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def find_yaml(
    name: str | Path, shipped: Path, noun: str, *, near: Path | None = None, where: str | None = None
) -> Path:
    """Where a name leads: to a file shipped in a folder, or to the user's own YAML file.

    Args:
        name: shipped name, or path of a `.yaml` file.
        shipped: folder of the files shipped.
        noun: what is looked for, for messages.
        near: folder that a relative path starts from.
        where: the file whose key `noun` gave that name.

    Raises:
        InputError: neither is there.
    """
    found = shipped / f"{name}.yaml"
    if found.is_file():
        return found
    key = f"key `{noun}`: " if where else ""
    own = (near or Path()) / name
    if own.suffix in (".yaml", ".yml"):
        if own.is_file():
            return own
        raise InputError(f"{key}the {noun} file {own} does not exist", where=where, fix="check the path")
    raise InputError(
        f"{key}unknown {noun} `{name}`",
        where=where,
        fix=f"use one of {', '.join(shipped_names(shipped))}, or the path of a YAML file",
    )


def load_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: the file cannot be read, is no YAML, or holds no mapping.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path and its permissions"
        ) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=str(path), fix="save it as UTF-8") from None
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # an impossible date raises a bare ValueError
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "malformed YAML"
        raise InputError(
            f"is not valid YAML: {problem}", where=f"{path}{line}", fix="mend that line"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"expected a mapping of keys, found {type(content).__name__}",
            where=str(path),
            fix="start the file with `key: value` lines",
        )
    return content


def load_model(path: Path, model: type[Model]) -> Model:
    """A YAML file as a validated pydantic model.

    Raises:
        InputError: naming the file, the first wrong key and what was expected there.
    """
    return validate_model(load_mapping(path), model, where=str(path))


def validate_model(content: dict[str, Any], model: type[Model], *, where: str) -> Model:
    """A mapping as a validated pydantic model; raises like `load_model`."""
    from pydantic import ValidationError

    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(_sentence(error), where=where, fix="correct that key") from None


def _sentence(error: ValidationError) -> str:
    text = error_sentences(error)[0]
    others = error.error_count() - 1
    return f"{text} (and {others} more like it)" if others else text


def error_sentences(error: ValidationError) -> list[str]:
    """One clause for each thing that is wrong."""
    found = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "the whole file"
        kind = item["type"]
        if kind == "extra_forbidden":
            found.append(f"unknown key `{key}`")
        elif kind == "missing":
            found.append(f"key `{key}` is missing")
        else:
            shown = repr(item["input"])
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            found.append(f"key `{key}`: {item['msg'].removeprefix('Value error, ')} (found {shown})")
    return found
