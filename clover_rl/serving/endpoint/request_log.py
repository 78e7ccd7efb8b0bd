"""RequestLog: one line for every request that failed, and on demand for every answer, by the client's id."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from clover_rl.serving.logs import event
from clover_rl.serving.routing.dispatcher import Answer

__all__ = ["RequestLog", "shortened"]

_LOG = logging.getLogger(__name__)
_MOST_CHARACTERS = 400


def shortened(text: str) -> str:
    """The text, or the beginning of a long one."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


class RequestLog:
    """Writes the log of an endpoint.

    Args:
        answers: whether answered requests are logged as well; that costs about as much as serving them.
        most_per_s: lines of failed requests a second; what is left out is counted in the next line. Whoever
            sends rubbish must not be able to fill the disk.
        now_s: where it reads the time, s.
    """

    def __init__(
        self, *, answers: bool = False, most_per_s: int = 50, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.answers = answers
        self._most, self._now_s = most_per_s, now_s
        self._second = 0
        self._written = 0
        self._left_out = 0

    def failed(self, request_id: str, code: str, sentence: str, took_s: float) -> bool:
        """A request got an error; returns whether there was room for it."""
        second = int(self._now_s())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= self._most:
            self._left_out += 1
            return False
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        event(
            _LOG,
            logging.WARNING,
            "request failed",
            request=shortened(request_id),
            code=code,
            reason=sentence,
            ms=took_s * 1000.0,
            left_out_before=left_out or None,
        )
        return True

    def answered(self, request_id: str, answer: Answer, took_s: float) -> None:
        """A request was answered; call it only where `answers` is set."""
        event(
            _LOG,
            logging.INFO,
            "request answered",
            request=shortened(request_id),
            variant=answer.variant,
            instance=answer.instance,
            queue_ms=answer.queue_ns / 1e6,
            compute_ms=answer.compute_ns / 1e6,
            ms=took_s * 1000.0,
        )
