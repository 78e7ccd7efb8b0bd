"""Writing a matplotlib figure to a file, the same way in every command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clover_rl.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figure"]


def save_figure(figure: Figure, path: Path, *, dpi: float = 110.0) -> None:
    """Write a figure, its folder made when absent, and let go of it.

    A PNG does not name the library that wrote it: another release of matplotlib alone makes no new file.

    Args:
        figure: what to write; closed afterwards, also when that fails.
        path: picture to write; its ending says in which format.
        dpi: dots per inch of formats made of dots.

    Raises:
        InputError: the picture cannot be written there, or not in that format.
    """
    from matplotlib import pyplot as plt

    metadata = {"Software": None} if path.suffix.lower() == ".png" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi, metadata=metadata)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written ({error})", where=str(path), fix="choose another path") from None
    finally:
        plt.close(figure)
