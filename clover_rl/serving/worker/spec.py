"""InstanceSpec: what an instance is to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["InstanceSpec"]


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What an instance is to be.

    Attributes:
        variant: name of the model variant.
        model_path: its ONNX file.
        hold_s: device time of one request, s; a request takes at least as long.
        number: place in the configuration; the lowest breaks ties.
        environment: variables that the process sees besides the server's own (the slice's device).
        threads: CPU threads of one inference.
    """

    variant: str
    model_path: Path
    hold_s: float
    number: int
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1

    def same_process(self, other: InstanceSpec) -> bool:
        """Whether a running process can become the other one: only device time and number differ."""
        return (self.variant, self.model_path, self.environment, self.threads) == (
            other.variant,
            other.model_path,
            other.environment,
            other.threads,
        )
