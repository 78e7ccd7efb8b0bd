"""Pictures as they come, made into what a network takes, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["prepared"]


def prepared(
    images: Any, pixels: int, dtype: Any, *, mean: Sequence[float] = (), spread: Sequence[float] = ()
) -> Any:
    """Images of any size as floating point of shape (n, 3, pixels, pixels), channels last.

    Args:
        images: uint8 of shape (n, height, width, 3), 0 to 255.
        pixels: height and width wanted; bilinear.
        dtype: floating-point type wanted.
        mean, spread: of each colour, subtracted and divided by; values are 0 to 1 where left out.
    """
    from torch.nn.functional import interpolate

    floats = images.permute(0, 3, 1, 2).to(dtype) / 255.0
    if floats.shape[-2:] != (pixels, pixels):
        floats = interpolate(floats, size=(pixels, pixels), mode="bilinear", align_corners=False)
    for colour, (middle, width) in enumerate(zip(mean, spread, strict=True)):
        floats[:, colour].sub_(middle).div_(width)
    return floats
