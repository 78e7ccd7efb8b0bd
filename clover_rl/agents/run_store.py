"""RunStore: finished runs in a folder, one JSON file each, found by a hash of all that decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clover_rl.errors import InputError
from clover_rl.jsonfile import write_json

__all__ = ["RunStore", "content_hash"]


def content_hash(content: Any) -> str:
    """sha256 of JSON values, whatever the order of their keys, hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class RunStore:
    """A results folder: `runs/KEY.json`, one for each finished run.

    Several processes may use one folder at once without locks: a file appears whole, and whoever does a run
    that another has done meanwhile writes the same figures again.

    Args:
        folder: made where it does not exist.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"no folder for results ({error.strerror})", where=str(folder), fix="choose another folder"
            ) from None

    def path(self, key: str) -> Path:
        """Where a run is kept."""
        return self.runs / f"{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """A finished run; None where there is none, or where its file is damaged."""
        try:
            content = json.loads(self.path(key).read_text(encoding="utf-8"))
            checksum = content.pop("checksum")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        whole = checksum == content_hash(content) and content.get("key") == key
        return content if whole else None

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        """Keep a finished run.

        Raises:
            InputError: its file cannot be written.
        """
        kept = {**content, "key": key}
        write_json(self.path(key), kept | {"checksum": content_hash(kept)})
