"""Provenance of single numbers: a pair or a power may say more than its group, and only of what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clover_rl.cluster.gpu import CATALOGUE
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError

Content = dict[str, Any]


@pytest.fixture
def content() -> Content:
    """The shipped H100 profile as a mapping."""
    text = (CATALOGUE / "profiles" / "h100-efficientnet.yaml").read_text(encoding="utf-8")
    loaded: Content = yaml.safe_load(text)
    return loaded


def loaded(folder: Path, content: Content) -> Profile:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_profile(str(path))


def test_a_pair_says_where_it_comes_from_and_the_others_follow_their_group(
    tmp_path: Path, content: Content
) -> None:
    content["service_ms"]["provenance"]["band"] = [0.9, 1.2]
    content["service_ms"]["pairs"] = {
        "B7": {"1g": {"kind": "modelled", "source": "by hand", "band": [0.5, 2]}, "2g": {"kind": "nominal"}}
    }
    profile = loaded(tmp_path, content)
    own = profile.provenance_of("service", "B7", "1g")
    assert (own.kind, own.source, own.band) == ("modelled", "by hand", (0.5, 2.0))
    partly = profile.provenance_of("service", "B7", "2g")
    assert (partly.kind, partly.source, partly.band) == (
        "nominal",
        profile.provenance["service"].source,
        None,
    )
    assert profile.provenance_of("service", "B1", "1g") is profile.provenance["service"]
    assert profile.provenance["service"].band == (0.9, 1.2)


def test_one_power_may_be_known_in_another_way_than_the_others(tmp_path: Path, content: Content) -> None:
    content["power"]["parts"] = {"parked_w": {"kind": "modelled", "band": [0.6, 1.1]}}
    profile = loaded(tmp_path, content)
    assert profile.provenance_of("power", "parked_w").kind == "modelled"
    assert profile.provenance_of("power", "idle_w").kind == "measured"


def test_what_is_known_of_a_number_does_not_change_the_physics(tmp_path: Path, content: Content) -> None:
    content["service_ms"]["pairs"] = {"B7": {"1g": {"kind": "modelled", "band": [0.5, 2]}}}
    assert loaded(tmp_path, content).hash == load_profile("h100-efficientnet").hash


def pair(variant: str, name: str, **entry: object) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["energy_j"]["pairs"] = {variant: {name: {"kind": "modelled"} | entry}}

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pair("B9", "7g"), r"pairs\.B9\.7g .* missing"),
        (pair("B7", "5g"), r"pairs\.B7\.5g .* missing"),
        (pair("B7", "7g", band=[1.1, 1.2]), r"energy_j\.pairs\.B7\.7g\.band.*the lower at most 1"),
        (pair("B7", "7g", band=[0.0, 1.2]), r"energy_j\.pairs\.B7\.7g\.band\.0"),
        (pair("B7", "7g", band=[0.9]), r"energy_j\.pairs\.B7\.7g\.band"),
        (pair("B7", "7g", kind="guessed"), r"energy_j\.pairs\.B7\.7g\.kind"),
        (pair("B7", "7g", why="no such key"), r"unknown key `energy_j\.pairs\.B7\.7g\.why`"),
        (
            lambda c: c["power"].update(parts={"boost_w": {"kind": "modelled"}}),
            r"power\.parts\.boost_w",
        ),
    ],
)
def test_an_entry_for_nothing_or_a_band_without_its_number_is_refused(
    change: Callable[[Content], None], said: str, tmp_path: Path, content: Content
) -> None:
    change(content)
    with pytest.raises(InputError, match=said):
        loaded(tmp_path, content)
