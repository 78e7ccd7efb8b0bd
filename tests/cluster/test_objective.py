"""The objective: every term by hand, at its edges, alike for numbers and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.objective import BaseLine, Objective
from clover_rl.cluster.profile import Profile

BASE = BaseLine(idle_w=480.0, energy_j=6.0, capacity=200.0, limit_w=2000.0, accuracy=0.8)
OBJECTIVE = Objective(BASE, sla_ms=50.0, w=0.1, reference_g_per_kwh=250.0)
ORDINARY: dict[str, Any] = {
    "energy_j": 100_000.0,
    "intensity": 300.0,
    "arrived": 30_000,
    "duration_s": 300.0,
    "accuracy": 0.76,
    "p95_ms": 40.0,
}


def terms(**changes: Any) -> tuple[float, float, float]:
    found = OBJECTIVE.terms(**{**ORDINARY, **changes})
    return float(found.carbon), float(found.accuracy), float(found.penalty)


def test_the_base_line_is_base_in_closed_form(h100: Profile) -> None:
    base = BaseLine.of(h100, 4)
    assert base.idle_w == 4 * 121
    assert base.energy_j == 6.213
    assert base.capacity == pytest.approx(4 / 0.02133)
    assert base.limit_w == 2800
    assert base.accuracy == 0.84582


def test_terms_equal_what_a_pencil_says() -> None:
    # BASE: 100 requests/s x 6 J + 480 W = 1080 W, over 300 s 324 kJ, at 250 g.
    carbon, accuracy, penalty = terms()
    assert carbon == pytest.approx(0.1 * (1 - 100e3 * 300 / (324e3 * 250)))
    assert accuracy == pytest.approx(0.9 * (0.76 - 0.8) / 0.8)
    assert penalty == 0.0
    assert float(OBJECTIVE.terms(**ORDINARY).total) == pytest.approx(carbon + accuracy)


def test_doing_as_base_does_at_the_reference_intensity_earns_nothing() -> None:
    energy = BASE.energy_for(30_000, 300.0)
    assert terms(energy_j=energy, intensity=250.0, accuracy=0.8) == (0.0, 0.0, 0.0)


def test_idle_energy_defines_the_reward_at_zero_load() -> None:
    assert float(BASE.energy_for(0, 300.0)) == 480.0 * 300.0
    carbon, accuracy, penalty = terms(arrived=0, energy_j=72_000.0, intensity=250.0, accuracy=0.8, p95_ms=0.0)
    assert carbon == pytest.approx(0.1 * 0.5)
    assert (accuracy, penalty) == (0.0, 0.0)


def test_beyond_its_capacity_bases_energy_grows_in_proportion() -> None:
    full = float(BASE.energy_for(200 * 300, 300.0))
    assert full == (480 + 200 * 6) * 300
    assert float(BASE.energy_for(3 * 200 * 300, 300.0)) == pytest.approx(3 * full)
    just_over = float(BASE.energy_for(200 * 300 + 1, 300.0))
    assert full < just_over < full * 1.0001


def test_the_power_limit_caps_bases_energy() -> None:
    limited = BaseLine(idle_w=480.0, energy_j=6.0, capacity=1000.0, limit_w=2000.0, accuracy=0.8)
    assert float(limited.energy_for(500 * 300, 300.0)) == 2000.0 * 300.0
    assert float(limited.energy_for(2000 * 300, 300.0)) == 2 * 2000.0 * 300.0


@pytest.mark.parametrize(
    ("p95_ms", "penalty"),
    [
        (0.0, 0.0),
        (50.0, 0.0),
        (np.nextafter(50.0, 51.0), -0.1),
        (75.0, -(0.1 + 0.5 * 0.5)),
        (150.0, -1.1),
        (1e9, -1.1),
        (float("inf"), -1.1),
    ],
)
def test_the_penalty_starts_beyond_the_sla_and_is_capped(p95_ms: float, penalty: float) -> None:
    assert terms(p95_ms=p95_ms)[2] == pytest.approx(penalty)


def test_coefficients_and_bounds_are_values_of_the_scenario() -> None:
    own = Objective(BASE, sla_ms=50.0, w=0.3, reference_g_per_kwh=125.0, penalty_base=0.2, penalty_slope=1.0)
    found = own.terms(**{**ORDINARY, "p95_ms": 75.0})
    assert float(found.penalty) == pytest.approx(-0.7)
    assert float(found.carbon) == pytest.approx(0.3 * (1 - 100e3 * 300 / (324e3 * 125)))
    assert float(own.terms(**{**ORDINARY, "p95_ms": 75.0}, sla_ms=80.0).penalty) == 0.0
    assert float(own.terms(**ORDINARY, w=1.0).accuracy) == 0.0
    assert float(own.terms(**ORDINARY, w=0.0).carbon) == 0.0


finite = st.fixed_dictionaries(
    {
        "energy_j": st.floats(0, 1e7),
        "intensity": st.floats(0, 1500),
        "arrived": st.integers(0, 10**7),
        "duration_s": st.floats(1, 3600),
        "accuracy": st.floats(0.1, 1),
        "p95_ms": st.one_of(st.floats(0, 1e6), st.just(float("inf"))),
        "w": st.floats(0, 1),
        "sla_ms": st.floats(1, 1000),
    }
)


@given(rows=st.lists(finite, min_size=1, max_size=9))
def test_numbers_and_arrays_give_the_same_bits(rows: list[dict[str, float]]) -> None:
    batch = OBJECTIVE.terms(**{key: np.array([row[key] for row in rows]) for key in rows[0]})
    for index, row in enumerate(rows):
        single = OBJECTIVE.terms(**row)
        for one, many in zip(single, batch, strict=True):
            assert one.tobytes() == many[index].tobytes()
        assert np.float64(single.total).tobytes() == batch.total[index].tobytes()


@given(row=finite)
def test_the_reward_is_finite_and_is_the_sum_of_its_terms(row: dict[str, float]) -> None:
    found = OBJECTIVE.terms(**row)
    assert np.isfinite(found.total)
    assert float(found.total) == pytest.approx(sum(float(term) for term in found), abs=1e-9, rel=1e-12)


def test_arguments_broadcast() -> None:
    found = OBJECTIVE.terms(**{**ORDINARY, "energy_j": np.ones((3, 1)), "intensity": np.ones(4)})
    assert found.total.shape == (3, 4)
