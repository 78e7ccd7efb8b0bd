"""Environments: registered by name when the package is imported."""

from __future__ import annotations

import gymnasium as gym

__all__ = ["ENVIRONMENT_ID", "register_environments"]

ENVIRONMENT_ID = "clover_rl/MIGCluster-v0"


def register_environments() -> None:
    """Register the environments with Gymnasium, once."""
    if ENVIRONMENT_ID not in gym.registry:
        gym.register(
            id=ENVIRONMENT_ID,
            entry_point="clover_rl.envs.scalar:MIGClusterEnv",
            vector_entry_point="clover_rl.envs.vector:MIGClusterVec",
        )
