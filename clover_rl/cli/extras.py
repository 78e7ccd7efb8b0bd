"""Checking for optional libraries before a command needs them."""

from __future__ import annotations

from importlib.util import find_spec

from clover_rl.errors import MissingExtraError

__all__ = ["require"]


def require(extra: str, *modules: str) -> None:
    """Refuse to go on where a library of an extra is missing.

    Raises:
        MissingExtraError: naming the libraries and the extra.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{', '.join(missing)} not installed", fix=f"pip install 'clover-rl[{extra}]'"
        )
