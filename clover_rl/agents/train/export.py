"""export_run: an SB3 model as a bundle, with vectors met on policy."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy

from clover_rl.agents.bundle import Bundle, Parity, pack_bundle
from clover_rl.agents.train.actor import greedy, logits
from clover_rl.agents.train.algorithms import model_class
from clover_rl.agents.train.recipe import load_recipe
from clover_rl.agents.train.record import versions
from clover_rl.agents.train.run import STATE
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

__all__ = ["export_model", "export_run"]

VECTORS = 1000
LOWEST = -1e9
"""Logit of a masked action; finite, so that differences stay numbers."""


class _Exported(torch.nn.Module):
    """scale (inside the observation) -> actor -> mask; no distributions, which the exporter cannot trace.

    Of a Q network its values take the place of logits: the largest allowed one decides either way.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        super().__init__()
        policy = model.policy
        self.layers: Any
        self.head: Any
        if isinstance(policy, DQNPolicy):
            self.layers, self.head = policy.q_net.q_net, torch.nn.Identity()
        else:
            assert isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy)
            self.layers, self.head = policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raw = self.head(self.layers(observation))
        return torch.where(mask, raw, LOWEST)


def _to_onnx(model: BaseAlgorithm, size: int, actions: int) -> bytes:
    batch = torch.export.Dim("batch")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it reports libraries that are rightly absent
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                _Exported(model).eval(),
                (torch.zeros(2, size), torch.ones(2, actions, dtype=torch.bool)),
                dynamo=True,
                external_data=False,
                input_names=["observation", "mask"],
                output_names=["logits"],
                dynamic_shapes=({0: batch}, {0: batch}),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    proto.ClearField("metadata_props")
    for node in proto.graph.node:
        del node.metadata_props[:]  # the exporter writes stack traces with paths of this machine
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    return bytes(proto.SerializeToString())


def record_parity(model: BaseAlgorithm, scenario: Scenario, cluster: ClusterModel, seed: int) -> Parity:
    """Vectors met on policy, masks included that a lost GPU brings; logits and actions of the SB3 model."""
    rows = 20
    core = EnvironmentCore(scenario, cluster, rows)
    rng = np.random.default_rng([seed, 1])
    for row in range(rows):
        core.reset_row(row, np.random.default_rng([seed, 2, row]))
    core.t[:] = rng.integers(0, max(core.steps - VECTORS // rows - 1, 1), rows)
    observations: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    chosen: list[NDArray[np.int64]] = []
    while sum(map(len, observations)) < VECTORS:
        core.available[:] = rng.integers(1, cluster.gpus + 1, rows) if len(masks) % 10 == 9 else cluster.gpus
        seen, mask = core.observe(), core.masks()
        if isinstance(model, MaskablePPO):  # its own masked choice, which ours must agree with
            action, _ = model.predict(seen, deterministic=True, action_masks=mask)
        else:
            action = greedy(model.policy, core)
        observations.append(seen)
        masks.append(mask)
        chosen.append(np.asarray(action, np.int64))
        facts = core.step(action, np.arange(rows))
        for row in np.flatnonzero(facts["truncated"]).tolist():
            core.reset_row(row, np.random.default_rng([seed, 3, row, len(masks)]))
    stacked, mask = np.concatenate(observations)[:VECTORS], np.concatenate(masks)[:VECTORS]
    with torch.no_grad():
        raw = logits(model.policy, torch.from_numpy(stacked)).numpy()
    return Parity(stacked, mask, np.where(mask, raw, np.float32(LOWEST)), np.concatenate(chosen)[:VECTORS])


def export_model(
    model: BaseAlgorithm,
    scenario: str | Path | Scenario,
    out: str | Path,
    *,
    name: str | None = None,
    training: dict[str, Any] | None = None,
    seed: int = 0,
) -> Bundle:
    """Write a bundle of an SB3 model and replay it.

    Args:
        model: a MaskablePPO, PPO or DQN trained on the scenario's environment.
        scenario: shipped name, path of a YAML file, or a Scenario.
        out: the file to write.
        name: of the policy; the file's when left out.
        training: what is known of the training, for the manifest.
        seed: of the episodes that the recorded vectors come from.

    Raises:
        BundleError: the exported network does not do what the model does.
        InputError: the model is not for this scenario.
    """
    scenario, path = load_scenario(scenario), Path(out)
    cluster = scenario.model()
    codec, actions = scenario.observation_codec(cluster), scenario.action_codec(cluster)
    size = model.observation_space.shape
    if size != (codec.size,) or getattr(model.action_space, "n", None) != len(cluster.catalogue):
        raise InputError(
            f"the model has {size} observations and {model.action_space}, the scenario "
            f"`{scenario.name}` has {codec.size} and {len(cluster.catalogue)} actions",
            fix="export with the scenario it was trained on",
        )
    parity = record_parity(model, scenario, cluster, seed)
    manifest = {
        "name": name or path.stem,
        "scenario": scenario.to_public_dict(),
        "application": cluster.profile.application.name,
        "gpu": cluster.profile.gpu.name,
        "gpus": cluster.gpus,
        "profile": cluster.profile.name,
        "profile_hash": cluster.profile.hash,
        "observation": codec.to_dict(),
        "actions": actions.to_dict(),
        "training": training or {},
        "versions": versions(),
    }
    network = _to_onnx(model, codec.size, len(cluster.catalogue))
    return pack_bundle(path, manifest, network, parity)


def export_run(run: Path, out: Path, *, name: str | None = None) -> Bundle:
    """Write a bundle of a run folder that `train` made.

    Raises:
        InputError: not a run folder, or one whose files cannot be read.
        BundleError: see export_model.
    """
    path = run / "model.zip"
    if (run / STATE).is_file():
        raise InputError(
            "holds a run that was interrupted",
            where=str(run),
            fix=f"go on with `clover-rl train {run / 'scenario.yaml'} --resume {run}`",
        )
    if not path.is_file() or not (run / "scenario.yaml").is_file():
        raise InputError("is no run folder of `clover-rl train`", where=str(run), fix="name its --out folder")
    scenario = load_scenario(run / "scenario.yaml")
    try:
        record = json.loads((run / "training.json").read_text())
        record.pop("history", None)
    except (OSError, ValueError, AttributeError, TypeError):
        raise InputError(
            "cannot be read: the training did not end, or the file was changed",
            where=str(run / "training.json"),
            fix="train again",
        ) from None
    try:
        model = model_class(load_recipe(run / "recipe.yaml").algorithm).load(path, device="cpu")
    except Exception as error:  # whatever a damaged archive, or one of other library versions, brings about
        raise InputError(
            f"cannot be loaded ({type(error).__name__})", where=str(path), fix="train again"
        ) from None
    return export_model(model, scenario, out, name=name, training=record)
