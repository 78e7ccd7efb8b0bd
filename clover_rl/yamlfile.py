"""Reading YAML files into validated models, with errors that name file, key and what was expected."""

from __future__ import annotations

import reprlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clover_rl.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from yaml import SafeLoader

    Model = TypeVar("Model", bound=BaseModel)

__all__ = [
    "error_sentences",
    "find_yaml",
    "load_mapping",
    "load_model",
    "parse_yaml",
    "printable",
    "shipped_names",
    "validate_model",
]

MOST_BYTES = 1 << 18
"""Files of this package and of its users are a few KiB; a larger one is something else."""
MOST_PAIRS = 100_000
"""Merge keys (`<<`) multiply when they are nested; past this many pairs they are no longer meant."""


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
    if _is_file(found) and found.parent == shipped:
        return found
    key = f"key `{noun}`: " if where else ""
    own = (near or Path()) / name
    if own.suffix in (".yaml", ".yml"):
        if _is_file(own):
            return own
        raise InputError(
            f"{key}the {noun} file {printable(str(own))} does not exist", where=where, fix="check the path"
        )
    raise InputError(
        f"{key}unknown {noun} `{printable(str(name))}`",
        where=where,
        fix=f"use one of {', '.join(shipped_names(shipped))}, or the path of a YAML file",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False


def load_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: the file cannot be read, is no YAML, repeats a key, or holds no mapping.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"is larger than {MOST_BYTES >> 10} KiB", where=str(path), fix="give a file of settings"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path and its permissions"
        ) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=str(path), fix="save it as UTF-8") from None
    content = parse_yaml(text, where=str(path))
    if not isinstance(content, dict):
        raise InputError(
            f"expected a mapping of keys, found {type(content).__name__}",
            where=str(path),
            fix="start the file with `key: value` lines",
        )
    return content


def parse_yaml(text: str, *, where: str, lines: bool = True) -> Any:
    """What a YAML text holds: plain values, lists and mappings, nothing else.

    Args:
        text: one document.
        where: the file, for messages.
        lines: whether messages add the line where it is known.

    Raises:
        InputError: no YAML, a key given twice, nested too deeply, or merged too often.
    """
    import yaml

    try:
        return yaml.load(text, _strict_loader())  # a SafeLoader
    # an impossible date raises a bare ValueError, `!!bool x` a KeyError, `!!timestamp x` an AttributeError
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and lines else ""
        problem = printable(getattr(error, "problem", None) or "malformed YAML")
        raise InputError(
            f"is not valid YAML: {problem}", where=f"{where}{line}", fix="mend that line"
        ) from None
    except RecursionError:
        raise InputError("is nested too deeply", where=where, fix="flatten it") from None


@cache
def _strict_loader() -> type[SafeLoader]:
    """SafeLoader that refuses a key given twice, of which YAML's own would silently take the last."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self.checked: set[int] = set()
            self.pairs = 0

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            # Called once for each mapping and once for each merge of it: before the first call its keys are
            # its own, after it those merged are among them, and may be given again.
            self.pairs += len(node.value)
            if self.pairs > MOST_PAIRS:
                self.refuse("merge keys multiply beyond measure", node)
            if id(node) not in self.checked:
                self.checked.add(id(node))
                self.require_distinct(node)
            super().flatten_mapping(node)

        def require_distinct(self, node: yaml.MappingNode) -> None:
            seen: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line = seen.get((key.tag, key.value))
                if line is not None:
                    self.refuse(f"key `{key.value}` is given twice, first in line {line}", key)
                seen[key.tag, key.value] = key.start_mark.line + 1

        def refuse(self, what: str, node: yaml.Node) -> None:
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)

    return StrictLoader


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
    for item in error.errors(include_url=False):
        key = printable(".".join(str(part) for part in item["loc"]))
        kind = item["type"]
        if not key:  # several keys do not fit together
            found.append(item["msg"].removeprefix("Value error, "))
        elif kind == "extra_forbidden":
            found.append(f"unknown key `{key}`")
        elif kind == "missing":
            found.append(f"key `{key}` is missing")
        else:
            # bounded in depth and length: a value may refer to itself, or double at each level
            shown = printable(_SHOWN.repr(item["input"]))
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            found.append(f"key `{key}`: {item['msg'].removeprefix('Value error, ')} (found {shown})")
    return found


_SHOWN = reprlib.Repr()
_SHOWN.maxdict = _SHOWN.maxlist = 12
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 100


def printable(text: str) -> str:
    """A user's text within a sentence: one line, not too long, what a terminal cannot show escaped."""
    text = text if len(text) <= 300 else text[:297] + "..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
