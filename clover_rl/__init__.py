"""Clover-RL: a gym and a serving runtime that steer GPU inference by carbon.

Importing the package registers its environments by name and pulls in nothing heavy.
"""

from __future__ import annotations

from clover_rl.envs import register_environments
from clover_rl.errors import CloverError

__all__ = ["CloverError", "__version__"]

__version__ = "0.1.0"

register_environments()
