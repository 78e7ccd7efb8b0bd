"""TransitionPlan: how a cluster goes from one configuration to another, as a DAG of timed steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import Placement

__all__ = ["PlanState", "Step", "StepKind", "TransitionPlan"]

StepKind = Literal["drain", "destroy", "create", "load", "switch", "ready"]
"""drain: the instance takes no new request and finishes the one in flight. destroy, create: a slice. load: a
variant's process starts on a slice. switch: the instance loaded beside takes over. ready: it takes work."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan.

    Attributes:
        what: kind of step.
        gpu: index of the GPU.
        placement: the slice.
        variant: the variant drained, loaded, switched to or made ready; None for create and destroy.
        needs: indices of the steps that must be done before.
        duration_s: how long it takes, s.
    """

    what: StepKind
    gpu: int
    placement: Placement
    variant: str | None
    needs: tuple[int, ...]
    duration_s: float


@dataclass(frozen=True, slots=True)
class PlanState:
    """What serves from `time_s` after the plan's start on, and which GPUs draw at least idle power."""

    time_s: float
    configuration: ClusterConfiguration
    powered: tuple[bool, ...]


@dataclass(frozen=True)
class TransitionPlan:
    """From `source` to `target` (GPU by GPU) in `steps`, each listed after those it needs."""

    source: ClusterConfiguration
    target: ClusterConfiguration
    steps: tuple[Step, ...] = ()

    @cached_property
    def start_times_s(self) -> tuple[float, ...]:
        """Earliest start of each step after the plan's start, s."""
        starts: list[float] = []
        for step in self.steps:
            starts.append(max((starts[i] + self.steps[i].duration_s for i in step.needs), default=0.0))
        return tuple(starts)

    @cached_property
    def duration_s(self) -> float:
        """Length of the whole plan, s; 0 when nothing changes."""
        return max(
            (start + step.duration_s for start, step in zip(self.start_times_s, self.steps, strict=True)),
            default=0.0,
        )

    @cached_property
    def timeline(self) -> tuple[PlanState, ...]:
        """Every configuration passed, with times: the source first, the target last."""
        return tuple(self._walk())

    def states(self) -> Iterator[ClusterConfiguration]:
        """Every configuration passed, source and target included."""
        return (state.configuration for state in self.timeline)

    def _walk(self) -> Iterator[PlanState]:
        serving = [{item.placement: item.variant for item in gpu.placed} for gpu in self.source.gpus]
        starts = self.start_times_s
        busy_until = [0.0] * len(serving)
        busy_from = [float("inf")] * len(serving)
        for start, step in zip(starts, self.steps, strict=True):
            busy_from[step.gpu] = min(busy_from[step.gpu], start)
            busy_until[step.gpu] = max(busy_until[step.gpu], start + step.duration_s)
        times = {0.0}
        for start, step in zip(starts, self.steps, strict=True):
            if step.what in ("drain", "switch", "ready"):
                times.add(start)
        times.update(busy_from[g] for g in range(len(serving)) if busy_from[g] < float("inf"))
        times.update(until for until in busy_until if until > 0)
        events = sorted(
            (start, index)
            for index, (start, step) in enumerate(zip(starts, self.steps, strict=True))
            if step.what in ("drain", "switch", "ready")
        )
        position = 0
        if events and events[0][0] <= 0.0:
            # Drains begin at once: the source is passed in no time, and is listed for who walks the states.
            powered = tuple(
                not gpu.parked or busy_from[g] <= 0.0 < busy_until[g]
                for g, gpu in enumerate(self.source.gpus)
            )
            yield PlanState(0.0, self.source, powered)
        for time_s in sorted(times):
            while position < len(events) and events[position][0] <= time_s:
                step = self.steps[events[position][1]]
                if step.what == "drain":
                    serving[step.gpu].pop(step.placement, None)
                elif step.variant is not None:
                    serving[step.gpu][step.placement] = step.variant
                position += 1
            configuration = ClusterConfiguration(
                tuple(
                    GpuConfiguration(tuple(sorted(PlacedVariant(p, v) for p, v in gpu.items())))
                    for gpu in serving
                )
            )
            powered = tuple(
                bool(gpu) or busy_from[g] <= time_s < busy_until[g] for g, gpu in enumerate(serving)
            )
            yield PlanState(time_s, configuration, powered)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "steps": [
                {
                    "what": step.what,
                    "gpu": step.gpu,
                    "placement": [step.placement.start, step.placement.size, step.placement.slice],
                    "variant": step.variant,
                    "needs": list(step.needs),
                    "duration_s": step.duration_s,
                }
                for step in self.steps
            ],
        }

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], source: ClusterConfiguration, target: ClusterConfiguration
    ) -> TransitionPlan:
        """Inverse of `to_dict`, the two configurations parsed by the caller."""
        return cls(
            source,
            target,
            tuple(
                Step(
                    step["what"],
                    step["gpu"],
                    Placement(*step["placement"]),
                    step["variant"],
                    tuple(step["needs"]),
                    step["duration_s"],
                )
                for step in content["steps"]
            ),
        )
