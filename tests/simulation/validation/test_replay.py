"""Measured mixes of a real card: predicted as the laws say, fitted back, and predicted across layouts."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from clover_rl.cluster.choices import base_configuration
from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.cluster.geometry import enumerate_layouts
from clover_rl.cluster.profile import Interference, Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError
from clover_rl.simulation.physics import Physics
from clover_rl.simulation.validation import (
    MIXED_LAYOUTS,
    PROFILES,
    Errors,
    MeasuredInstance,
    Mix,
    cross_fits,
    fit_laws,
    other_card_measurements,
    packaged_measurements,
    read_mixes,
    replay,
    replay_mixes,
)


def law_of(profile: Profile) -> Interference:
    assert profile.interference is not None
    return profile.interference


def made_up(profile: Profile, seed: int, slices: tuple[str, ...] = ("1g",) * 7, tests: int = 12) -> list[Mix]:
    """Mixes that obey a profile's laws to the letter, written down anew from the laws' formulas."""
    law = law_of(profile)
    rng = np.random.default_rng(seed)
    names = list(profile.application.variants)
    share = np.array([law.sms[name] / law.gpu_sms for name in slices])
    mixes = []
    for test in range(tests):
        chosen = [str(rng.choice(names)) for _ in slices]
        busy = rng.uniform(0.2, 1.0, len(slices))
        pushed = busy * [law.pressure[v] for v in chosen] * share ** (1.0 - law.own_exponent)
        watts = profile.power.idle_w
        instances = []
        for index, (variant, name) in enumerate(zip(chosen, slices, strict=True)):
            own = law.sensitivity[variant] * share[index] ** law.own_exponent
            slowdown = 1.0 + own * (pushed.sum() - pushed[index])
            service = profile.service_s[variant][name] * slowdown
            served = busy[index] / service
            watts += served * profile.energy_j[variant][name] * slowdown**profile.power.slowdown_exponent
            instances.append(
                MeasuredInstance(name, variant.lower(), served, 1000.0 * service, float(busy[index]))
            )
        layout = " ".join(slices)
        mixes.append(Mix(layout, f"t{test}", min(watts, profile.power.limit_w), tuple(instances)))
    return mixes


def packaged(profile: Profile) -> list[Mix]:
    (path,) = [path for path in packaged_measurements() if profile.application.name in path.name]
    return read_mixes(path)


@pytest.mark.parametrize("slices", [("1g",) * 7, ("4g", "2g", "1g"), ("3g", "3g")])
def test_what_obeys_the_laws_is_predicted_exactly(h100: Profile, slices: tuple[str, ...]) -> None:
    errors = replay(made_up(h100, 0, slices), h100)
    assert errors.tests == 12
    assert errors.power_error_p95 < 1e-9
    assert errors.slowdown_error_p95 < 1e-9


def test_the_simulator_and_the_replay_know_one_law(h100: Profile) -> None:
    layout = next(x for x in enumerate_layouts(h100.gpu) if x.multiset == ("4g", "2g", "1g"))
    gpu = GpuConfiguration.of(layout, {"4g": "B3", "2g": "B7", "1g": "B1"})
    configuration = ClusterConfiguration((gpu,))
    physics = Physics(h100)
    point = physics.at(configuration, math.inf)
    instances = tuple(
        MeasuredInstance(item.placement.slice, item.variant, rate, 1000.0 * service, 1.0)
        for item, rate, service in zip(configuration.instances, point.rates, point.service_s, strict=True)
    )
    watts = physics.power_w(configuration, point)
    errors = replay([Mix("4g 2g 1g", "full", watts, instances)], h100)
    assert errors.slowdown_error_p95 < 1e-9
    assert errors.power_error_p95 < 1e-9


def test_requests_counted_at_the_windows_edge_make_no_power(h100: Profile) -> None:
    (mix,) = made_up(h100, 0, tests=1)
    full = tuple(replace(item, utilisation=1.0, served=1000.0 / item.mean_ms) for item in mix.instances)
    over = tuple(replace(item, utilisation=1.05, served=1.05 * item.served) for item in full)
    (a,), (b,) = (replay_mixes([replace(mix, instances=part)], h100) for part in (full, over))
    assert a.predicted_w == pytest.approx(b.predicted_w)
    assert a.predicted_slowdown.tolist() == b.predicted_slowdown.tolist()


def test_tests_with_one_busy_instance_say_nothing_of_neighbours(h100: Profile) -> None:
    (mix,) = made_up(h100, 0, tests=1)
    errors = replay([replace(mix, instances=mix.instances[:1])], h100)
    assert errors.tests == 0
    assert math.isnan(errors.power_error_mean)


def test_the_laws_are_found_back_from_mixes_that_obey_them(h100: Profile) -> None:
    mixes = made_up(h100, 1) + made_up(h100, 2, ("4g", "3g"), 24)
    fitted = fit_laws(mixes, h100)
    assert replay(made_up(h100, 3, ("2g", "2g", "2g", "1g")), fitted).slowdown_error_p95 < 0.01
    assert fitted.power.slowdown_exponent == pytest.approx(h100.power.slowdown_exponent, abs=0.02)
    assert law_of(fitted).own_exponent == law_of(h100).own_exponent
    for name, value in law_of(h100).sensitivity.items():
        assert law_of(fitted).sensitivity[name] == pytest.approx(value, rel=0.05)


def test_a_fit_does_not_depend_on_the_laws_it_starts_from(h100: Profile) -> None:
    mixes = packaged(h100)
    law = law_of(h100)
    halved = replace(
        law, sensitivity=dict.fromkeys(law.sensitivity, 0.1), pressure=dict.fromkeys(law.pressure, 3.0)
    )
    assert fit_laws(mixes, replace(h100, interference=halved)) == fit_laws(mixes, h100)


@pytest.mark.parametrize("name", PROFILES)
def test_the_shipped_laws_are_the_fit_of_both_mixed_layouts(name: str) -> None:
    profile = load_profile(name)
    fitted = fit_laws(packaged(profile), profile)
    for key in ("sensitivity", "pressure"):
        shipped, found = getattr(law_of(profile), key), getattr(law_of(fitted), key)
        assert {variant: round(value, 3) for variant, value in found.items()} == shipped
    assert round(fitted.power.slowdown_exponent, 2) == profile.power.slowdown_exponent


def require(errors: Errors, power: tuple[float, float], slowdown: tuple[float, float]) -> None:
    assert errors.power_error_mean <= power[0]
    assert errors.power_error_p95 <= power[1]
    assert errors.slowdown_error_mean <= slowdown[0]
    assert errors.slowdown_error_p95 <= slowdown[1]


@pytest.mark.parametrize("name", PROFILES)
def test_each_mixed_layout_predicts_the_other(name: str) -> None:
    profile = load_profile(name)
    fits = cross_fits(packaged(profile), profile)
    assert [(fit.fitted_on, fit.tested_on) for fit in fits] == [MIXED_LAYOUTS, MIXED_LAYOUTS[::-1]]
    assert [fit.errors.tests for fit in fits] == [16, 21]
    for fit in fits:
        require(fit.errors, (0.05, 0.10), (0.05, 0.10))


@pytest.mark.parametrize("name", PROFILES)
def test_the_shipped_profiles_predict_the_mixes_they_are_fitted_to(name: str) -> None:
    profile = load_profile(name)
    errors = replay(packaged(profile), profile)
    assert errors.tests == 37
    require(errors, (0.04, 0.09), (0.03, 0.07))


@pytest.mark.parametrize(
    ("name", "slowdown"), [("h100-efficientnet", (0.02, 0.06)), ("h100-albert", (0.04, 0.075))]
)
def test_the_shipped_profiles_predict_three_more_layouts_of_another_card(
    name: str, slowdown: tuple[float, float]
) -> None:
    profile = load_profile(name)
    (path,) = [path for path in other_card_measurements() if profile.application.name in path.name]
    mixes = read_mixes(path)
    errors = replay(mixes, profile)
    assert errors.tests == 48
    require(errors, (0.04, 0.09), slowdown)
    plain = replace(profile, interference=replace(law_of(profile), own_exponent=0.0))
    assert replay(mixes, plain).slowdown_error_p95 > 1.5 * errors.slowdown_error_p95


def test_without_both_mixed_layouts_there_is_no_cross_fit(h100: Profile) -> None:
    assert cross_fits(made_up(h100, 0), h100) == []


def test_a_profile_without_neighbours_has_nothing_to_validate(h100: Profile) -> None:
    alone = replace(h100, interference=None)
    with pytest.raises(InputError, match="no law of neighbours"):
        replay(made_up(h100, 0), alone)
    with pytest.raises(InputError, match="no law of neighbours"):
        fit_laws(made_up(h100, 0), alone)
    with pytest.raises(InputError, match="no tests with two or more"):
        fit_laws([], h100)


def test_base_has_no_neighbours_and_no_slowdown(h100: Profile) -> None:
    physics = Physics(h100)
    configuration = base_configuration(h100, 2)
    assert physics.at(configuration, math.inf).service_s.tolist() == [h100.service_s["B7"]["7g"]] * 2


def test_the_module_prints_the_numbers_of_the_shipped_files() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clover_rl.simulation.validation"], capture_output=True, text=True, check=True
    )
    assert "sensitivity: {B1: 0.693, B3: 0.543, B5: 0.408, B7: 0.270}" in done.stdout
    assert "    xxlarge: {7g: 7.82, 4g: 14.30, 3g: 15.82, 2g: 28.89, 1g: 55.34}" in done.stdout
