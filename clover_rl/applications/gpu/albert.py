"""ALBERT v2 base to xxlarge of transformers, one sequence of 384 tokens: question answering."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from clover_rl.applications.gpu.graphed import GraphedModel
from clover_rl.applications.gpu.weights import initialise
from clover_rl.cluster.application import TensorSpec

__all__ = ["INPUTS", "OUTPUTS", "SHAPES", "base", "large", "module", "xlarge", "xxlarge"]

TOKENS = 384
INPUTS = (TensorSpec("tokens", "INT64", (1, TOKENS)),)
OUTPUTS = (TensorSpec("logits", "FP32", (1, TOKENS, 2)),)
SHAPES: Mapping[str, Mapping[str, int]] = {
    variant: {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }
    for variant, (hidden, layers, heads, inner) in {
        "base": (768, 12, 12, 3072),
        "large": (1024, 24, 16, 4096),
        "xlarge": (2048, 24, 16, 8192),
        "xxlarge": (4096, 12, 64, 16384),
    }.items()
}
"""Variant -> its configuration (Lan et al., ALBERT, 2020)."""


def module(variant: str, **shape: int) -> Any:
    """A network from tokens to the logits of an answer's start and end, float32 of shape (n, tokens, 2).

    Args:
        variant: whose weights are looked for.
        shape: parts of transformers' AlbertConfig.

    Raises:
        InputError: a folder of weights is named and lacks this variant's.
    """
    import torch
    from transformers import AlbertConfig, AlbertForQuestionAnswering

    class Answerer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config: Any = AlbertConfig(**shape, attn_implementation="sdpa")
            self.net: Any = AlbertForQuestionAnswering(config)
            initialise(self.net, "albert", variant)

        def forward(self, tokens: Any) -> Any:
            found = self.net(tokens)
            return torch.stack((found.start_logits, found.end_logits), -1).float()

    return Answerer()


def _model(variant: str) -> GraphedModel:
    return GraphedModel(partial(module, variant, **SHAPES[variant]), INPUTS, OUTPUTS)


def base() -> GraphedModel:
    """Entry point of variant base."""
    return _model("base")


def large() -> GraphedModel:
    """Entry point of variant large."""
    return _model("large")


def xlarge() -> GraphedModel:
    """Entry point of variant xlarge."""
    return _model("xlarge")


def xxlarge() -> GraphedModel:
    """Entry point of variant xxlarge."""
    return _model("xxlarge")
