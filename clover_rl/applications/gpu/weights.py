"""Where weights come from: a local folder when one is named, else random numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clover_rl.errors import InputError

__all__ = ["WEIGHTS_FOLDER", "initialise", "weights_file"]

WEIGHTS_FOLDER = "CLOVER_RL_WEIGHTS"
"""Environment variable: folder with APPLICATION/VARIANT.safetensors."""


def weights_file(application: str, variant: str) -> Path | None:
    """The file of a variant's weights; None where no folder is named, and weights are random.

    Raises:
        InputError: a folder is named and lacks the file.
    """
    folder = os.environ.get(WEIGHTS_FOLDER)
    if not folder:
        return None
    path = Path(folder) / application / f"{variant}.safetensors"
    if not path.is_file():
        raise InputError(
            f"the folder of weights has no `{application}/{path.name}`",
            where=WEIGHTS_FOLDER,
            fix=f"put it there, or unset {WEIGHTS_FOLDER} for random weights",
        )
    return path


def initialise(module: Any, application: str, variant: str) -> bool:
    """Load a module's weights if there are any, else False: random ones stay as its constructor made them.

    Raises:
        InputError: the folder named lacks the file, or the file is of another module.
    """
    path = weights_file(application, variant)
    if path is None:
        return False
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(module, path, strict=True)  # knows that tensors may be shared, as RT-DETR's heads are
    except (RuntimeError, OSError, SafetensorError) as error:
        raise InputError(
            f"the weights are not those of variant `{variant}`",
            where=f"{application}/{path.name}",
            fix="export them from the same network as safetensors",
        ) from error
    return True
