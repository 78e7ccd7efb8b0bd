"""Controller: decides what the cluster shall become; Decision: what it said and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.control.state import ControlState

__all__ = ["Controller", "Decision"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A configuration, the reason for it, and after how many seconds it wants to look again (None: never)."""

    configuration: ClusterConfiguration
    reason: str
    review_after_s: float | None = None


@runtime_checkable
class Controller(Protocol):
    """Anything that decides. The same object runs in evaluation and in the server.

    Attributes:
        name: short name in tables.
        knows: what it knows beyond the state, for people.
        space_size: configurations of the cluster that it chooses from, for people.
    """

    name: str
    knows: str
    space_size: int

    @property
    def live_trials(self) -> int:
        """Configurations deployed only to try them, since `reset`."""
        ...

    def reset(self, seed: int) -> None:
        """Forget everything and seed whatever is random."""
        ...

    def decide(self, state: ControlState) -> Decision:
        """The configuration for the interval that begins, or for the rest of it at a review."""
        ...
