"""TableHead: an actor that forecasts the load and reads the table, instead of learning the table by heart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import nn

from clover_rl.control.state import RATE_LAGS
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.fluid import fluid_step
from clover_rl.simulation.model import ClusterModel

__all__ = ["HeadTables", "TableHead", "TableHeadPolicy", "head_tables"]

LEVELS = np.array([1.0, 1.25, 1.7, 3.0])
"""Multiples of the SLA at which the penalty is known exactly; between them it is taken as steps."""
SLA_NODES = 5
LOADS = 64
HIGHEST_LOAD = 1.3
"""Of BASE's capacity; energy and accuracy are read up to here."""
MIXTURE = 2
RESOLUTIONS = (0.01, 0.04, 0.15)
"""Scales, in log load, at which the last changes of the load are looked at: the smallest tells chance from a
real change, so that a load which comes in bins longer than an interval is recognised."""

Floats = NDArray[np.float32]


class HeadTables(NamedTuple):
    """Constants of a scenario that the head reads; A actions, K loads, J levels, S bounds on the p95.

    Attributes:
        energy: energy over BASE's for the same load, shape (K, A).
        accuracy: relative accuracy lost, shape (K, A).
        p95: log of the p95 over the scenario's SLA, shape (A, K).
        changed_energy: what a transition adds to `energy`, shape (A, A), sources first.
        limits: log of the load, over BASE's capacity, above which the p95 passes a level of a bound, from
            every source, shape (A, S * A * J).
        configurations: encoded as in the observation, shape (A, C).
        steps: penalty that passing each level adds, shape (J,).
        loads: over BASE's capacity, shape (K,).
        bounds: log2 of the SLA's multiples, shape (S,).
        starts: where rate, configuration, available, p95_over_sla, log_w and log_sla begin.
        log_w: offset and scale of the weight's logarithm in the observation.
        size: numbers in an observation.
        gpus: of the cluster.
    """

    energy: Floats
    accuracy: Floats
    p95: Floats
    changed_energy: Floats
    limits: Floats
    configurations: Floats
    steps: Floats
    loads: Floats
    bounds: Floats
    starts: dict[str, int]
    log_w: tuple[float, float]
    size: int
    gpus: int


def head_tables(scenario: Scenario, model: ClusterModel, sla: tuple[float, float]) -> HeadTables:
    """Constants of a scenario, from its table.

    Args:
        scenario, model: what is controlled.
        sla: lowest and highest multiple of the SLA that episodes draw.
    """
    codec = scenario.observation_codec(model)
    objective = scenario.objective(model, 0.1)
    capacity, span = model.baseline.capacity, scenario.interval_s
    actions = np.arange(len(model.catalogue))

    def played(source: Any, target: Any, load: Any) -> Any:
        return fluid_step(model.rows, source, target, load, 0.0, span, scenario.timeout_s)

    loads = np.linspace(0.0, HIGHEST_LOAD, LOADS + 1)[1:]
    steady = played(actions[:, None], actions[:, None], loads * capacity)
    base_j = objective.base.energy_for(loads * capacity * span, span)
    middle = 0.4 * capacity
    moving = played(actions[:, None], actions[None, :], middle).energy_j
    added = (moving - np.diag(moving)[None, :]) / objective.base.energy_for(middle * span, span)
    bounds = np.unique(np.linspace(math.log2(sla[0]), math.log2(sla[1]), SLA_NODES))
    fine = np.geomspace(0.01, 2.0, 500)
    limits = np.empty((len(actions), len(bounds), len(actions), len(LEVELS)), np.float32)
    for source in actions:
        p95 = played(source, actions[:, None], fine * capacity).p95_ms
        for node, bound in enumerate(bounds):
            for level, multiple in enumerate(LEVELS):
                over = p95 > multiple * model.sla_ms * 2.0**bound
                first = np.where(over.any(axis=1), over.argmax(axis=1), len(fine) - 1)
                limits[source, node, :, level] = np.log(fine[first])
    excess = np.minimum(LEVELS - 1.0, 2.0)
    steps = objective.penalty_slope * np.diff(excess, prepend=0.0)
    steps[0] = objective.penalty_base
    configurations = np.stack([codec.configuration_features(c) for c in model.catalogue.configurations])
    names = ("rate", "configuration", "available", "p95_over_sla", "log_w", "log_sla")
    weight = next(field for field in codec.fields if field.name == "log_w")
    return HeadTables(
        energy=(steady.energy_j / base_j).T.astype(np.float32),
        accuracy=(steady.accuracy / objective.base.accuracy - 1.0).T.astype(np.float32),
        p95=np.log(np.minimum(steady.p95_ms, 1e6) / model.sla_ms).astype(np.float32),
        changed_energy=added.astype(np.float32),
        limits=limits.reshape(len(actions), -1),
        configurations=codec.encode_field("configuration", configurations),
        steps=steps.astype(np.float32),
        loads=loads.astype(np.float32),
        bounds=bounds.astype(np.float32),
        starts={name: codec.starts[name] for name in names},
        log_w=(weight.offset, weight.scale),
        size=codec.size,
        gpus=model.gpus,
    )


class TableHead(nn.Module):
    """Observations to logits: a network forecasts the load's distribution, the table says what follows.

    The value of an action is the objective as Objective defines it, w x (1 - intensity x energy) +
    (1 - w) x accuracy - penalty, its expectation over a mixture of logistic distributions of the logarithm of
    the load, whose means and widths the network gives around the last interval's load; the penalty's load may
    differ from the energy's, which is how slower or faster hardware than the table's shows. A learned term is
    added for what the table leaves out. The network starts at zero: an untrained head is an exhaustive search
    with a fixed, broad forecast.

    Args:
        tables: constants of the scenario.
        hidden: widths of the network's hidden layers.
    """

    energy: torch.Tensor
    accuracy: torch.Tensor
    p95: torch.Tensor
    changed_energy: torch.Tensor
    limits: torch.Tensor
    steps: torch.Tensor
    loads: torch.Tensor
    bounds: torch.Tensor
    match: torch.Tensor
    norm: torch.Tensor

    def __init__(self, tables: HeadTables, hidden: list[int]) -> None:
        super().__init__()
        self.starts, self.log_w = tables.starts, tables.log_w
        self.actions = len(tables.configurations)
        # plain numbers, so that an exported graph holds them as constants
        self.load_ends = (float(tables.loads[0]), float(tables.loads[-1]))
        self.bound_ends = (float(tables.bounds[0]), float(tables.bounds[-1]))
        for name in ("energy", "accuracy", "p95", "changed_energy", "limits", "steps", "loads", "bounds"):
            self.register_buffer(name, torch.tensor(getattr(tables, name)), persistent=True)
        sharp = 25.0 * tables.gpus**2  # one instance on one GPU more or less is another configuration
        self.register_buffer("match", torch.tensor(2.0 * sharp * tables.configurations.T))
        self.register_buffer("norm", torch.tensor(sharp * (tables.configurations**2).sum(axis=1)))
        width = tables.size + (len(RESOLUTIONS) + 1) * (RATE_LAGS - 1) + 3
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.Tanh()]
            width = size
        self.trunk = nn.Sequential(*layers)
        self.forecast = nn.Linear(width, 3 * MIXTURE + 2)
        self.rest = nn.Linear(width, self.actions)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(500.0)))
        for layer in (self.forecast, self.rest):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.forecast.bias[MIXTURE : 2 * MIXTURE] = torch.linspace(-0.3, 0.3, MIXTURE)

    @staticmethod
    def _hat(at: torch.Tensor, nodes: torch.Tensor, ends: tuple[float, float]) -> torch.Tensor:
        """Weights of linear interpolation on even nodes, held at both ends, shape (n, nodes)."""
        low, high = ends
        step = (high - low) / (len(nodes) - 1)
        return torch.relu(1.0 - torch.abs(torch.clamp(at, low, high) - nodes) / step)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n, actions), of observations, shape (n, size)."""
        at = self.starts
        rate = torch.clamp(observations[:, at["rate"] : at["rate"] + RATE_LAGS], min=1e-3)
        log_rate = torch.log(rate)
        last = log_rate[:, :1]
        deployed = observations[:, at["configuration"] : at["available"]]
        source = torch.softmax(torch.matmul(deployed, self.match) - self.norm, dim=-1)
        loads = self._hat(rate[:, :1], self.loads, self.load_ends)
        expected = torch.sum(torch.matmul(source, self.p95) * loads, dim=-1, keepdim=True)
        p95 = observations[:, at["p95_over_sla"] : at["p95_over_sla"] + 1]
        log_sla = observations[:, at["log_sla"] : at["log_sla"] + 1]
        seen = torch.log(torch.clamp(p95, min=1e-3)) + math.log(2.0) * log_sla
        change = log_rate[:, :-1] - log_rate[:, 1:]
        features = torch.cat(
            [
                observations,
                *(torch.tanh(change / scale) for scale in RESOLUTIONS),
                log_rate[:, 1:] - last,
                torch.clamp(seen - expected, -2.0, 2.0),
                torch.clamp(expected, -3.0, 3.0),
                last,
            ],
            dim=1,
        )
        hidden = self.trunk(features)
        forecast = self.forecast(hidden)
        share = torch.softmax(forecast[:, :MIXTURE], dim=-1)
        mean = last + 0.5 * torch.tanh(forecast[:, MIXTURE : 2 * MIXTURE])
        width = 0.03 * torch.exp(2.0 * torch.tanh(0.5 * forecast[:, 2 * MIXTURE : 3 * MIXTURE]))
        shift = torch.tanh(forecast[:, 3 * MIXTURE :])
        coming = self._hat(torch.exp(last + 0.3 * shift[:, :1]), self.loads, self.load_ends)
        intensity = observations[:, :1] * torch.exp(0.2 * shift[:, 1:])
        offset, scale = self.log_w
        w = torch.exp(math.log(10.0) * (observations[:, at["log_w"] : at["log_w"] + 1] * scale + offset))
        energy = torch.matmul(coming, self.energy) + torch.matmul(source, self.changed_energy)
        value = (1.0 - w) * torch.matmul(coming, self.accuracy) - w * intensity * energy
        limits = self._limits(source, log_sla)
        penalty = torch.zeros_like(value)
        for part in range(MIXTURE):
            reach = (mean[:, part : part + 1] - limits) / width[:, part : part + 1]
            over = torch.sigmoid(reach).reshape(-1, self.actions, len(LEVELS))
            penalty = penalty + share[:, part : part + 1] * torch.matmul(over, self.steps)
        logits: torch.Tensor = (value - penalty) * torch.exp(self.log_sharpness) + self.rest(hidden)
        return logits

    def _limits(self, source: torch.Tensor, log_sla: torch.Tensor) -> torch.Tensor:
        """Log loads at which each action passes each level, from the present source, shape (n, A * J)."""
        limits = torch.matmul(source, self.limits)
        nodes = len(self.bounds)
        if nodes == 1:
            return limits
        weights = self._hat(log_sla, self.bounds, self.bound_ends)
        wide = limits.reshape(-1, nodes, self.actions * len(LEVELS))
        return torch.sum(wide * weights.reshape(-1, nodes, 1), dim=1)


class TableHeadPolicy(MaskableActorCriticPolicy):
    """An SB3 policy whose actor is a TableHead; the critic is a plain network.

    Args:
        tables: constants of the scenario, as a dictionary.
        hidden: widths of the head's network.
    """

    def __init__(self, *args: Any, tables: dict[str, Any], hidden: list[int], **kwargs: Any) -> None:
        self.tables, self.hidden = tables, hidden
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = TableHead(HeadTables(**self.tables), self.hidden)
        kind: Any = self.optimizer_class
        self.optimizer = kind(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"tables": self.tables, "hidden": self.hidden}
