"""TransitionRecord: how far a transition has come, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from clover_rl.cluster.configuration import ClusterConfiguration

__all__ = ["TransitionOutcome", "TransitionRecord"]


class TransitionOutcome(Enum):
    """How a transition ended. Each leaves a configuration that was served before or is served now."""

    COMPLETED = "completed"
    """The target serves."""
    SUPERSEDED = "superseded"
    """Another target came; its transition starts from what served then."""
    ROLLED_BACK = "rolled_back"
    """A step failed, the second try too; what served before serves again."""
    DEGRADED = "degraded"
    """A step failed, and so did the way back; what could be kept serves."""
    INTERRUPTED = "interrupted"
    """The server stopped, or was killed, in the middle."""


@dataclass(slots=True)
class TransitionRecord:
    """One transition.

    Attributes:
        number: counts from 1.
        source, target: configurations.
        began_s: on the server's clock, s.
        steps, steps_done: of the plan that is, or was last, carried out.
        tries: plans carried out for it: 1, and one for each retry and for the way back.
        ended_s: likewise; None while it runs.
        reached: what served when it ended.
        outcome: how it ended; None while it runs.
        trouble: what failed, in one sentence; None when nothing did.
    """

    number: int
    source: ClusterConfiguration
    target: ClusterConfiguration
    began_s: float
    steps: int = 0
    steps_done: int = 0
    tries: int = 0
    ended_s: float | None = None
    reached: ClusterConfiguration | None = None
    outcome: TransitionOutcome | None = None
    trouble: str | None = None
