"""Causes: a controller's saving against BASE, split by what it comes from; the shares add up to it.

Everything is compared on the same window, requests and seed, at event level.

- consolidation, partitioning, variants: from BASE to the mix of configurations that never change that has the
  controller's own accuracy. Parking, cutting and smaller variants make room for each other, so any order
  would credit one with what it owes to another: their shares are Shapley values, the means over all six
  orders of what each adds. Some of the three are worth what the best configurations with no others save.
- following load: what the controller's twin, shown the window's mean intensity all the time, saves against
  the mix of configurations that never change with the twin's accuracy.
- following carbon: what the controller saves beyond that against the mix with its own accuracy.

The order of the last two matters: what load and carbon explain together goes to load. "Best" is by
w x dCarbon + penalty at the row's weight, so that a counterfactual keeps the SLA as well as the weight makes
worth while. Shapley values: L. S. Shapley, A value for n-person games, 1953.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from clover_rl.agents.frontier import FREEDOMS, Frontier, FrontierPoint, subsets

__all__ = ["CAUSES", "Causes", "Saving"]

CAUSES = (*FREEDOMS, "following_load", "following_carbon")


@dataclass(frozen=True, slots=True)
class Saving:
    """Shares of BASE's carbon per request; the five causes add up to `total`.

    Attributes:
        total: saved against BASE's own run; negative where more is emitted.
        consolidation, partitioning, variants, following_load, following_carbon: see this module.
    """

    total: float
    consolidation: float
    partitioning: float
    variants: float
    following_load: float
    following_carbon: float


class Causes:
    """The counterfactuals of one window and weight that do not depend on the controller.

    Args:
        points: configurations that never change, BASE among them.
    """

    def __init__(self, points: Sequence[FrontierPoint]) -> None:
        self.frontiers = {
            freedoms: Frontier([point for point in points if point.uses <= freedoms])
            for freedoms in subsets()
        }
        self.base = self.frontiers[frozenset()].carbon_at(0.0)

    def static(self, carbon: float, loss: float) -> Saving:
        """The saving of a configuration that never changes: it follows nothing.

        What it is off the frontier of its accuracy counts as variants.
        """
        return self._saving(carbon, loss, by_load=0.0, by_carbon=0.0)

    def following(self, carbon: float, loss: float, blind_carbon: float, blind_loss: float) -> Saving:
        """A controller's saving.

        Args:
            carbon, loss: of the controller's run, gCO2 per request and share of BASE's accuracy.
            blind_carbon, blind_loss: of its blind twin's.
        """
        mixes = self.frontiers[frozenset(FREEDOMS)]
        by_load = mixes.carbon_at(blind_loss) - blind_carbon
        return self._saving(carbon, loss, by_load, mixes.carbon_at(loss) - carbon - by_load)

    def _saving(self, carbon: float, loss: float, by_load: float, by_carbon: float) -> Saving:
        parts = dict.fromkeys(FREEDOMS, 0.0)
        orders = list(permutations(FREEDOMS))
        for order in orders:
            before = self.base
            for place, name in enumerate(order, 1):
                after = self.frontiers[frozenset(order[:place])].carbon_at(loss)
                parts[name] += (before - after) / len(orders)
                before = after
        parts["variants"] = (
            self.base - carbon - by_load - by_carbon - sum(parts[name] for name in FREEDOMS[:2])
        )
        shares = {name: part / self.base for name, part in parts.items()}
        return Saving(
            total=(self.base - carbon) / self.base,
            following_load=by_load / self.base,
            following_carbon=by_carbon / self.base,
            **shares,
        )

    def to_dict(self) -> dict[str, Any]:
        """As the JSON document shows it: BASE, and the frontier for each set of freedoms."""
        return {
            "base_carbon_g_per_request": self.base,
            "frontiers": {
                "+".join(name for name in FREEDOMS if name in freedoms): [
                    point.to_dict() for point in frontier.points
                ]
                for freedoms, frontier in self.frontiers.items()
                if freedoms
            },
        }
