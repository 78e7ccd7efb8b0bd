"""Energy of GPUs: counter, integrated power, gaps, and who reads them when."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from clover_rl.cluster.provenance import EnergyKind
from clover_rl.errors import TransitionError
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.partition.mig_card import MigCard
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.telemetry.meter import EnergyMeter
from clover_rl.serving.telemetry.source import GpuName, NvmlSource


@dataclass
class Script:
    """A GPU whose sensors say what a test says."""

    counter: float | None = 5000.0
    power: float = 100.0
    lost: bool = False
    kind: EnergyKind = "measured"
    name: GpuName = field(default_factory=lambda: GpuName(0, "GPU-x", "a card"))

    def counter_j(self) -> float | None:
        return self.counter

    def power_w(self) -> float:
        if self.lost:
            raise TransitionError("the GPU is lost")
        return self.power

    def memory_mib(self) -> tuple[float, float]:
        return 1.0, 2.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_counter_is_taken_from_where_it_stood(clock: Clock) -> None:
    gpu = Script()
    meter = EnergyMeter([gpu], clock=clock)
    clock.now, gpu.counter, gpu.power = 2.0, 5400.0, 300.0
    (reading,) = meter.sample()
    assert (reading.joules, reading.method, reading.kind) == (400.0, "counter", "measured")
    assert reading.joules_at(2.5) == 400.0 + 150.0
    assert reading.joules_at(60.0) == 400.0 + 300.0  # an overdue reading is not carried on for ever
    assert reading.joules_at(1.0) == 400.0


def test_power_is_integrated_where_there_is_no_counter(clock: Clock) -> None:
    gpu = Script(counter=None)
    meter = EnergyMeter([gpu], clock=clock)
    for second, power in ((1.0, 300.0), (3.0, 300.0), (4.0, 100.0)):
        clock.now, gpu.power = second, power
        (reading,) = meter.sample()
    assert reading.method == "integrated"
    assert reading.joules == 200.0 + 600.0 + 200.0


def test_a_counter_that_goes_back_is_bridged_by_power(clock: Clock) -> None:
    gpu = Script()
    meter = EnergyMeter([gpu], clock=clock)
    clock.now, gpu.counter, gpu.power = 1.0, 10.0, 200.0
    assert meter.sample()[0].joules == 150.0
    clock.now, gpu.counter = 2.0, 230.0
    (reading,) = meter.sample()
    assert (reading.joules, reading.method) == (150.0 + 220.0, "counter")


def test_a_lost_gpu_is_said_to_be_lost_and_counts_again_when_it_is_back(clock: Clock) -> None:
    gpu = Script()
    meter = EnergyMeter([gpu], clock=clock)
    gpu.lost = True
    for second in (1.0, 2.0):
        clock.now = second
        (reading,) = meter.sample()
    assert (reading.joules, reading.gaps, reading.power_w) == (0.0, 1, 0.0)
    assert reading.trouble == "the GPU is lost"
    gpu.lost, gpu.counter, clock.now = False, 50.0, 3.0  # a reset: the counter began anew
    (reading,) = meter.sample()
    assert (reading.joules, reading.gaps, reading.trouble) == (0.0, 2, None)  # begun, and ended
    gpu.counter, clock.now = 150.0, 4.0
    assert meter.sample()[0].joules == 100.0


def test_the_counter_fills_a_gap_that_it_went_through(clock: Clock) -> None:
    gpu = Script()
    meter = EnergyMeter([gpu], clock=clock)
    gpu.lost = True
    meter.sample()
    gpu.lost, gpu.counter, clock.now = False, 5700.0, 9.0
    assert meter.sample()[0].joules == 700.0


def test_a_thread_of_its_own_reads_and_ends() -> None:
    gpu = Script()
    meter = EnergyMeter([gpu], period_s=0.005)
    meter.start()
    gpu.counter = 5600.0
    deadline = time.monotonic() + 20.0
    while meter.readings()[0].joules != 600.0 and time.monotonic() < deadline:
        time.sleep(0.005)
    meter.stop()
    assert meter.readings()[0].joules == 600.0
    assert "energy-meter" not in [thread.name for thread in threading.enumerate()]
    gpu.counter = 9999.0
    assert meter.readings()[0].joules == 600.0


def test_mig_fake_counter_and_integrated_power_agree(fake: FakeNvml, nvml: Nvml) -> None:
    """Both follow the card: parked, then idle with a slice, then busy."""
    counter = NvmlSource(nvml, "0", 0)
    integrated = NvmlSource(nvml, "0", 0)
    integrated.counter_j = lambda: None  # type: ignore[method-assign]
    meter = EnergyMeter([counter, integrated])
    assert meter.readings()[0].power_w == 72.5
    card = MigCard(nvml, "0")
    card.create_compute_instance(card.create_gpu_instance(9, 4, 4))
    assert meter.sample()[0].power_w == 121.0
    fake.load({0: 400.0})
    meter.sample()
    began = meter.readings()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        meter.sample()
    by_counter, by_power = (
        now.joules - then.joules for now, then in zip(meter.readings(), began, strict=True)
    )
    assert meter.readings()[0].power_w == 521.0
    assert meter.readings()[1].method == "integrated"
    assert by_counter == pytest.approx(by_power, rel=0.25)  # they are not read at the same moment
    assert by_counter > 0.5 * 521.0 * 0.8
    assert {reading.kind for reading in meter.readings()} == {"modelled"}  # a stand-in measures nothing


def test_mig_fake_card_without_a_counter_is_integrated_and_a_lost_one_is_trouble(
    fake: FakeNvml, nvml: Nvml
) -> None:
    fake.inject("nvmlDeviceGetTotalEnergyConsumption NOT_SUPPORTED gpu=1")
    meter = EnergyMeter([NvmlSource(nvml, str(gpu), gpu) for gpu in range(2)])
    assert [reading.method for reading in meter.readings()] == ["counter", "integrated"]
    fake.inject("* GPU_IS_LOST gpu=1")
    first, second = meter.sample()
    assert first.trouble is None
    assert second.trouble is not None
    assert "GPU is lost" in second.trouble
