"""Choices: what a policy chose at which intensity and load, and the picture of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.envs.core import EnvironmentCore
from clover_rl.simulation.model import ClusterModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PANELS", "Choices"]

Floats = NDArray[np.float64]
Chooser = Callable[[EnvironmentCore], NDArray[np.intp]]

PANELS = ("GPUs in use", "instances per GPU in use", "share of instances with the largest variant")
"""Consolidation, partitioning, variant mix."""
CELLS = 12


class Choices:
    """Records every interval of some episodes as (intensity, load, choice).

    Args:
        model: what is controlled.
    """

    def __init__(self, model: ClusterModel) -> None:
        self.model = model
        largest = model.profile.application.largest.name
        self._facts = np.array([_facts(item, largest) for item in model.catalogue.configurations])
        self._intensity: list[Floats] = []
        self._load: list[Floats] = []
        self._chosen: list[NDArray[np.intp]] = []

    def watching(self, choose: Chooser) -> Chooser:
        """The same chooser, watched."""

        def watched(core: EnvironmentCore) -> NDArray[np.intp]:
            rows = np.arange(core.n)
            chosen = choose(core)
            self._intensity.append(core.mean_intensity[rows, core.t].copy())
            self._load.append(core.rate[rows, core.t + core.rate.shape[1] - core.steps - 1].copy())
            self._chosen.append(chosen)
            return chosen

        return watched

    @property
    def active_gpus(self) -> float:
        """Mean number of GPUs in use."""
        return float(self._facts[np.concatenate(self._chosen), 0].mean())

    def grid(self) -> tuple[Floats, Floats, Floats]:
        """Means over cells of intensity and load.

        Returns:
            Edges of intensity, g/kWh; edges of load, share of BASE's capacity; means of PANELS, shape
            (3, load, intensity), NaN where nothing was seen.
        """
        intensity = np.concatenate(self._intensity)
        load = np.concatenate(self._load) / self.model.baseline.capacity
        facts = self._facts[np.concatenate(self._chosen)]
        edges = [_edges(values) for values in (load, intensity)]
        count, *_ = np.histogram2d(load, intensity, bins=edges)
        means = np.full((len(PANELS), CELLS, CELLS), np.nan)
        for index in range(len(PANELS)):
            total, *_ = np.histogram2d(load, intensity, bins=edges, weights=facts[:, index])
            np.divide(total, count, out=means[index], where=count > 0)
        return edges[1], edges[0], means

    def figure(self, title: str) -> Figure:
        """The grid as a heat map, intensity to the right and load upwards."""
        from matplotlib.figure import Figure

        intensity, load, means = self.grid()
        figure = Figure(figsize=(11.0, 3.6))
        figure.subplots_adjust(
            left=0.06, right=0.98, bottom=0.14, top=0.83, wspace=0.12
        )  # constrained is slow
        figure.suptitle(title, fontsize=10)
        limits = ((0.0, float(self.model.gpus)), (1.0, max(float(self._facts[:, 1].max()), 2.0)), (0.0, 1.0))
        for axes, name, values, (low, high) in zip(
            figure.subplots(1, len(PANELS), sharey=True), PANELS, means, limits, strict=True
        ):
            shown = axes.pcolormesh(intensity, load, values, vmin=low, vmax=high, cmap="viridis")
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("carbon intensity, g/kWh")
            axes.set_facecolor("0.92")
            figure.colorbar(shown, ax=axes)
        figure.axes[0].set_ylabel("load before, share of BASE's capacity")
        return figure


def _facts(configuration: ClusterConfiguration, largest: str) -> tuple[float, float, float]:
    instances = configuration.instances
    active = max(configuration.active, 1)
    share = sum(item.variant == largest for item in instances) / max(len(instances), 1)
    return float(configuration.active), len(instances) / active, share


def _edges(values: Floats) -> Floats:
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1.0, CELLS + 1)
