"""Where hindsight counts one interval, and where a second one as well."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clover_rl.control.state import RATE_LAGS
from clover_rl.envs.core import EnvironmentCore

__all__ = ["some_action_holds_the_sla"]


def some_action_holds_the_sla(core: EnvironmentCore, *, true_world: bool = False) -> NDArray[np.bool_]:
    """Of each episode, whether an allowed action holds it in the coming interval, which then counts alone."""
    rate = core.rate[np.arange(core.n), core.t + RATE_LAGS][:, None]
    facts = core._fluid_at(np.arange(len(core.model.catalogue))[None, :], rate, true_world)
    held = facts.p95_ms <= core.sla_ms[:, None]
    return np.asarray((held & core.actions.masks_for(core.available)).any(axis=1))
