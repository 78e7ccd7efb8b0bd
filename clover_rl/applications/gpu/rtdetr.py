"""RT-DETR r18 to r101 of transformers: object detection, one picture a request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from clover_rl.applications.gpu.graphed import GraphedModel
from clover_rl.applications.gpu.images import prepared
from clover_rl.applications.gpu.weights import initialise
from clover_rl.cluster.application import TensorSpec

__all__ = ["INPUTS", "OUTPUTS", "SHAPES", "module", "r18", "r34", "r50", "r101"]

HEIGHT, WIDTH, PIXELS, QUERIES = 480, 640, 640, 300
INPUTS = (TensorSpec("image", "UINT8", (1, HEIGHT, WIDTH, 3)),)
RESIDUAL = 0.3
OUTPUTS = (
    TensorSpec("boxes", "FP32", (1, QUERIES, 4)),
    TensorSpec("scores", "FP32", (1, QUERIES)),
    TensorSpec("labels", "INT64", (1, QUERIES)),
)


def _shape(
    depths: tuple[int, ...], *, deep: bool, decoder: int, narrow: bool, encoder: tuple[int, int] = (256, 1024)
) -> Mapping[str, Any]:
    hidden = [256, 512, 1024, 2048] if deep else [64, 128, 256, 512]
    return {
        "backbone": {
            "depths": list(depths),
            "hidden_sizes": hidden,
            "layer_type": "bottleneck" if deep else "basic",
            "out_features": ["stage2", "stage3", "stage4"],
        },
        "encoder_in_channels": hidden[1:],
        "encoder_hidden_dim": encoder[0],
        "encoder_ffn_dim": encoder[1],
        "decoder_in_channels": [encoder[0]] * 3,
        "decoder_layers": decoder,
        "hidden_expansion": 0.5 if narrow else 1.0,
    }


SHAPES: Mapping[str, Mapping[str, Any]] = {
    "r18": _shape((2, 2, 2, 2), deep=False, decoder=3, narrow=True),
    "r34": _shape((3, 4, 6, 3), deep=False, decoder=4, narrow=True),
    "r50": _shape((3, 4, 6, 3), deep=True, decoder=6, narrow=False),
    "r101": _shape((3, 4, 23, 3), deep=True, decoder=6, narrow=False, encoder=(384, 2048)),
}
"""Variant -> its configuration (Zhao et al., RT-DETR, 2024, and the configurations of its repository)."""


def module(variant: str, pixels: int = PIXELS, **shape: Any) -> Any:
    """A network from pictures of any size to boxes, scores and labels of the best queries.

    Boxes are float32 of shape (n, queries, 4): centre, width and height as shares of the picture; scores
    float32 and labels int64, both of shape (n, queries).

    Args:
        variant: whose weights are looked for.
        pixels: side that pictures are brought to.
        shape: `backbone`, parts of transformers' RTDetrResNetConfig, and parts of RTDetrConfig.

    Raises:
        InputError: a folder of weights is named and lacks this variant's.
    """
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    class Detector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            parts = dict(shape)
            backbone: Any = RTDetrResNetConfig(**parts.pop("backbone"))
            config: Any = RTDetrConfig(backbone_config=backbone, num_labels=80, **parts)
            self.net: Any = RTDetrForObjectDetection(config)
            if not initialise(self.net, "rtdetr", variant):
                _calm(self.net)

        def forward(self, images: Any) -> tuple[Any, Any, Any]:
            found = self.net(prepared(images, pixels, self.net.dtype))
            scores, labels = found.logits.float().sigmoid().max(-1)
            return found.pred_boxes.float(), scores, labels

    return Detector()


def _calm(net: Any) -> None:
    """Make random residual blocks add little, as trained ones do: doubling 33 times leaves fp16's range."""
    for block in net.modules():
        if hasattr(block, "shortcut") and hasattr(block, "layer"):
            block.layer[-1].normalization.weight.mul_(RESIDUAL)


def _model(variant: str) -> GraphedModel:
    return GraphedModel(partial(module, variant, **SHAPES[variant]), INPUTS, OUTPUTS)


def r18() -> GraphedModel:
    """Entry point of variant r18."""
    return _model("r18")


def r34() -> GraphedModel:
    """Entry point of variant r34."""
    return _model("r34")


def r50() -> GraphedModel:
    """Entry point of variant r50."""
    return _model("r50")


def r101() -> GraphedModel:
    """Entry point of variant r101."""
    return _model("r101")
