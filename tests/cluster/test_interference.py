"""The law of neighbours: size of slices counted once between two, in the profile, its file and its hash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.gpu import CATALOGUE
from clover_rl.cluster.profile import Interference, Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError

SMS = {"7g": 132, "4g": 64, "3g": 60, "2g": 30, "1g": 14}


def law(own_exponent: float) -> Interference:
    return Interference({"S": 0.6, "L": 0.3}, {"S": 0.8, "L": 1.3}, SMS, 132, own_exponent)


@given(st.sampled_from(sorted(SMS)), st.floats(0.0, 1.0))
def test_between_slices_of_one_size_the_own_exponent_cancels_out(name: str, own_exponent: float) -> None:
    bent = law(own_exponent)
    coupling = bent.sensitivity_on("S", name) * bent.pressure_on("L", name)
    assert coupling == pytest.approx(0.6 * 1.3 * SMS[name] / 132)


def test_without_an_own_exponent_only_the_size_of_the_one_that_presses_counts() -> None:
    plain = law(0.0)
    assert plain.sensitivity_on("S", "1g") == plain.sensitivity_on("S", "4g") == 0.6
    assert plain.pressure_on("L", "1g") == pytest.approx(1.3 * 14 / 132)


def test_with_an_own_exponent_a_large_slice_suffers_more_than_a_small_one() -> None:
    bent = law(0.35)
    assert bent.sensitivity_on("S", "4g") > bent.sensitivity_on("S", "1g")
    assert bent.sensitivity_on("S", "7g") == 0.6
    assert bent.pressure_on("L", "7g") == 1.3


def changed(folder: Path, own_exponent: object) -> Profile:
    text = (CATALOGUE / "profiles" / "h100-efficientnet.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    if own_exponent is None:
        del content["interference"]["own_exponent"]
    else:
        content["interference"]["own_exponent"] = own_exponent
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_profile(str(path))


def test_a_profile_file_may_leave_the_own_exponent_out(tmp_path: Path) -> None:
    loaded = changed(tmp_path, None).interference
    assert loaded is not None
    assert loaded.own_exponent == 0.0


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "much", True])
def test_an_own_exponent_that_is_no_share_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(InputError, match=r"own\.yaml.*interference\.own_exponent"):
        changed(tmp_path, wrong)


def test_the_own_exponent_is_part_of_the_profiles_hash(h100: Profile) -> None:
    assert h100.interference is not None
    other = replace(h100, interference=replace(h100.interference, own_exponent=0.0))
    assert other.hash != h100.hash
