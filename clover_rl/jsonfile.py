"""JSON files: written whole or not at all, and values that every reader of JSON takes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from clover_rl.errors import InputError

__all__ = ["plain", "write_json"]


def plain(value: Any) -> Any:
    """NaN and infinities are no JSON: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file, whole or not at all: others may read or write it at the same time.

    Raises:
        InputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", where=str(path), fix="choose another folder"
        ) from None
