"""Interruption: SIGINT and SIGTERM ask training to stop at the end of a step, instead of breaking it off."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruption"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which the first signal is remembered; a second one of its kind ends the process as usual.

    Outside the main thread, where no handler can be set, nothing is caught.

    Attributes:
        caught: the signal, or None.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for each in SIGNALS:
                self._before[each] = signal.signal(each, self._catch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = signal.Signals(number)
        signal.signal(number, self._before[self.caught])

    def __call__(self) -> bool:
        """Whether training should stop."""
        return self.caught is not None
