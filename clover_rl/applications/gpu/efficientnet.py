"""EfficientNet B1, B3, B5 and B7 of torchvision, 8 images a request."""

from __future__ import annotations

from functools import partial
from typing import Any

from clover_rl.applications.gpu.graphed import GraphedModel
from clover_rl.applications.gpu.images import prepared
from clover_rl.applications.gpu.weights import initialise
from clover_rl.cluster.application import TensorSpec

__all__ = ["INPUTS", "OUTPUTS", "PIXELS", "b1", "b3", "b5", "b7", "module"]

PIXELS = {"B1": 240, "B3": 300, "B5": 456, "B7": 600}
"""Variant -> side of the image that it takes (Tan and Le, EfficientNet, 2019)."""
BATCH, SIDE, CLASSES = 8, 224, 1000
INPUTS = (TensorSpec("images", "UINT8", (BATCH, SIDE, SIDE, 3)),)
OUTPUTS = (TensorSpec("scores", "FP32", (BATCH, CLASSES)),)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, as torchvision's weights expect them."""


def module(variant: str, pixels: int) -> Any:
    """A network from images of any size to scores, float32 of shape (n, 1000).

    Args:
        variant: B0 to B7.
        pixels: side that images are brought to.

    Raises:
        InputError: a folder of weights is named and lacks this variant's.
    """
    import torch
    from torchvision.models import efficientnet

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net: Any = getattr(efficientnet, f"efficientnet_{variant.lower()}")(weights=None)
            initialise(self.net, "efficientnet", variant)
            self.net.to(memory_format=torch.channels_last)
            spread = torch.tensor(SPREAD).view(3, 1, 1)
            self.register_buffer("scale", 1.0 / (255.0 * spread), persistent=False)
            self.register_buffer("shift", -torch.tensor(MEAN).view(3, 1, 1) / spread, persistent=False)

        def forward(self, images: Any) -> Any:
            dtype = self.net.classifier[-1].weight.dtype
            floats = prepared(images, pixels, dtype, scale=self.scale, shift=self.shift)
            floats = floats.contiguous(memory_format=torch.channels_last)
            return self.net(floats).float().softmax(-1)

    return Classifier()


def _model(variant: str) -> GraphedModel:
    return GraphedModel(partial(module, variant, PIXELS[variant]), INPUTS, OUTPUTS)


def b1() -> GraphedModel:
    """Entry point of variant B1."""
    return _model("B1")


def b3() -> GraphedModel:
    """Entry point of variant B3."""
    return _model("B3")


def b5() -> GraphedModel:
    """Entry point of variant B5."""
    return _model("B5")


def b7() -> GraphedModel:
    """Entry point of variant B7."""
    return _model("B7")
