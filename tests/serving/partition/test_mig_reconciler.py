"""The reconciler on the mig backend: a step that fails leaves a cluster that serves, and can go on."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from clover_rl.cluster.choices import homogeneous_catalogue
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.serving.clock import ManualClock
from clover_rl.serving.control.reconciler import Reconciler
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.partition.mig import MigPartition
from tests.serving.control.test_reconciler import GPUS, PROFILE, FakePool
from tests.serving.partition.conftest import Open
from tests.serving.partition.mig_checker import Checker
from tests.serving.partition.test_mig import FAULTS, STEPS

CATALOGUE = homogeneous_catalogue(PROFILE, GPUS)


class Rig:
    def __init__(self, partition: MigPartition) -> None:
        self.pool, self.partition = FakePool(), partition
        self.reconciler = Reconciler(
            self.pool,  # type: ignore[arg-type]
            partition,
            PROFILE,
            {name: Path(f"{name}.onnx") for name in PROFILE.application.variants},
            GPUS,
            on_state=lambda configuration, powered: None,
            hold=False,
            clock=ManualClock(),
        )

    async def go(self, target: ClusterConfiguration) -> None:
        self.reconciler.apply(plan_transition(self.reconciler.actual, target, PROFILE))
        await self.reconciler.settled()

    async def check_consistent(self) -> None:
        """Whoever serves has a slice, which is on the card, and whose device its process was told."""
        on_cards = {
            (state.gpu, piece.placement): piece.device
            for state in await self.partition.discover()
            for piece in state.slices
        }
        for item in self.reconciler.actual.instances:
            environment = self.pool.loaded[item.key].environment
            assert environment["CUDA_VISIBLE_DEVICES"] == on_cards[item.gpu, item.placement]


def test_mig_fake_reconciler_lives_through_a_hundred_random_configurations_and_faults(
    fake: FakeNvml, open_mig: Open
) -> None:
    dice = random.Random(88)

    async def run() -> int:
        rig = Rig(open_mig(patience_s=0.0))
        troubles = 0
        for number in range(100):
            target = CATALOGUE[dice.randrange(len(CATALOGUE))]
            if number % 3 == 2:
                fake.inject(f"{dice.choice(STEPS)} {dice.choice([*FAULTS])} skip={dice.randrange(3)}")
                await rig.go(target)
                troubles += rig.reconciler.trouble is not None
                await rig.check_consistent()
                fake.heal()
            await rig.go(target)
            assert rig.reconciler.trouble is None
            assert rig.reconciler.actual.canonical == target.canonical
            await rig.check_consistent()
        return troubles

    assert asyncio.run(run()) > 10
    checker = Checker(PROFILE.gpu, range(GPUS))
    checker.check(fake.calls())
