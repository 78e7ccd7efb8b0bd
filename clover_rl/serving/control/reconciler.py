"""Reconciler: brings instances and slices from what they are to what a plan says, step by step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.transition import Step, TransitionPlan
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.partition.base import PartitionBackend, Slice
from clover_rl.serving.worker.definition import ModelDefinition
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["Reconciler"]

log = logging.getLogger(__name__)

OnState = Callable[[ClusterConfiguration, tuple[bool, ...]], None]


def instance_key(gpu: int, placement: Placement, variant: str) -> str:
    """Name of an instance, as `Instance.key` of a configuration gives it."""
    return f"gpu{gpu}/{placement}:{variant}"


class Reconciler:
    """Holds target and actual configuration; the only one that creates slices and starts instances.

    A plan that arrives while another runs takes over as soon as the steps under way have ended: what they
    left half done is cleaned up, and the new target is planned for from what then serves. A step that fails
    ends its plan the same way; what serves goes on serving.

    Args:
        pool: the instances.
        partition: makes slices.
        profile: device times and transition times.
        models: variant -> what it is made of.
        gpus: how many GPUs.
        on_state: told what serves and which GPUs are powered, whenever that changes.
        hold: whether instances hold answers for the profile's device time (emulation).
    """

    def __init__(
        self,
        pool: InstancePool,
        partition: PartitionBackend,
        profile: Profile,
        models: Mapping[str, ModelDefinition],
        gpus: int,
        *,
        on_state: OnState,
        hold: bool,
    ) -> None:
        self._pool, self._partition, self._profile = pool, partition, profile
        self._models, self._hold, self._on_state = models, hold, on_state
        self._serving: list[dict[Placement, str]] = [{} for _ in range(gpus)]
        self._slices: dict[tuple[int, Placement], Slice] = {}
        self._loaded: set[str] = set()
        self._working = [0] * gpus
        self._wanted: TransitionPlan | None = None
        self._task: asyncio.Task[None] | None = None
        self.target = self.actual
        self.transitions = 0
        self.trouble: str | None = None

    @property
    def actual(self) -> ClusterConfiguration:
        """What takes requests now."""
        return ClusterConfiguration(
            tuple(
                GpuConfiguration(tuple(sorted(PlacedVariant(place, v) for place, v in gpu.items())))
                for gpu in self._serving
            )
        )

    @property
    def busy(self) -> bool:
        """Whether a transition is under way."""
        return self._task is not None and not self._task.done()

    def apply(self, plan: TransitionPlan) -> None:
        """Start a transition, or turn the one under way to a new target."""
        self._wanted = plan
        self.target = plan.target
        if not self.busy:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="transition")

    async def settled(self) -> None:
        """Wait until no transition is under way."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Stop after the steps under way."""
        self._wanted = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- inside

    async def _run(self) -> None:
        while self._wanted is not None:
            plan, self._wanted = self._wanted, None
            if plan.source != self.actual:
                plan = plan_transition(self.actual, plan.target, self._profile)
                self.target = plan.target
            self.transitions += bool(plan.steps)
            failed = await self._execute(plan)
            if failed or self._wanted is not None:
                await self._clean_up()
            if failed and self._wanted is None:
                self.target = self.actual
        self._renumber()

    async def _execute(self, plan: TransitionPlan) -> bool:
        """Run a plan's steps as their needs allow; True when a step failed."""
        done = [asyncio.Event() for _ in plan.steps]
        failures: list[BaseException] = []

        async def run(index: int, step: Step) -> None:
            for need in step.needs:
                await done[need].wait()
            if not failures and self._wanted is None:
                self._working[step.gpu] += 1
                self._changed()
                try:
                    await self._step(step)
                except Exception as error:  # a step that fails ends the plan, never the server
                    failures.append(error)
                    self.trouble = f"{step.what} of {step.placement} on GPU {step.gpu} failed: {error}"
                    log.error("transition: %s", self.trouble)
                finally:
                    self._working[step.gpu] -= 1
            done[index].set()
            self._changed()

        await asyncio.gather(*(run(index, step) for index, step in enumerate(plan.steps)))
        if not failures:
            self.trouble = None
        return bool(failures)

    async def _step(self, step: Step) -> None:
        gpu, place = step.gpu, step.placement
        match step.what:
            case "drain":
                assert step.variant is not None
                await self._remove(gpu, place, step.variant)
            case "destroy":
                found = self._slices.pop((gpu, place), None)
                if found is not None:
                    await self._partition.destroy(found)
            case "create":
                self._slices[gpu, place] = await self._partition.create(gpu, place)
            case "load":
                assert step.variant is not None
                key = instance_key(gpu, place, step.variant)
                wait = asyncio.sleep(step.duration_s if self._hold else 0.0)
                await asyncio.gather(self._pool.load(key, self._spec(gpu, place, step.variant)), wait)
                self._loaded.add(key)
            case "switch" | "ready":
                assert step.variant is not None
                await self._admit(gpu, place, step.variant)

    async def _admit(self, gpu: int, place: Placement, variant: str) -> None:
        before = self._serving[gpu].get(place)
        self._pool.admit(instance_key(gpu, place, variant))
        self._serving[gpu][place] = variant
        self._changed()
        if before is not None and before != variant:
            key = instance_key(gpu, place, before)
            await self._pool.stop(key)
            self._loaded.discard(key)

    async def _remove(self, gpu: int, place: Placement, variant: str) -> None:
        if self._serving[gpu].get(place) == variant:
            del self._serving[gpu][place]
            self._changed()
        key = instance_key(gpu, place, variant)
        await self._pool.stop(key)
        self._loaded.discard(key)

    async def _clean_up(self) -> None:
        """Remove instances that do not serve and slices without an instance."""
        serving = {
            instance_key(gpu, place, variant)
            for gpu, places in enumerate(self._serving)
            for place, variant in places.items()
        }
        for key in [key for key in self._loaded if key not in serving]:
            await self._pool.stop(key)
            self._loaded.discard(key)
        for (gpu, place), found in list(self._slices.items()):
            if place not in self._serving[gpu]:
                del self._slices[gpu, place]
                await self._partition.destroy(found)
        self._changed()

    def _spec(self, gpu: int, place: Placement, variant: str, number: int | None = None) -> InstanceSpec:
        return InstanceSpec(
            variant=variant,
            model=self._models[variant],
            hold_s=self._profile.service_s[variant][place.slice] if self._hold else 0.0,
            number=gpu * 16 + place.start if number is None else number,
            environment=dict(self._partition.environment(self._slices[gpu, place])),
        )

    def _renumber(self) -> None:
        """Numbers break ties; give them as the configuration counts its instances."""
        for item in self.actual.instances:
            key = item.key
            if key in self._loaded:
                self._pool.update(key, self._spec(item.gpu, item.placement, item.variant, item.number))

    def _changed(self) -> None:
        powered = tuple(
            bool(serving) or working > 0
            for serving, working in zip(self._serving, self._working, strict=True)
        )
        self._on_state(self.actual, powered)
