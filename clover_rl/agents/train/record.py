"""What decides a result: versions of Python and of libraries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

LIBRARIES = ("clover-rl", "gymnasium", "numba", "numpy", "sb3-contrib", "stable-baselines3", "torch")


def versions() -> dict[str, str]:
    """Versions of Python and of those libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
