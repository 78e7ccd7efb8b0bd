"""Where computed tables are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """The cache's folder: $CLOVER_RL_CACHE, else clover-rl under $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("CLOVER_RL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clover-rl"
