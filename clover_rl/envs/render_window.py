"""A window that shows pictures, where there is a display and a toolkit for it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PictureWindow", "open_window"]


class PictureWindow:
    """A matplotlib window that holds one picture.

    Args:
        title: of the window.
    """

    def __init__(self, title: str) -> None:
        from matplotlib import pyplot as plt

        self._plt = plt
        self._figure = plt.figure(title)
        self._image: Any = None
        plt.ion()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Replace the picture."""
        if self._image is None:
            height, width = picture.shape[:2]
            self._figure.set_size_inches(width / self._figure.dpi, height / self._figure.dpi)
            axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
            axes.set_axis_off()
            self._image = axes.imshow(picture)
            self._figure.show()
        else:
            self._image.set_data(picture)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window."""
        self._plt.close(self._figure)


def open_window(title: str) -> PictureWindow | None:
    """A window; None without a display, without matplotlib, or without a toolkit that it can use."""
    posix = sys.platform not in ("win32", "darwin", "cygwin")
    if posix and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    if find_spec("matplotlib") is None:
        return None
    from matplotlib import pyplot as plt
    from matplotlib.backends.registry import BackendFilter, backend_registry

    plt.figure(title)  # matplotlib looks for a toolkit that works when it makes the first figure
    registry: Any = backend_registry  # its methods are untyped
    interactive = registry.list_builtin(BackendFilter.INTERACTIVE)
    if plt.get_backend().lower() not in interactive:
        plt.close(title)
        return None
    return PictureWindow(title)
