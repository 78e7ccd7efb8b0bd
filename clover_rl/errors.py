"""Exceptions of this package: what went wrong, where, and what to do about it."""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CloverError",
    "InputError",
    "MissingExtraError",
    "ServingError",
    "SignalEndError",
    "TransitionError",
]


class CloverError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        what: one clause that says what is wrong.
        where: file, line, key or address it was found at.
        fix: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}; {fix}" if fix else text)


class InputError(CloverError):
    """A file, an argument or a value from outside cannot be used."""


class SignalEndError(CloverError):
    """A signal was asked for a time that it does not cover; it never wraps around."""


class TransitionError(CloverError):
    """A cluster cannot go, or did not get, from one configuration to another."""


class BundleError(CloverError):
    """A bundle is damaged, or was made for something else."""


class ServingError(CloverError):
    """The serving runtime, or a server that was called, cannot do what was asked."""


class MissingExtraError(CloverError):
    """A library of an optional extra is needed and not installed."""
