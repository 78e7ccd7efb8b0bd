"""Clock: the one source of time of the serving room, so that tests and replays can bring their own."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "RealClock"]


class Clock(Protocol):
    """Seconds that never go backwards."""

    def now(self) -> float:
        """Present time, s."""
        ...


class RealClock:
    """Seconds since the epoch, advanced by the monotonic clock: setting the wall clock moves nothing."""

    __slots__ = ("_offset_s",)

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        """Present time, s since the epoch as it stood when this clock was made."""
        return time.monotonic() + self._offset_s


class ManualClock:
    """A clock that stands still until it is moved.

    Args:
        start_s: its first time, s.
    """

    __slots__ = ("_now_s",)

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Present time, s."""
        return self._now_s

    def set(self, now_s: float) -> None:
        """Move to a time.

        Raises:
            ValueError: the time lies in the past.
        """
        if now_s < self._now_s:
            raise ValueError(f"a clock at {self._now_s} s cannot go back to {now_s} s")
        self._now_s = now_s

    def advance(self, seconds: float) -> None:
        """Move forwards by some seconds."""
        self.set(self._now_s + seconds)
