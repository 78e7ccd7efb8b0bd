"""PolicyController: a bundle's policy as a controller."""

from __future__ import annotations

import numpy as np

from clover_rl.agents.bundle import Bundle
from clover_rl.agents.network import PolicyNetwork
from clover_rl.control.codecs import ActionCodec
from clover_rl.control.controller import Decision
from clover_rl.control.state import ControlState
from clover_rl.errors import BundleError
from clover_rl.simulation.model import ClusterModel

__all__ = ["PolicyController"]


class PolicyController:
    """Encodes the state, runs the network, takes the allowed action of the highest logit.

    Args:
        bundle: a bundle for this cluster.
        model: the cluster's model; only its catalogue is used.

    Raises:
        BundleError: the bundle was made for something else.
    """

    def __init__(self, bundle: Bundle, model: ClusterModel) -> None:
        self.warnings = bundle.check(model)
        self.name = "policy"
        self.knows = "what the observation holds"
        self.space_size = len(model.catalogue)
        self.live_trials = 0
        self.bundle = bundle
        self.codec = bundle.observation_codec
        self.actions = ActionCodec(model.catalogue)
        self.network = PolicyNetwork(bundle.network)
        if (self.network.observation_size, self.network.actions) != (self.codec.size, len(model.catalogue)):
            raise BundleError("the network's size is not the manifest's", fix="export the policy again")
        self._observation = np.empty((1, self.codec.size), np.float32)

    def reset(self, seed: int) -> None:
        """Nothing to forget: the state holds all."""

    def decide(self, state: ControlState) -> Decision:
        """The policy's choice."""
        self.codec.encode(state, self._observation[0])
        mask = self.actions.masks(state)[None]
        action = int(self.network.logits(self._observation, mask)[0].argmax())
        return Decision(self.actions.decode(action), f"policy {self.bundle.name}, action {action}")
