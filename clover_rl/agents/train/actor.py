"""The actor of an SB3 policy as plain tensors: logits, and greedy choices for a core."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy

from clover_rl.envs.core import EnvironmentCore

__all__ = ["actor_parameters", "greedy", "logits", "sample"]


def logits(policy: BasePolicy, observations: torch.Tensor) -> torch.Tensor:
    """Action logits, shape (n, actions), with gradients; of a Q network its values."""
    if isinstance(policy, DQNPolicy):
        values: torch.Tensor = policy.q_net(observations)
        return values
    assert isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy)
    features = policy.pi_features_extractor(observations)
    result: torch.Tensor = policy.action_net(policy.mlp_extractor.forward_actor(features))
    return result


def actor_parameters(policy: MaskableActorCriticPolicy) -> list[torch.nn.Parameter]:
    """Parameters that decide actions."""
    return [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]


def _masked(policy: BasePolicy, core: EnvironmentCore) -> torch.Tensor:
    with torch.no_grad():
        raw = logits(policy, torch.from_numpy(core.observe()))
    return raw.masked_fill(~torch.from_numpy(core.masks()), -torch.inf)


def greedy(policy: BasePolicy, core: EnvironmentCore) -> NDArray[np.intp]:
    """The most probable allowed action of every row, shape (n,)."""
    return np.asarray(_masked(policy, core).argmax(dim=-1).numpy(), np.intp)


def sample(policy: BasePolicy, core: EnvironmentCore, generator: torch.Generator) -> NDArray[np.intp]:
    """An allowed action of every row, drawn from the policy, shape (n,)."""
    probabilities = torch.softmax(_masked(policy, core), dim=-1)
    return np.asarray(torch.multinomial(probabilities, 1, generator=generator)[:, 0].numpy(), np.intp)
