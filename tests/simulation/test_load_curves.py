"""Load curves: both fidelities, on the same axes, from the same laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clover_rl.cluster.choices import base_configuration, co2opt_configuration
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.load_curves import LoadCurve, LoadCurves, chosen_configurations, load_curves
from clover_rl.simulation.model import ClusterModel


@pytest.fixture(scope="module")
def found(h100: Profile) -> LoadCurves:
    return load_curves(h100, 4, utilisations=(0.1, 0.3, 0.5, 0.81, 0.88), requests=400_000)


def by_name(found: LoadCurves) -> dict[str, LoadCurve]:
    return {curve.name: curve for curve in found.curves}


def test_base_comes_first_and_the_choices_range_to_co2opt(h100: Profile) -> None:
    chosen = chosen_configurations(h100, 4)
    assert list(chosen) == ["BASE", "half parked", "middle", "CO2OPT"]
    assert chosen["BASE"] == base_configuration(h100, 4)
    assert chosen["CO2OPT"] == co2opt_configuration(h100, 4)
    assert chosen["half parked"].active == 2
    assert chosen["middle"].label() == "4x[4g:B5 3g:B5]"
    assert list(chosen_configurations(h100, 1)) == ["BASE", "middle", "CO2OPT"]


def test_configurations_without_numbers_are_left_out(h100: Profile, small_scenario: Scenario) -> None:
    small = small_scenario.loaded_profile
    assert chosen_configurations(small, 2)["middle"].label() == "2x[4g:S 3g:S]"
    without = {**h100.service_s, "B1": {"7g": h100.service_s["B1"]["7g"]}}
    assert "CO2OPT" not in chosen_configurations(replace(h100, service_s=without), 4)


def test_the_fidelities_agree(found: LoadCurves) -> None:
    for curve in found.curves:
        assert 0.0 < curve.disagreement < 0.05, curve.name
        joules = np.interp(curve.event.rate, curve.table.rate, curve.table.energy_j)
        assert joules == pytest.approx(curve.event.energy_j, rel=0.01)


def test_more_load_costs_latency_and_spreads_idle_power_over_more_requests(found: LoadCurves) -> None:
    for curve in found.curves:
        assert (np.diff(curve.table.rate) > 0.0).all()
        assert (np.diff(curve.table.p95_ms) >= -1e-9 * curve.table.p95_ms[:-1]).all()
        assert (np.diff(curve.table.energy_j) < 0.0).all()
        assert curve.table.rate[0] == pytest.approx(0.02 * found.curves[0].capacity)
        assert curve.table.rate[-1] == pytest.approx(0.98 * curve.capacity)


def test_idle_and_parked_cards_are_in_the_energy_of_a_request(found: LoadCurves, h100: Profile) -> None:
    curves = by_name(found)
    power, rate = h100.power, curves["BASE"].table.rate[0]
    alone = h100.energy_j["B7"]["7g"]
    assert curves["BASE"].table.energy_j[0] == pytest.approx(4 * power.idle_w / rate + alone, rel=1e-3)
    floor = 2 * power.idle_w + 2 * power.parked_w
    assert curves["half parked"].table.energy_j[0] == pytest.approx(floor / rate + alone, rel=1e-3)


def test_the_default_sla_is_the_models_and_base_keeps_it_up_to_four_fifths(
    small_model: ClusterModel,
) -> None:
    found = load_curves(small_model.profile, small_model.gpus, utilisations=(0.5,), requests=10_000)
    assert found.sla_ms == small_model.sla_ms
    base = found.curves[0]
    assert base.sla_rate == pytest.approx(0.8 * base.capacity, rel=0.01)


def test_an_sla_that_is_never_or_always_kept_says_so(h100: Profile) -> None:
    few = {"BASE": ClusterConfiguration.parse("7g@0:B7", h100)}

    def held(sla_ms: float) -> float:
        curves = load_curves(
            h100, 1, sla_ms=sla_ms, configurations=few, utilisations=(0.5,), requests=10_000
        ).curves
        return curves[0].sla_rate / curves[0].capacity

    assert held(20.0) == 0.0  # a request alone takes 21.33 ms
    assert held(1e9) == pytest.approx(0.98)
    assert 0.0 < held(60.0) < 0.98


def test_a_cluster_without_gpus_is_refused(h100: Profile) -> None:
    with pytest.raises(InputError, match="a cluster needs at least one GPU, not 0"):
        load_curves(h100, 0)
