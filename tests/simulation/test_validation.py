"""Measured mixes of a real card: read strictly, predicted as the laws say, and fitted back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError
from clover_rl.simulation.validation import (
    MeasuredInstance,
    Mix,
    fit_laws,
    packaged_measurements,
    read_mixes,
    replay,
)
from tests.serving.server_process import run_cli

HEADER = (
    "layout,test,gpu_w,sm_clock_mhz,slice,variant,offered_per_s,served_per_s,"
    "mean_ms,p50_ms,p95_ms,utilisation\n"
)


def made_up(profile: Profile, seed: int) -> list[Mix]:
    """Mixes that obey a profile's laws to the letter, on seven 1g slices."""
    law = profile.interference
    assert law is not None
    rng = np.random.default_rng(seed)
    names = list(profile.application.variants)
    mixes = []
    for test in range(12):
        chosen = [str(rng.choice(names)) for _ in range(7)]
        busy = rng.uniform(0.2, 1.0, 7)
        pushed = np.array([u * law.pressure[v] for u, v in zip(busy, chosen, strict=True)])
        pushed *= law.sms["1g"] / law.gpu_sms
        watts = profile.power.idle_w
        instances = []
        for index, variant in enumerate(chosen):
            slowdown = 1.0 + law.sensitivity[variant] * (pushed.sum() - pushed[index])
            service = profile.service_s[variant]["1g"] * slowdown
            served = busy[index] / service
            watts += served * profile.energy_j[variant]["1g"] * slowdown**profile.power.slowdown_exponent
            instances.append(
                MeasuredInstance("1g", variant.lower(), served, 1000.0 * service, float(busy[index]))
            )
        mixes.append(Mix("1g", f"t{test}", min(watts, profile.power.limit_w), tuple(instances)))
    return mixes


def test_what_obeys_the_laws_is_predicted_exactly(h100: Profile) -> None:
    errors = replay(made_up(h100, 0), h100)
    assert errors.tests == 12
    assert errors.power_error_p95 < 1e-9
    assert errors.slowdown_error_p95 < 1e-9


def test_the_laws_are_found_back_from_mixes_that_obey_them(h100: Profile) -> None:
    law = h100.interference
    assert law is not None
    fitted = fit_laws(made_up(h100, 1), h100)
    assert replay(made_up(h100, 2), fitted).slowdown_error_p95 < 0.01
    assert fitted.interference is not None
    assert fitted.power.slowdown_exponent == pytest.approx(h100.power.slowdown_exponent, abs=0.03)
    for name, value in law.sensitivity.items():
        assert fitted.interference.sensitivity[name] == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize(
    ("name", "power", "slowdown"),
    [("h100-efficientnet", (0.04, 0.09), (0.03, 0.07)), ("h100-albert", (0.04, 0.09), (0.03, 0.07))],
)
def test_the_shipped_profiles_predict_the_packaged_mixes(
    name: str, power: tuple[float, float], slowdown: tuple[float, float]
) -> None:
    profile = load_profile(name)
    (path,) = [path for path in packaged_measurements() if profile.application.name in path.name]
    errors = replay(read_mixes(path), profile)
    assert errors.tests == 37
    assert (errors.power_error_mean, errors.power_error_p95) <= power
    assert errors.power_error_p95 <= power[1]
    assert errors.slowdown_error_mean <= slowdown[0]
    assert errors.slowdown_error_p95 <= slowdown[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layout,test\n", ":1: column `gpu_w` is missing"),
        (HEADER, "no measured instance"),
        (HEADER + "7g,alone,x,1980,7g,b1,,1,1,1,1,1\n", ":2: column `gpu_w`: expected a number"),
        (HEADER + "7g,alone,100,1980,7g,b1,,-1,1,1,1,1\n", ":2: column `served_per_s`"),
        (HEADER + "7g,alone,100,1980,7g,b1,,1,nan,1,1,1\n", ":2: column `mean_ms`"),
    ],
)
def test_a_wrong_measurement_file_is_one_sentence_with_file_and_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"own\.csv") as caught:
        read_mixes(path)
    assert said in str(caught.value)


def test_a_profile_without_neighbours_has_nothing_to_validate(h100: Profile) -> None:
    alone = replace(h100, interference=None)
    with pytest.raises(InputError, match="no law of neighbours"):
        replay(made_up(h100, 0), alone)
    with pytest.raises(InputError, match="no law of neighbours"):
        fit_laws(made_up(h100, 0), alone)


def test_the_command_prints_the_keys_that_others_build_on_and_takes_other_files(tmp_path: Path) -> None:
    document = json.loads(run_cli("validate", "h100", "--json").stdout)
    keys = {"power_error_mean", "power_error_p95", "slowdown_error_mean", "slowdown_error_p95"}
    assert keys <= set(document)
    assert document["tests"] == 74
    assert {row["fitted_on"] for row in document["rows"]} > {"as shipped"}
    own = tmp_path / "own.csv"
    own.write_text(
        HEADER + "2g 2g,mix,300,1980,2g,b7,,17,58,58,58,1\n" + "2g 2g,mix,300,1980,2g,b1,,240,4.2,4,4,1\n"
    )
    found = json.loads(run_cli("validate", "h100", "--measurements", str(own), "--json").stdout)
    assert found["tests"] == 1
    assert [row["fitted_on"] for row in found["rows"]] == ["as shipped"]
    own.write_text(HEADER + "2g 2g,mix,300,1980,2g,zz,,17,58,58,58,1\n")
    refused = run_cli("validate", "h100", "--measurements", str(own))
    assert refused.returncode == 2
    assert "belong to no profile" in refused.stderr
