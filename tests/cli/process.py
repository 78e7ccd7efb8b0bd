"""A command as its users start it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

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
