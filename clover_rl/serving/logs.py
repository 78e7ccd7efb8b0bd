"""Logs: one event a line, for people or as JSON, with the fields of the event beside its sentence."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal, TextIO

__all__ = ["JsonFormatter", "LogFormat", "TextFormatter", "configure_logging", "event"]

LogFormat = Literal["text", "json"]


def event(
    logger: logging.Logger, level: int, sentence: str, **fields: str | float | int | bool | None
) -> None:
    """Log a sentence with fields; those that are None are left out."""
    if logger.isEnabledFor(level):
        kept = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, "%s", sentence, extra={"fields": kept})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = getattr(record, "fields", {})
    return found


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line for people, the event's fields behind its sentence as name=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Time, level, logger, sentence, fields."""
        said = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        return super().formatMessage(record) + said


def _quoted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    # What a client sent must not be able to make up lines or fields.
    return text if text and all(sign.isalnum() or sign in "-_./:@%" for sign in text) else json.dumps(text)


def configure_logging(style: LogFormat = "text", stream: TextIO = sys.stderr) -> None:
    """Send the log of everything from level INFO on to a stream, replacing what was configured before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
