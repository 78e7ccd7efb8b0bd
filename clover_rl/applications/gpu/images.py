"""Pictures as they come, made into what a network takes, on the device."""

from __future__ import annotations

from typing import Any

__all__ = ["prepared"]


def prepared(images: Any, pixels: int, dtype: Any, *, scale: Any = None, shift: Any = None) -> Any:
    """Images of any size as floating point of shape (n, 3, pixels, pixels), channels last.

    Args:
        images: uint8 of shape (n, height, width, 3), 0 to 255.
        pixels: height and width wanted; bilinear.
        dtype: floating-point type wanted.
        scale, shift: of each colour, shape (3, 1, 1), on the images' device: value x scale + shift in one
            step, as each step costs time however small it is. Values are 0 to 1 where left out.
    """
    import torch
    from torch.nn.functional import interpolate

    floats = images.permute(0, 3, 1, 2).to(dtype)
    if floats.shape[-2:] != (pixels, pixels):
        floats = interpolate(floats, size=(pixels, pixels), mode="bilinear", align_corners=False)
    return floats / 255.0 if scale is None else torch.addcmul(shift, floats, scale)
