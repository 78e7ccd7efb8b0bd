"""attribute: a GPU's energy split over its instances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["attribute"]

Floats = NDArray[np.float64]


def attribute(
    whole_j: Floats, floor_j: Floats, gpu: NDArray[np.int64], sizes: Floats, dynamic_j: Floats
) -> tuple[Floats, Floats]:
    """Split what GPUs drew over instances: idle energy by slice size, the rest by activity.

    The rule of `Physics.attributed_j`, with the whole from a meter instead of from the profile. Nothing below
    a whole card is ever metered, also under MIG, so every share is attributed. Energy above idle that no
    activity explains follows the sizes.

    Args:
        whole_j: energy of each GPU, J, shape (gpus,).
        floor_j: what each would have drawn without any request, J, shape (gpus,).
        gpu: GPU of each instance, shape (n,).
        sizes: memory slices that each instance holds, shape (n,); 0 for one that is gone by now.
        dynamic_j: what each instance is expected to have spent above idle, J, shape (n,).

    Returns:
        Energy of each instance, shape (n,), and of each GPU what belongs to none, shape (gpus,), J; together
        they are the whole.
    """
    gpus = len(whole_j)
    in_use = np.bincount(gpu, weights=sizes, minlength=gpus)
    spent = np.bincount(gpu, weights=dynamic_j, minlength=gpus)
    idle = np.where(spent > 0.0, np.minimum(whole_j, floor_j), whole_j)
    by_size = np.divide(sizes, in_use[gpu], out=np.zeros(len(sizes)), where=in_use[gpu] > 0.0)
    by_activity = np.divide(dynamic_j, spent[gpu], out=np.zeros(len(sizes)), where=spent[gpu] > 0.0)
    own = by_size * idle[gpu] + by_activity * (whole_j - idle)[gpu]
    return own, np.where(in_use > 0.0, 0.0, idle)
