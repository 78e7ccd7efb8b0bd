"""The reconciler ends in the last target, whatever comes in between, and what serves goes on serving."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clover_rl.cluster.choices import base_configuration, co2opt_configuration, homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile, TransitionTimes
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import ServingError
from clover_rl.serving.clock import RealClock
from clover_rl.serving.control.energy import EnergyBook
from clover_rl.serving.control.reconciler import Reconciler
from clover_rl.serving.control.transition_record import TransitionOutcome, TransitionRecord
from clover_rl.serving.partition.base import Slice
from clover_rl.serving.partition.emulated import EmulatedPartition
from clover_rl.serving.worker.definition import ModelDefinition
from clover_rl.serving.worker.spec import InstanceSpec
from clover_rl.simulation.physics import Physics

GPUS = 2


def quick(profile: Profile) -> Profile:
    """The same profile with transitions that take no time."""
    loads = dict.fromkeys(profile.application.variants, 0.0)
    return replace(profile, times=TransitionTimes(0.0, 0.0, loads))


PROFILE = quick(load_profile("emulated-digits"))
CATALOGUE = homogeneous_catalogue(PROFILE, GPUS)


class Fault:
    """Lets some of the operations fail that change anything, by their number."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self.numbers, self.count = set(numbers), 0

    def check(self, what: str) -> None:
        self.count += 1
        if self.count - 1 in self.numbers:
            raise ServingError(f"{what} does not work this time")


class FaultyPartition(EmulatedPartition):
    """An emulated partition with faults, before or after the work is done."""

    fault: Fault

    async def create(self, gpu: int, placement: Placement) -> Slice:
        self.fault.check("create")
        made = await super().create(gpu, placement)
        self.fault.check("create, when it was done,")
        return made

    async def destroy(self, target: Slice) -> None:
        self.fault.check("destroy")
        await super().destroy(target)


@dataclass
class FakePool:
    """Books of instances; loading takes a turn of the loop, and may fail."""

    fault: Fault = field(default_factory=Fault)
    failing: set[str] = field(default_factory=set)
    loaded: dict[str, InstanceSpec] = field(default_factory=dict)
    admitted: set[str] = field(default_factory=set)
    history: list[str] = field(default_factory=list)

    async def load(self, key: str, spec: InstanceSpec) -> None:
        await asyncio.sleep(0)
        if key in self.loaded:
            raise ServingError("exists already", where=key)
        self.fault.check("load")
        if key in self.failing:
            raise ServingError("cannot be started", where=key)
        self.loaded[key] = spec
        self.history.append(f"load {key}")

    def admit(self, key: str) -> None:
        assert key in self.loaded
        self.admitted.add(key)

    async def stop(self, key: str) -> None:
        await asyncio.sleep(0)
        self.admitted.discard(key)
        self.loaded.pop(key, None)
        self.history.append(f"stop {key}")

    def update(self, key: str, spec: InstanceSpec) -> None:
        assert key in self.loaded
        self.loaded[key] = spec


class Rig:
    def __init__(self, pool: FakePool | None = None) -> None:
        self.pool = pool or FakePool()
        self.partition = FaultyPartition(GPUS, PROFILE.gpu, PROFILE.times, time_factor=0.0)
        self.partition.fault = self.pool.fault
        self.records: list[tuple[int, TransitionOutcome | None]] = []
        self.states: list[tuple[ClusterConfiguration, tuple[bool, ...]]] = []
        models = {name: ModelDefinition.onnx(Path(f"{name}.onnx")) for name in PROFILE.application.variants}
        self.reconciler = Reconciler(
            self.pool,  # type: ignore[arg-type]
            self.partition,
            PROFILE,
            models,
            GPUS,
            on_state=lambda configuration, powered: self.states.append((configuration, powered)),
            hold=False,
            clock=RealClock(),
            on_record=lambda record: self.records.append((record.number, record.outcome)),
        )

    def go(self, target: ClusterConfiguration) -> None:
        self.reconciler.apply(plan_transition(self.reconciler.actual, target, PROFILE))

    async def check_settled(self, target: ClusterConfiguration) -> None:
        await self.reconciler.settled()
        actual = self.reconciler.actual
        assert actual.canonical == target.canonical
        keys = {item.key for item in actual.instances}
        assert self.pool.admitted == set(self.pool.loaded) == keys
        devices = await self.partition.discover()
        placed = {(d.gpu, piece.placement) for d in devices for piece in d.slices}
        assert placed == {(item.gpu, item.placement) for item in actual.instances}
        assert [self.pool.loaded[item.key].number for item in actual.instances] == list(range(len(keys)))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, len(CATALOGUE) - 1), st.integers(0, 12)), min_size=1, max_size=5))
def test_targets_at_any_moment_end_in_the_last_one_with_nothing_left_over(
    targets: list[tuple[int, int]],
) -> None:
    async def play() -> None:
        rig = Rig()
        rig.go(base_configuration(PROFILE, GPUS))
        for index, turns in targets:
            for _ in range(turns):
                await asyncio.sleep(0)
            rig.go(CATALOGUE[index])
        await rig.check_settled(CATALOGUE[targets[-1][0]])
        for configuration, powered in rig.states:
            configuration.check(PROFILE)
            for gpu, on in zip(configuration.gpus, powered, strict=True):
                assert on or gpu.parked

    asyncio.run(play())


@settings(max_examples=150)
@given(
    st.integers(0, len(CATALOGUE) - 1),
    st.integers(0, len(CATALOGUE) - 1),
    st.sets(st.integers(0, 60), max_size=12),
)
@example(0, 132, {9, 10})  # slices that a clean-up could not destroy stayed for ever
def test_whatever_fails_a_transition_ends_in_a_valid_recorded_state(
    first: int, second: int, faults: set[int]
) -> None:
    async def play() -> None:
        rig = Rig()
        rig.go(CATALOGUE[first])
        await rig.check_settled(CATALOGUE[first])
        source = rig.reconciler.actual
        rig.pool.fault.numbers = {rig.pool.fault.count + number for number in faults}
        rig.go(CATALOGUE[second])
        await rig.reconciler.settled()
        record = rig.reconciler.record
        assert record is not None
        actual = rig.reconciler.actual
        assert not rig.reconciler.busy
        assert record.outcome is not None
        assert (record.reached, rig.reconciler.target) == (actual, actual)
        match record.outcome:
            case TransitionOutcome.COMPLETED:
                assert actual.canonical == CATALOGUE[second].canonical
            case TransitionOutcome.ROLLED_BACK:
                assert actual.canonical == source.canonical
                assert record.trouble is not None
            case TransitionOutcome.DEGRADED:
                assert record.trouble is not None
            case other:
                pytest.fail(f"ended as {other}")
        for configuration, _ in rig.states:
            configuration.check(PROFILE)
        assert rig.pool.admitted == set(rig.pool.loaded) == {item.key for item in actual.instances}
        told = [outcome for number, outcome in rig.records if number == record.number]
        assert told == [None, record.outcome]
        rig.pool.fault.numbers.clear()
        rig.go(CATALOGUE[second])
        await rig.check_settled(CATALOGUE[second])

    asyncio.run(play())


def test_a_target_that_comes_in_between_is_recorded_as_such_and_so_is_the_servers_end() -> None:
    async def play() -> None:
        rig = Rig()
        rig.go(base_configuration(PROFILE, GPUS))
        await asyncio.sleep(0)
        rig.go(co2opt_configuration(PROFILE, GPUS))
        await rig.reconciler.settled()
        rig.go(base_configuration(PROFILE, GPUS))
        await asyncio.sleep(0)
        await rig.reconciler.close()
        assert [outcome for _, outcome in rig.records if outcome is not None] == [
            TransitionOutcome.SUPERSEDED,
            TransitionOutcome.COMPLETED,
            TransitionOutcome.INTERRUPTED,
        ]
        rig.reconciler.actual.check(PROFILE)

    asyncio.run(play())


def test_a_record_that_cannot_be_kept_does_not_hold_up_the_transition(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play() -> None:
        rig = Rig()

        def fail(record: TransitionRecord) -> None:
            raise OSError("no space left")

        rig.reconciler._on_record = fail
        base = base_configuration(PROFILE, GPUS)
        rig.go(base)
        await rig.check_settled(base)

    asyncio.run(play())
    assert "transition 1 is not recorded" in caplog.text


def test_slices_that_stay_keep_their_instances() -> None:
    async def play() -> None:
        rig = Rig()
        base = base_configuration(PROFILE, GPUS)
        rig.go(base)
        await rig.check_settled(base)
        one = ClusterConfiguration.uniform(base.gpus[0], 1, GPUS)
        rig.pool.history.clear()
        rig.go(one)
        await rig.check_settled(one)
        assert rig.pool.history == ["stop gpu1/7g@0:large"]

    asyncio.run(play())


def test_a_load_that_fails_leaves_what_serves_serving_and_says_so() -> None:
    async def play() -> None:
        rig = Rig()
        base = base_configuration(PROFILE, GPUS)
        rig.go(base)
        await rig.check_settled(base)
        rig.pool.failing = {f"gpu{gpu}/7g@0:medium" for gpu in range(GPUS)}
        medium = ClusterConfiguration.parse("7g@0:medium | 7g@0:medium", PROFILE)
        rig.go(medium)
        await rig.check_settled(base)
        assert rig.reconciler.target == rig.reconciler.actual
        assert rig.reconciler.trouble is not None
        assert "load of 7g@0" in rig.reconciler.trouble
        assert rig.records[-1][1] is TransitionOutcome.ROLLED_BACK
        rig.pool.failing.clear()
        rig.go(medium)
        await rig.check_settled(medium)
        assert rig.reconciler.trouble is None

    asyncio.run(play())


def test_a_recut_that_fails_keeps_the_other_gpu_serving_and_can_be_tried_again() -> None:
    async def play() -> None:
        rig = Rig()
        base, finest = base_configuration(PROFILE, GPUS), co2opt_configuration(PROFILE, GPUS)
        rig.go(base)
        await rig.check_settled(base)
        rig.pool.failing = {"gpu0/1g@3:tiny"}
        rig.go(finest)
        await rig.reconciler.settled()
        actual = rig.reconciler.actual
        actual.check(PROFILE)
        assert actual.gpus[1] == base.gpus[1]
        assert rig.pool.admitted == {item.key for item in actual.instances}
        rig.pool.failing.clear()
        rig.go(finest)
        await rig.check_settled(finest)

    asyncio.run(play())


def test_a_closed_reconciler_starts_nothing_more() -> None:
    async def play() -> None:
        rig = Rig()
        rig.go(base_configuration(PROFILE, GPUS))
        await rig.reconciler.close()
        loaded = dict(rig.pool.loaded)
        await asyncio.sleep(0.01)
        assert rig.pool.loaded == loaded
        assert not rig.reconciler.busy

    asyncio.run(play())


def test_energy_of_a_live_interval_is_the_profiles_arithmetic() -> None:

    seconds = 10.0
    power = PROFILE.power
    base = base_configuration(PROFILE, GPUS)
    book = EnergyBook(Physics(PROFILE), GPUS, 0.0)
    book.powered((True, False), 0.0)
    idle = book.close(Counter(), base, seconds, seconds)
    assert idle.kind == "modelled"
    assert idle.joules == pytest.approx(seconds * (power.idle_w + power.parked_w))
    busy = book.close(Counter({(0, "7g", "large"): 100}), base, seconds, 2 * seconds)
    expected = idle.joules + 100 * PROFILE.energy_j["large"]["7g"]
    assert busy.joules == pytest.approx(expected)
    book.powered((True, True), 2.5 * seconds)  # half way through
    mixed = book.close(Counter(), base, seconds, 3 * seconds)
    assert mixed.joules == pytest.approx(seconds * (1.5 * power.idle_w + 0.5 * power.parked_w))
    flat_out = book.close(Counter({(0, "7g", "large"): 10**6}), base, seconds, 4 * seconds)
    assert flat_out.joules == pytest.approx(seconds * (power.limit_w + power.idle_w))
