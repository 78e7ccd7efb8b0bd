"""Shape: how time and energy go with variant and slice, taken from the H100 table for cards that lack one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError

__all__ = ["Shape", "fitted_shape", "shape_for"]

YOLOV5_GFLOPS = {"l": 109.1, "x": 205.7, "x6": 839.2}
"""Work of one image at 640, 640 and 1280 px; source: Ultralytics' table of YOLOv5 models."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Time = fixed part + unit x work / throughput(share), with throughput(x) = x (1 + knee) / (x + knee).

    Attributes:
        knee: share of the card at which throughput bends; infinite would be throughput = share.
        work: of each variant, in any unit.
        energy: of a request on each slice, as a multiple of that on the whole card.
        error: largest relative error of the law on the table it was fitted to; NaN without a table.
    """

    knee: float
    work: Mapping[str, float]
    energy: Mapping[str, float]
    error: float

    def throughput(self, share: float) -> float:
        """Of a slice with this share of the card's compute, 1 for the whole card."""
        return share * (1.0 + self.knee) / (share + self.knee)


def fitted_shape(profile: Profile) -> Shape:
    """The law fitted to a measured table, by least squares of relative errors.

    On one table fixed parts and bending throughput cannot be told apart: both make time a + b / share. So the
    largest variant is taken to have no fixed part, since one CUDA graph leaves nothing between its kernels,
    and its row alone gives the knee; every variant's fixed part and work follow with that knee.

    Raises:
        InputError: the profile does not say how many SMs each slice had.
    """
    law = profile.interference
    if law is None:
        raise InputError(f"profile `{profile.name}` does not say how many SMs its slices had")
    slices = list(law.sms)
    share = np.array([law.share(name) for name in slices])
    rows = {v: np.array([row[name] for name in slices]) for v, row in profile.service_s.items()}
    (flat, falling), _ = _fit(rows[profile.application.largest.name], 1.0 / share)
    knee = falling / flat
    slower = (share + knee) / (share * (1.0 + knee))
    fits = {variant: _fit(row, slower) for variant, row in rows.items()}
    energies = profile.energy_j.values()
    return Shape(
        knee,
        {variant: 1000.0 * work for variant, ((_, work), _) in fits.items()},
        {name: float(np.mean([row[name] / row["7g"] for row in energies])) for name in slices},
        max(error for _, error in fits.values()),
    )


def _fit(times: NDArray[np.float64], slower: NDArray[np.float64]) -> tuple[tuple[float, float], float]:
    """Fixed part >= 0 and factor of `slower` that fit times best, and the largest relative error."""
    design = np.stack([1.0 / times, slower / times], axis=1)
    fixed, work = np.linalg.lstsq(design, np.ones(len(times)), rcond=None)[0]
    if fixed < 0.0:
        fixed, work = 0.0, design[:, 1].sum() / np.square(design[:, 1]).sum()
    error = np.abs(design @ np.array([fixed, work]) - 1.0).max()
    return (float(fixed), float(work)), float(error)


def shape_for(application: str) -> Shape:
    """An application's shape: from its own H100 table; for YOLOv5 the mean of both, with work by FLOPs."""
    if application != "yolov5":
        return fitted_shape(load_profile(f"h100-{application}"))
    known = [fitted_shape(load_profile(f"h100-{name}")) for name in ("efficientnet", "albert")]
    return Shape(
        float(np.mean([shape.knee for shape in known])),
        YOLOV5_GFLOPS,
        {name: float(np.mean([shape.energy[name] for shape in known])) for name in known[0].energy},
        float("nan"),
    )
