"""Finding: what a check found, as a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Severity", "fine", "warning", "wrong"]

Severity = Literal["fine", "warning", "wrong", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        severity: "fine", "warning" (it works, and is probably not what was meant), "wrong" or "skipped".
        says: what was found, in plain words; what to do about it where it is not fine.
    """

    check: str
    severity: Severity
    says: str


def fine(check: str, says: str) -> Finding:
    """Nothing to complain about."""
    return Finding(check, "fine", says)


def warning(check: str, says: str) -> Finding:
    """It works, and is probably not what was meant."""
    return Finding(check, "warning", says)


def wrong(check: str, says: str) -> Finding:
    """It does not work."""
    return Finding(check, "wrong", says)
