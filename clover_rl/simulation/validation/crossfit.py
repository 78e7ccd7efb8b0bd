"""Cross-fits: laws fitted on one measured layout and tested on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clover_rl.cluster.profile import Profile
from clover_rl.simulation.validation.fit import fit_laws
from clover_rl.simulation.validation.measurements import Mix
from clover_rl.simulation.validation.replay import Errors, replay

__all__ = ["MIXED_LAYOUTS", "PROFILES", "CrossFit", "cross_fits"]

PROFILES = ("h100-efficientnet", "h100-albert")
"""The shipped profiles that were measured in company."""
MIXED_LAYOUTS = ("1g 1g 1g 1g 1g 1g 1g", "4g 3g")
"""The layouts of the packaged files on which mixes were measured."""


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Laws fitted on one layout and their errors on another, which they have not seen."""

    fitted_on: str
    tested_on: str
    profile: Profile
    errors: Errors


def cross_fits(mixes: Sequence[Mix], profile: Profile) -> list[CrossFit]:
    """Each of the two mixed layouts predicted by the other; none where the mixes lack one of them."""
    by_layout = {name: [mix for mix in mixes if mix.layout == name] for name in MIXED_LAYOUTS}
    if not all(any(len(mix.instances) > 1 for mix in own) for own in by_layout.values()):
        return []
    found = []
    for fitted_on, tested_on in (MIXED_LAYOUTS, MIXED_LAYOUTS[::-1]):
        fitted = fit_laws(by_layout[fitted_on], profile)
        found.append(CrossFit(fitted_on, tested_on, fitted, replay(by_layout[tested_on], fitted)))
    return found
