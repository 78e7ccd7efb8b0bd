"""A stand-in for nvidia-cuda-mps-control: a daemon that sleeps, and answers that it lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["install"]

SCRIPT = """#!/bin/sh
name=nvidia-cuda-mps-control
if [ "$1" = -d ]; then
  [ -z "$FAKE_MPS_FAILS" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
  setsid sleep 600 </dev/null >/dev/null 2>&1 &
  echo $! > "$CUDA_MPS_PIPE_DIRECTORY/$name.pid"
  exit 0
fi
read command
pid=$(cat "$CUDA_MPS_PIPE_DIRECTORY/$name.pid" 2>/dev/null) || exit 1
kill -0 "$pid" 2>/dev/null || exit 1
case "$command" in quit*) kill "$pid" ;; esac
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put it first on the PATH."""
    folder.mkdir()
    program = folder / "nvidia-cuda-mps-control"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
