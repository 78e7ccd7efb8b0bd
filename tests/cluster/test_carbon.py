"""Carbon: grams from joules, and the SCI as ISO/IEC 21031 defines it."""

from __future__ import annotations

import math

import pytest

from clover_rl.cluster.carbon import JOULES_PER_KWH, carbon_g, sci_g_per_request


def test_a_kilowatt_hour_emits_the_intensity() -> None:
    assert carbon_g(JOULES_PER_KWH, 250.0) == 250.0
    assert JOULES_PER_KWH == 1000 * 3600


def test_the_facility_multiplies_what_the_hardware_draws() -> None:
    # 700 W for 300 s at PUE 1.2 and 400 g/kWh, by hand.
    assert carbon_g(700 * 300, 400.0, pue=1.2) == pytest.approx(28.0)


def test_sci_adds_operational_and_embodied_carbon_per_request() -> None:
    assert sci_g_per_request(30.0, 6.0, 12) == 3.0


def test_sci_without_requests_is_infinite() -> None:
    assert math.isinf(sci_g_per_request(30.0, 6.0, 0))
