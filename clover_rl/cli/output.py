"""Output of commands: tables for people, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from clover_rl.jsonfile import plain

__all__ = ["command_line", "note", "number", "print_json", "print_table", "progress_bar"]


def command_line() -> str:
    """The command as typed, the program's path left out."""
    return " ".join(["clover-rl", *sys.argv[1:]])


def print_json(document: Any) -> None:
    """One JSON document on stdout, and nothing else."""
    sys.stdout.write(json.dumps(plain(document), indent=2) + "\n")


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False)
    # what is piped into a file must not be cut to a terminal's width
    (console if console.is_terminal else Console(width=200, markup=False)).print(table)


def note(text: str) -> None:
    """A line for people on stderr."""
    sys.stderr.write(text + "\n")


Advance = Callable[[float, str], None]


QUIET_EVERY_S = 10.0
"""Least time between two lines of progress where there is no terminal."""


@contextmanager
def progress_bar(label: str) -> Iterator[Advance]:
    """A bar with time left on stderr; the function given takes a share of 1 and a remark.

    Where stderr is no terminal, a line every ten seconds instead, so that a log stays readable.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=1.0, remark="")
        yield lambda share, remark: progress.update(task, completed=share, remark=remark)


def _lines(label: str) -> Advance:
    began = shown = time.monotonic()
    first: float | None = None

    def advance(share: float, remark: str) -> None:
        nonlocal shown, first
        now = time.monotonic()
        first = share if first is None else first  # what is gone on with was done before
        if now - shown < QUIET_EVERY_S:
            return
        shown = now
        done = share - first
        left = f", {_clock((now - began) * (1.0 - share) / done)} left" if done > 0.0 and share < 1.0 else ""
        note(f"{label}: {100.0 * share:.0f} %{left}{', ' if remark else ''}{remark}")

    return advance


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
