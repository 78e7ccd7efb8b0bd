"""Energy of a live cluster: measured as a whole, attributed in parts, and every figure says which it is."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile_file import load_profile
from clover_rl.serving.telemetry.attribution import attribute
from clover_rl.serving.telemetry.gpu_metrics import GpuMetrics
from clover_rl.serving.telemetry.meter import EnergyMeter
from clover_rl.serving.telemetry.metered_book import InstanceEnergy, MeteredBook
from clover_rl.serving.telemetry.source import GpuName
from clover_rl.simulation.physics import Physics
from tests.serving.telemetry.test_meter import Clock, Script

PROFILE = load_profile("h100-efficientnet")
PHYSICS = Physics(PROFILE)
TWO = ClusterConfiguration.parse("4g@0:B7+3g@4:B1 | parked", PROFILE)


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.gpus = [Script(name=GpuName(gpu, f"GPU-{gpu}", "H100")) for gpu in range(2)]
        self.meter = EnergyMeter(self.gpus, clock=self.clock)
        self.book = MeteredBook(PHYSICS, 2, 0.0, self.meter)
        self.book.powered((True, False), 0.0)

    def pass_time(self, seconds: float, *joules: float) -> None:
        self.clock.now += seconds
        for gpu, drawn in zip(self.gpus, joules, strict=True):
            assert gpu.counter is not None
            gpu.counter += drawn
        self.meter.sample()


def test_an_interval_has_what_the_meters_say_and_the_parts_add_up() -> None:
    rig = Rig()
    rig.pass_time(10.0, 3000.0, 730.0)
    answered = Counter({(0, "4g", "B7"): 100, (0, "3g", "B1"): 400})
    energy = rig.book.close(answered, TWO, 10.0, 10.0)
    assert (energy.joules, energy.kind) == (3730.0, "measured")
    large, small = InstanceEnergy(0, "4g", "B7"), InstanceEnergy(0, "3g", "B1")
    shares = rig.book.attributed_j
    assert shares[large] + shares[small] == pytest.approx(3000.0)
    assert rig.book.unattributed_j.tolist() == [0.0, 730.0]
    idle = PROFILE.power.idle_w * 10.0
    # both hold four memory slices: the same share of idle, and of the rest as their requests cost
    assert shares[large] - idle / 2 > 6.0 * (shares[small] - idle / 2) > 0.0
    assert rig.book.attributed_kind == "attributed"
    assert rig.book.predicted_over_measured is not None
    assert 0.3 < rig.book.predicted_over_measured < 1.5


def test_what_the_profile_predicts_is_attributed_as_the_simulator_does() -> None:
    rates = np.array([20.0, 100.0])
    dynamic = rates * np.array([6.0, 0.3]) * 10.0
    whole = PHYSICS.energy_by_gpu_j(TWO, (True, False), dynamic, 10.0)
    expected, rest = PHYSICS.attributed_j(TWO, (True, False), dynamic, 10.0)
    power = PROFILE.power
    floor = np.array([power.idle_w, power.parked_w]) * 10.0
    own, none = attribute(whole, floor, np.array([0, 0]), np.array([4.0, 4.0]), dynamic)
    assert own == pytest.approx(expected)
    assert none.sum() == pytest.approx(rest)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 1.0, 4.0]), st.floats(0.0, 50.0)), max_size=6
    ),
    st.lists(st.floats(0.0, 1e4), min_size=3, max_size=3),
    st.lists(st.floats(0.0, 1e4), min_size=3, max_size=3),
)
def test_nothing_is_lost_or_made_up_by_attribution(
    instances: list[tuple[int, float, float]], whole: list[float], floor: list[float]
) -> None:
    gpu = np.array([item[0] for item in instances], np.int64)
    sizes = np.array([item[1] for item in instances], np.float64)
    dynamic = np.array([item[2] for item in instances], np.float64)
    own, none = attribute(np.array(whole), np.array(floor), gpu, sizes, dynamic)
    assert (own >= 0.0).all()
    assert (none >= 0.0).all()
    total = np.bincount(gpu, weights=own, minlength=3) + none
    assert total == pytest.approx(whole)


def test_intervals_add_up_to_the_counter_whenever_they_are_cut() -> None:
    rig = Rig()
    total = 0.0
    for number in range(8):
        rig.pass_time(1.0, 150.0, 72.0)
        late = rig.clock.now + 0.4 * (number % 3)  # between two readings: carried forward with the power then
        total += rig.book.close(Counter(), TWO, 1.0, late).joules
    rig.pass_time(5.0, 800.0, 360.0)
    total += rig.book.close(Counter(), TWO, 5.0, rig.clock.now).joules
    assert total == pytest.approx(8 * 222.0 + 1160.0)


def test_a_gap_makes_an_interval_modelled_and_the_next_is_measured_again() -> None:
    rig = Rig()
    rig.gpus[1].lost = True
    rig.pass_time(10.0, 3000.0, 730.0)
    energy = rig.book.close(Counter(), TWO, 10.0, 10.0)
    power = PROFILE.power
    assert energy.kind == "modelled"
    assert energy.joules == pytest.approx(10.0 * (power.idle_w + power.parked_w))
    rig.gpus[1].lost = False
    rig.pass_time(0.0, 0.0, 0.0)
    rig.book.close(Counter(), TWO, 1.0, 10.0)
    rig.pass_time(10.0, 1500.0, 730.0)
    assert rig.book.close(Counter(), TWO, 10.0, 20.0).kind == "measured"


def test_a_gap_over_the_end_of_an_interval_makes_both_modelled_and_nothing_is_billed_twice() -> None:
    rig = Rig()
    kinds, joules = [], []
    for interval in range(3):
        for tenth in range(100):
            rig.gpus[0].lost = 10 <= 100 * interval + tenth < 110
            rig.pass_time(0.1, 30.0, 7.3)
        energy = rig.book.close(Counter(), TWO, 10.0, rig.clock.now)
        kinds.append(energy.kind)
        joules.append(energy.joules)
    power = PROFILE.power
    assert kinds == ["modelled", "modelled", "measured"]
    assert joules[:2] == pytest.approx([10.0 * (power.idle_w + power.parked_w)] * 2)
    assert joules[2] == pytest.approx(3730.0)


def test_metrics_have_dcgms_names_and_say_what_each_is_worth() -> None:
    rig = Rig()
    rig.pass_time(10.0, 3000.0, 730.0)
    rig.book.close(Counter({(0, "4g", "B7"): 100}), TWO, 10.0, 10.0)
    rig.gpus[1].lost = True
    rig.meter.sample()
    registry = CollectorRegistry()
    GpuMetrics(rig.meter, registry, rig.book, PROFILE.gpu)
    text = generate_latest(registry).decode()
    samples = {
        (sample.name, sample.labels.get("gpu")): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    energy = samples["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "0"]
    assert energy.value == 3_000_000.0
    who = {"gpu": "0", "UUID": "GPU-0", "modelName": "H100"}
    assert energy.labels == {**who, "kind": "measured", "method": "counter"}
    assert samples["DCGM_FI_DEV_POWER_USAGE", "0"].value == 100.0
    assert samples["DCGM_FI_DEV_FB_FREE", "0"].labels == who
    assert ("DCGM_FI_DEV_POWER_USAGE", "1") not in samples  # a lost card says nothing instead of zero
    assert (samples["clover_gpu_trouble", "0"].value, samples["clover_gpu_trouble", "1"].value) == (0.0, 1.0)
    shares = re.findall(r"^clover_instance_energy_joules_total\{(.*)\} (\S+)$", text, re.M)
    assert sum(float(value) for _, value in shares) == pytest.approx(3000.0)
    assert all('kind="attributed"' in labels for labels, _ in shares)
    assert any('GPU_I_PROFILE="4g.40gb"' in labels and 'variant="B7"' in labels for labels, _ in shares)
    assert samples["clover_unattributed_energy_joules_total", "1"].value == 730.0
    assert ("clover_predicted_energy_ratio", None) in samples
