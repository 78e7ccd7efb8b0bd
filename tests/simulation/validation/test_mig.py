"""MIG twins: modelled by a stated rule from a measured profile; the shipped files hold what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError
from clover_rl.simulation.validation import PROFILES, mig_twin


@pytest.fixture(params=PROFILES)
def measured(request: pytest.FixtureRequest) -> Profile:
    return load_profile(request.param)


@pytest.fixture
def shipped(measured: Profile) -> Profile:
    return load_profile(f"{measured.name}-mig")


def test_the_shipped_twin_holds_what_the_rule_says(measured: Profile, shipped: Profile) -> None:
    twin = mig_twin(measured)
    for table, bands, held, group, digits in (
        (twin.service_ms, twin.service_band, shipped.service_s, "service", 2),
        (twin.energy_j, twin.energy_band, shipped.energy_j, "energy", 3),
    ):
        scale = 1000.0 if group == "service" else 1.0
        assert {v: set(row) for v, row in held.items()} == {v: set(row) for v, row in table.items()}
        for variant, row in table.items():
            for name, value in row.items():
                assert scale * held[variant][name] == pytest.approx(round(value, digits))
                own = shipped.provenance_of(group, variant, name)
                assert own.band == pytest.approx([round(end, 2) for end in bands[variant][name]])


def test_nothing_of_a_twin_passes_for_a_measurement(measured: Profile, shipped: Profile) -> None:
    assert shipped.partition == "mig"
    assert shipped.interference is None
    assert {entry.kind for entry in shipped.provenance.values()} == {"modelled", "published"}
    modelled = {key for key, entry in shipped.provenance.items() if entry.kind == "modelled"}
    assert modelled >= {"service", "energy", "memory", "jitter", "power", "load"}
    for key in modelled:
        assert "band" in shipped.provenance[key].source
    assert shipped.times == measured.times
    assert shipped.memory_mib == measured.memory_mib


def test_the_whole_card_is_as_measured_and_small_slices_are_slower_than_under_mps_alone(
    measured: Profile,
) -> None:
    twin = mig_twin(measured)
    for variant, row in measured.service_s.items():
        times = twin.service_ms[variant]
        assert times["7g"] == pytest.approx(1000.0 * row["7g"])
        assert twin.energy_j[variant]["7g"] == pytest.approx(measured.energy_j[variant]["7g"])
        assert all(times[name] > 1000.0 * row[name] for name in ("4g", "3g", "2g", "1g"))
        assert times["1g"] > times["2g"] > times["3g"] >= times["4g"] > times["7g"]


def test_seven_equal_neighbours_under_mps_are_what_a_small_slice_always_has(h100: Profile) -> None:
    law = h100.interference
    assert law is not None
    sms = {name: item.sms for name, item in h100.gpu.slices.items()}
    same_sms = replace(h100, interference=replace(law, sms=sms))
    twin = mig_twin(same_sms)
    loss = law.sensitivity["B1"] * law.pressure["B1"] * 7 * 16 / 132
    alone_ms = 1000.0 * h100.service_s["B1"]["1g"]
    assert twin.service_ms["B1"]["1g"] == pytest.approx(alone_ms * (1.0 + loss))
    low, high = twin.service_band["B1"]["1g"]
    assert low * twin.service_ms["B1"]["1g"] == pytest.approx(alone_ms)
    assert high * twin.service_ms["B1"]["1g"] == pytest.approx(alone_ms * (1.0 + 2.0 * loss))


def test_only_a_profile_measured_under_mps_has_a_twin(shipped: Profile, measured: Profile) -> None:
    for wrong in (shipped, replace(measured, partition="mig"), replace(measured, interference=None)):
        with pytest.raises(InputError, match="not measured under MPS"):
            mig_twin(wrong)
