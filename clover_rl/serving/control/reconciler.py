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
from clover_rl.serving.clock import Clock
from clover_rl.serving.control.transition_record import TransitionOutcome, TransitionRecord
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.partition.base import PartitionBackend, Slice
from clover_rl.serving.worker.definition import ModelDefinition
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["Reconciler"]

log = logging.getLogger(__name__)

_TRIES = 2
"""Plans towards a target before the way back is taken."""

OnState = Callable[[ClusterConfiguration, tuple[bool, ...]], None]


def instance_key(gpu: int, placement: Placement, variant: str) -> str:
    """Name of an instance, as `Instance.key` of a configuration gives it."""
    return f"gpu{gpu}/{placement}:{variant}"


class Reconciler:
    """Holds target and actual configuration; the only one that creates slices and starts instances.

    A plan that arrives while another runs takes over as soon as the steps under way have ended: what they
    left half done is cleaned up, and the new target is planned for from what then serves. A step that fails
    ends its plan the same way; the target is then tried once more from there, and if that fails too, the
    transition is rolled back to what served before. What serves goes on serving all the while, and every
    transition ends with a record of how.

    Args:
        pool: the instances.
        partition: makes slices.
        profile: device times and transition times.
        models: variant -> what it is made of.
        gpus: how many GPUs.
        on_state: told what serves and which GPUs are powered, whenever that changes.
        hold: whether instances hold answers for the profile's device time (emulation).
        clock: for the records.
        on_record: told of every transition when it begins and when it has ended.
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
        clock: Clock,
        on_record: Callable[[TransitionRecord], None] | None = None,
    ) -> None:
        self._pool, self._partition, self._profile = pool, partition, profile
        self._models, self._hold, self._on_state = models, hold, on_state
        self._serving: list[dict[Placement, str]] = [{} for _ in range(gpus)]
        self._slices: dict[tuple[int, Placement], Slice] = {}
        self._loaded: set[str] = set()
        self._working = [0] * gpus
        self._wanted: TransitionPlan | None = None
        self._task: asyncio.Task[None] | None = None
        self._clock, self._on_record = clock, on_record
        self.target = self.actual
        self.transitions = 0
        self.record: TransitionRecord | None = None
        """The transition under way, else the last one."""
        self.trouble: str | None = None
        self._left_over = False

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
        """Stop: steps under way are given up, and nothing more is started."""
        self._wanted = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        record = self.record
        if record is not None and record.outcome is None:
            self._end(record, TransitionOutcome.INTERRUPTED)

    # --- inside

    async def _run(self) -> None:
        while self._wanted is not None:
            plan, self._wanted = self._wanted, None
            if self._left_over:
                await self._clean_up()
            if plan.source != self.actual:
                plan = plan_transition(self.actual, plan.target, self._profile)
                self.target = plan.target
            if plan.steps:
                await self._carry_out(plan)
        self._renumber()

    async def _carry_out(self, plan: TransitionPlan) -> None:
        """Bring one transition to an end, whichever it is."""
        self.transitions += 1
        record = self.record = TransitionRecord(self.transitions, self.actual, plan.target, self._clock.now())
        self._tell(record)
        source = plan.source
        for attempt in range(_TRIES):
            if attempt:
                plan = plan_transition(self.actual, plan.target, self._profile)
                self.target = record.target = plan.target
            if await self._try(plan, record):
                break
        if self._wanted is not None:
            self._end(record, TransitionOutcome.SUPERSEDED)
        elif self.actual == plan.target:
            if not self._left_over:
                self.trouble = None
            self._end(record, TransitionOutcome.COMPLETED)
        else:
            await self._roll_back(source, record)

    async def _roll_back(self, source: ClusterConfiguration, record: TransitionRecord) -> None:
        back = plan_transition(self.actual, source, self._profile)
        self.target = back.target
        await self._try(back, record)
        if self._wanted is not None:
            self._end(record, TransitionOutcome.SUPERSEDED)
        elif self.actual == back.target:
            self._end(record, TransitionOutcome.ROLLED_BACK)
        else:
            self.target = self.actual
            self._end(record, TransitionOutcome.DEGRADED)

    async def _try(self, plan: TransitionPlan, record: TransitionRecord) -> bool:
        """Carry out a plan and leave nothing half done; False when it should be tried again."""
        record.tries += 1
        record.steps, record.steps_done = len(plan.steps), 0
        trouble = await self._execute(plan, record)
        if trouble is not None:
            self.trouble = record.trouble = trouble
        if trouble is not None or self._wanted is not None:
            await self._clean_up()
        return trouble is None or self._wanted is not None

    async def _execute(self, plan: TransitionPlan, record: TransitionRecord) -> str | None:
        """Run a plan's steps as their needs allow; what went wrong when a step failed."""
        done = [asyncio.Event() for _ in plan.steps]
        failures: list[str] = []

        async def run(index: int, step: Step) -> None:
            for need in step.needs:
                await done[need].wait()
            if not failures and self._wanted is None:
                self._working[step.gpu] += 1
                self._changed()
                try:
                    await self._step(step)
                    record.steps_done += 1
                except Exception as error:  # a step that fails ends the plan, never the server
                    failures.append(f"{step.what} of {step.placement} on GPU {step.gpu} failed: {error}")
                    log.error("transition %d: %s", record.number, failures[-1])
                finally:
                    self._working[step.gpu] -= 1
            done[index].set()
            self._changed()

        await asyncio.gather(*(run(index, step) for index, step in enumerate(plan.steps)))
        return failures[0] if failures else None

    def _end(self, record: TransitionRecord, outcome: TransitionOutcome) -> None:
        record.outcome, record.ended_s, record.reached = outcome, self._clock.now(), self.actual
        self._tell(record)

    def _tell(self, record: TransitionRecord) -> None:
        if record.outcome is None:
            log.info("transition %d begins: from %s to %s", record.number, record.source, record.target)
        else:
            log.info(
                "transition %d %s after %.2f s and %d tries: %s serves",
                *(record.number, record.outcome.value, (record.ended_s or 0.0) - record.began_s),
                *(record.tries, record.reached),
            )
        if self._on_record is not None:
            try:
                self._on_record(record)
            except Exception:  # a ledger that cannot be written must not hold up a transition
                log.exception("transition %d is not recorded", record.number)

    async def _step(self, step: Step) -> None:
        gpu, place = step.gpu, step.placement
        match step.what:
            case "drain":
                assert step.variant is not None
                await self._remove(gpu, place, step.variant)
            case "destroy":
                found = self._slices.get((gpu, place))
                if found is not None:
                    await self._partition.destroy(found)
                    del self._slices[gpu, place]
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
        """Remove instances that do not serve and slices without an instance, whoever made them."""
        serving = {
            instance_key(gpu, place, variant)
            for gpu, places in enumerate(self._serving)
            for place, variant in places.items()
        }
        for key in [key for key in self._loaded if key not in serving]:
            await self._pool.stop(key)
            self._loaded.discard(key)
        failures: list[Exception] = []
        found_slices: list[Slice] = []
        try:
            found_slices = [piece for device in await self._partition.discover() for piece in device.slices]
        except Exception as error:  # the next plan begins with trying again
            failures.append(error)
        for found in found_slices:
            if found.placement not in self._serving[found.gpu]:
                try:
                    await self._partition.destroy(found)
                    self._slices.pop((found.gpu, found.placement), None)
                except Exception as error:  # one that cannot go keeps no other from going
                    failures.append(error)
        if failures:
            self.trouble = f"slices that are not needed cannot be destroyed: {failures[0]}"
            log.error("transition: %s", self.trouble)
        elif self._left_over:
            self.trouble = None
        self._left_over = bool(failures)
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
