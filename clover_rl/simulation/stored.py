"""What is kept on disk between runs: arrays in one file each, found by a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.cache import cache_folder
from clover_rl.cluster.choices import Catalogue
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.tables import GRID, JUMP, NODES, REQUESTS, TABLE_VERSION, WARMUP, Table, build_table

__all__ = ["Arrays", "read_arrays", "stored_path", "stored_table", "table_inputs", "write_arrays"]

Arrays = dict[str, NDArray[np.float64]]


def table_inputs(physics: Physics, catalogue: Catalogue) -> dict[str, Any]:
    """All that a table depends on, as JSON values."""
    return {
        "version": TABLE_VERSION,
        "profile": physics.profile.hash,
        "catalogue": catalogue.hash,
        "nodes": NODES.tolist(),
        "grid": [GRID, JUMP, REQUESTS, WARMUP],
    }


def stored_path(kind: str, inputs: Mapping[str, Any]) -> Path:
    """The file in the cache that belongs to some inputs."""
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return cache_folder() / kind / f"{key[:40]}.npz"


def stored_table(
    physics: Physics, catalogue: Catalogue, *, progress: Callable[[int, int], None] | None = None
) -> Table:
    """The table of a catalogue, from the cache where it is there."""
    path = stored_path("tables", table_inputs(physics, catalogue))
    found = read_arrays(path)
    if found is None:
        table = build_table(physics, catalogue.configurations, progress=progress)
        write_arrays(
            path,
            {
                "capacity": table.capacity,
                "latency_ms": table.latency_ms,
                "accuracy": table.accuracy,
                "power_w": table.power_w,
            },
        )
        return table
    return Table(found["capacity"], found["latency_ms"], found["accuracy"], found["power_w"])


def read_arrays(path: Path) -> Arrays | None:
    """The arrays of a file; None where it is absent or was cut short by a crash."""
    try:
        # opened here, since NumPy leaves a file open that turns out to be cut short
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError):
        return None


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Store arrays, whole or not at all; a cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError:
        return
