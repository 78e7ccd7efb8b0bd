"""Importing the package registers the environments and stays light."""

from __future__ import annotations

import subprocess
import sys


def test_the_import_registers_the_environment_and_brings_nothing_heavy() -> None:
    code = (
        "import sys, gymnasium, clover_rl; assert 'clover_rl/MIGCluster-v0' in gymnasium.registry; "
        "print(sorted({'torch', 'grpc', 'numba', 'matplotlib', 'pydantic', 'stable_baselines3'} "
        "& sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
