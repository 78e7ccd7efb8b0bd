"""InstanceSpec: what an instance is to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clover_rl.serving.worker.definition import ModelDefinition

__all__ = ["InstanceSpec"]


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What an instance is to be.

    Attributes:
        variant: name of the model variant.
        model: what it is made of.
        hold_s: device time of one request, s; a request takes at least as long.
        number: place in the configuration; the lowest breaks ties.
        environment: variables that the process sees besides the server's own (the slice's device).
        threads: CPU threads of one inference.
    """

    variant: str
    model: ModelDefinition
    hold_s: float
    number: int
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1

    def same_process(self, other: InstanceSpec) -> bool:
        """Whether a running process can become the other one: only device time and number differ."""
        return (self.variant, self.model, self.environment, self.threads) == (
            other.variant,
            other.model,
            other.environment,
            other.threads,
        )
