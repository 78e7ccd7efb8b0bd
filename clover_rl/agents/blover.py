"""BLOVER: Clover's baseline without the graph, a random search over raw configurations with live trials."""

from __future__ import annotations

from clover_rl.agents.annealing import AnnealingController
from clover_rl.agents.annealing_search import (
    NEW_LIMIT,
    STALE_LIMIT,
    AnnealingSearch,
)
from clover_rl.agents.neighbours import graph_of
from clover_rl.cluster.configuration import GpuConfiguration
from clover_rl.cluster.profile import Profile

__all__ = ["BloverController", "RandomSearch"]


class RandomSearch(AnnealingSearch):
    """Proposes any configuration of one GPU that this search has not seen, evenly; the best one wins.

    The stopping rules are the annealing's. Source: BLOVER of Clover's artifact, "random search over raw
    (x_p, x_v), no graph".
    """

    def propose(self) -> GpuConfiguration | None:
        """What to evaluate next; None when the search is over."""
        if self._stale >= STALE_LIMIT or self.new >= NEW_LIMIT:
            return None
        unseen = [gpu for gpu in self._space.configurations if graph_of(gpu) not in self._seen]
        return unseen[int(self._rng.integers(len(unseen)))] if unseen else None


class BloverController(AnnealingController):
    """The annealing controller with random search in place of annealing."""

    def __init__(self, profile: Profile, gpus: int, *, trial_s: float, pue: float, min_gap_s: float) -> None:
        super().__init__(profile, gpus, trial_s=trial_s, pue=pue, min_gap_s=min_gap_s, search=RandomSearch)
        self.name = "blover"
