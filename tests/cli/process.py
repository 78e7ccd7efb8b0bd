"""A command as its users start it: in a process of its own, or in this one, for want of the seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clover_rl.cli.app import main

CLI = [sys.executable, "-m", "clover_rl.cli"]


def run_cli(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


def run_here(
    patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Status, stdout and stderr of the entry point in this process."""
    patch.setattr(sys, "argv", ["clover-rl", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err
