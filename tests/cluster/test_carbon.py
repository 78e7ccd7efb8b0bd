"""Carbon: grams from joules, and the SCI as ISO/IEC 21031 defines it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.carbon import (
    JOULES_PER_KWH,
    SECONDS_PER_YEAR,
    EmbodiedCarbon,
    SciAccount,
    carbon_g,
    sci_g_per_request,
)
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.gpu import gpu_model, gpu_models
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.provenance import Provenance
from clover_rl.errors import InputError
from clover_rl.simulation.physics import Physics

CARD = EmbodiedCarbon(164.0, "the card", Provenance("published", "a test"))
GRAMS = st.floats(0.0, 1e9)
SECONDS = st.floats(0.0, 1e9)
COUNTS = st.integers(0, 10**9)


def account(gpus: int = 4, years: float = 5.0, card: EmbodiedCarbon = CARD) -> SciAccount:
    return SciAccount("average life-cycle", gpus, card, years)


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


def test_a_card_has_emitted_what_it_embodies_when_its_life_is_over() -> None:
    assert account(1).embodied_g(5.0 * SECONDS_PER_YEAR) == pytest.approx(164_000.0)
    # four H100 over 300 s of five years, by hand: 656 kg x 300 / 157788000
    assert account(4).embodied_g(300.0) == pytest.approx(1.24724, rel=1e-5)


@given(st.lists(SECONDS, min_size=1, max_size=8), st.integers(1, 64), st.floats(0.1, 50.0))
def test_embodied_carbon_is_conserved_over_any_split_of_time_and_cards(
    parts: list[float], gpus: int, years: float
) -> None:
    whole = account(gpus, years).embodied_g(sum(parts))
    assert sum(account(gpus, years).embodied_g(part) for part in parts) == pytest.approx(whole)
    assert gpus * account(1, years).embodied_g(sum(parts)) == pytest.approx(whole)


@given(GRAMS, SECONDS, COUNTS, GRAMS, SECONDS, COUNTS)
def test_sci_is_counted_alike_in_parts_and_in_whole(
    one_g: float, one_s: float, one: int, other_g: float, other_s: float, other: int
) -> None:
    rule = account()
    parts = rule.over(one_g, one_s, one) + rule.over(other_g, other_s, other)
    whole = rule.over(one_g + other_g, one_s + other_s, one + other)
    assert parts.embodied_g == pytest.approx(whole.embodied_g)
    assert (parts.operational_g, parts.requests, parts.kind) == (
        whole.operational_g,
        whole.requests,
        whole.kind,
    )
    if whole.requests:
        assert parts.g_per_request == pytest.approx(
            parts.embodied_g_per_request + parts.operational_g / parts.requests
        )
    else:
        assert math.isinf(parts.g_per_request)


def test_carbon_of_different_kinds_of_intensity_does_not_add_up() -> None:
    direct = SciAccount("average direct", 4, CARD, 5.0).over(1.0, 1.0, 1)
    marginal = SciAccount("marginal", 4, CARD, 5.0).over(1.0, 1.0, 1)
    for one, other in ((account().over(1.0, 1.0, 1), direct), (direct, marginal)):
        with pytest.raises(InputError, match=f"{one.kind} and with {other.kind} intensity does not add up"):
            _ = one + other


@given(st.integers(0, 4), st.floats(0.0, 1e5))
def test_parked_and_idle_cards_are_counted_in_energy_and_in_embodied_carbon(
    h100: Profile, active: int, duration_s: float
) -> None:
    whole = ClusterConfiguration.parse("7g@0:B7", h100).gpus[0]
    cluster = ClusterConfiguration.uniform(whole, active, 4)
    idle = [0.0] * active
    energy = Physics(h100).energy_j(cluster, tuple(not gpu.parked for gpu in cluster.gpus), idle, duration_s)
    watts = active * h100.power.idle_w + (4 - active) * h100.power.parked_w
    assert energy == pytest.approx(watts * duration_s)
    sci = account(len(cluster.gpus)).over(carbon_g(energy, 250.0), duration_s, 10)
    assert sci.embodied_g == pytest.approx(4 * account(1).embodied_g(duration_s))


@pytest.mark.parametrize("name", gpu_models())
def test_a_gpu_model_has_embodied_carbon_with_a_source_or_none(name: str) -> None:
    embodied = gpu_model(name).embodied
    if name == "h200-141gb":
        assert embodied is None, "nobody published one"
        return
    assert embodied is not None
    assert embodied.kg == {"a100-40gb": 318, "a100-80gb": 318, "h100-80gb": 1312 / 8}[name]
    assert embodied.provenance.kind == "published"
    assert "server" in embodied.covers
    assert ("HotCarbon" in embodied.provenance.source) == ("a100" in name)
