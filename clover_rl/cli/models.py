"""Building a scenario's model with a progress bar where it takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clover_rl.cli.output import progress_bar

if TYPE_CHECKING:
    from clover_rl.envs.scenario import Scenario
    from clover_rl.simulation.model import ClusterModel

__all__ = ["model_of"]


def model_of(scenario: Scenario) -> ClusterModel:
    """The scenario's model; a bar is shown while its table is built for the first time."""
    with progress_bar(f"table of {scenario.name}") as advance:
        return scenario.model(lambda done, total: advance(done / total, f"{done} of {total} configurations"))
