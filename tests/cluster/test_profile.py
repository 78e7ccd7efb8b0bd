"""Profiles: the shipped numbers are the measured ones, and any flaw in a file is named by its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from clover_rl.cluster.gpu import CATALOGUE
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_application, load_profile, profile_names
from clover_rl.errors import InputError

Content = dict[str, Any]
Change = Callable[[Content], object]


@pytest.fixture
def content() -> Content:
    """The shipped H100 profile as a mapping to be spoiled."""
    text = (CATALOGUE / "profiles" / "h100-efficientnet.yaml").read_text(encoding="utf-8")
    loaded: Content = yaml.safe_load(text)
    return loaded


@pytest.fixture
def application() -> Content:
    """The shipped application as a mapping to be spoiled."""
    text = (CATALOGUE / "applications" / "efficientnet.yaml").read_text(encoding="utf-8")
    loaded: Content = yaml.safe_load(text)
    return loaded


def written(folder: Path, content: Content, name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("variant", "name", "service_ms", "energy_j"),
    [
        ("B1", "7g", 2.46, 0.204),
        ("B3", "3g", 4.60, 0.490),
        ("B5", "2g", 22.36, 2.340),
        ("B7", "4g", 31.15, 6.460),
        ("B7", "1g", 111.34, 7.578),
    ],
)
def test_the_h100_profile_holds_what_was_measured(
    variant: str, name: str, service_ms: float, energy_j: float, h100: Profile
) -> None:
    assert h100.service_s[variant][name] == pytest.approx(service_ms / 1000, rel=1e-12)
    assert h100.energy_j[variant][name] == energy_j


def test_the_h100_profile_holds_the_measured_laws(h100: Profile) -> None:
    assert 71 <= h100.power.parked_w <= 74
    assert 119 <= h100.power.idle_w <= 123
    assert (h100.power.limit_w, h100.power.slowdown_exponent) == (700, 0.42)
    assert h100.memory_mib == {"B1": 963, "B3": 1121, "B5": 1393, "B7": 1941}
    law = h100.interference
    assert law is not None
    assert law.sensitivity == {"B1": 0.693, "B3": 0.543, "B5": 0.408, "B7": 0.27}
    assert law.pressure == {"B1": 0.7, "B3": 0.777, "B5": 0.989, "B7": 1.363}
    assert law.own_exponent == 0.35
    # The SMs are those of the MPS test (12, 24, 46, 49, 100 %), not MIG's own.
    assert law.sms == {"7g": 132, "4g": 64, "3g": 60, "2g": 30, "1g": 14}
    assert 0.16 <= h100.times.create_s <= 0.24
    assert 0.20 <= h100.times.destroy_s <= 0.22


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads_with_its_sources(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert {"service", "energy", "memory", "power", "create", "load", "accuracy"} <= profile.provenance.keys()
    assert all(item.source for item in profile.provenance.values())
    assert all(
        any(profile.fits(variant, slice_type) for slice_type in profile.gpu.slices.values())
        for variant in profile.application.variants
    )


def test_a_variant_fits_where_it_was_profiled_and_has_room(h100: Profile) -> None:
    small = h100.gpu.slices["1g"]
    assert h100.fits("B7", small)
    assert not h100.fits("B7", h100.gpu.slices["1g.dm"]), "never profiled there"
    heavy = replace(h100, memory_mib={**h100.memory_mib, "B7": small.memory_mib + 1})
    assert not heavy.fits("B7", small)
    assert heavy.fits("B7", h100.gpu.slices["2g"])
    assert h100.fits_beside("B7", "B5", small)
    assert not heavy.fits_beside("B7", "B1", small)


def test_the_hash_follows_the_physics_alone(tmp_path: Path, content: Content, h100: Profile) -> None:
    content["name"] = "renamed"
    content["power"]["provenance"]["source"] = "elsewhere"
    assert load_profile(str(written(tmp_path, content))).hash == h100.hash
    content["power"]["idle_w"] += 1
    assert load_profile(str(written(tmp_path, content))).hash != h100.hash


def test_a_profile_finds_its_own_application_beside_it(
    tmp_path: Path, content: Content, application: Content
) -> None:
    application["name"] = "mine"
    written(tmp_path, application, "mine.yaml")
    content["application"] = "mine.yaml"
    written(tmp_path, content)
    assert load_profile("own.yaml", near=tmp_path).application.name == "mine"


def test_exponents_and_whole_numbers_are_numbers(tmp_path: Path, content: Content) -> None:
    text = (
        yaml.safe_dump(content)
        .replace("idle_w: 121", "idle_w: 1.21e2")
        .replace("limit_w: 700", "limit_w: 7e2")
    )
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    power = load_profile(str(path)).power
    assert (power.idle_w, power.limit_w) == (121.0, 700.0)


def put(*keys: str) -> Callable[[Any], Change]:
    """A change that puts a value at a path of keys."""

    def with_value(value: Any) -> Change:
        def change(content: Content) -> None:
            for key in keys[:-1]:
                content = content[key]
            content[keys[-1]] = value

        return change

    return with_value


def drop(*keys: str) -> Change:
    """A change that removes the key at a path of keys."""

    def change(content: Content) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("colour")("green"), r"unknown key `colour`"),
        (put("power", "idle")(1), r"unknown key `power\.idle`"),
        (drop("gpu"), r"key `gpu` is missing"),
        (drop("power", "idle_w"), r"key `power\.idle_w` is missing"),
        (drop("service_ms", "provenance"), r"key `service_ms\.provenance` is missing"),
        (put("power", "idle_w")("warm"), r"key `power\.idle_w`: .*valid number.*\(found 'warm'\)"),
        (put("power", "idle_w")(None), r"key `power\.idle_w`: .*valid number.*\(found None\)"),
        (put("power", "idle_w")(True), r"key `power\.idle_w`: expected a number \(found True\)"),
        (put("service_ms", "values")([1, 2]), r"key `service_ms\.values`: .*dictionary"),
        (
            put("service_ms", "values", "B3", "4g")(-1.0),
            r"key `service_ms\.values\.B3\.4g`: .*greater than 0",
        ),
        (put("service_ms", "values", "B3", "4g")(0), r"key `service_ms\.values\.B3\.4g`: .*greater than 0"),
        (
            put("service_ms", "values", "B3", "4g")(float("nan")),
            r"key `service_ms\.values\.B3\.4g`: .*\(found nan\)",
        ),
        (put("energy_j", "values", "B7", "1g")(float("inf")), r"key `energy_j\.values\.B7\.1g`: .*finite"),
        (put("jitter", "cv")(float("nan")), r"key `jitter\.cv`: .*\(found nan\)"),
        (put("times", "create_s")(-0.1), r"key `times\.create_s`: .*greater than or equal to 0"),
        (put("power", "limit_w")(100), r"key `power`: expected parked_w <= idle_w < limit_w"),
        (
            put("service_ms", "values", "B3", "5g")(1.0),
            r"key `service_ms\.values\.B3\.5g`: unknown slice type",
        ),
        (put("service_ms", "values", "B3")({}), r"key `service_ms\.values\.B3`: .*at least 1 item"),
        (put("service_ms", "values", "B2")({"7g": 1.0}), r"key `service_ms\.values`: .*differ in B2"),
        (drop("energy_j", "values", "B3"), r"key `energy_j\.values`: .*differ in B3"),
        (drop("energy_j", "values", "B3", "4g"), r"key `energy_j\.values\.B3`: expected the same slices"),
        (drop("memory_mib", "values", "B1"), r"key `memory_mib\.values`: .*differ in B1"),
        (put("times", "load_s", "B9")(1.0), r"key `times\.load_s`: .*differ in B9"),
        (drop("interference", "pressure", "B5"), r"key `interference\.pressure`: .*differ in B5"),
        (drop("interference", "sms", "2g"), r"key `interference\.sms\.2g` is missing"),
        (put("interference", "sms", "2g")(0), r"key `interference\.sms\.2g`: .*greater than 0"),
        (
            put("memory_mib", "values", "B7")(90_000),
            r"key `memory_mib\.values\.B7`: .*fits no slice of h100-80gb",
        ),
        (put("gpu")("v100"), r"key `gpu`: unknown GPU model `v100`; use one of a100-40gb, "),
        (
            put("application")("bert"),
            r"key `application`: unknown application `bert`; use one of .*efficientnet",
        ),
        (
            put("application")("bert.yaml"),
            r"key `application`: the application file .*bert\.yaml does not exist",
        ),
        (put("partition")("slices"), r"key `partition`: .*'mps', 'mig' or 'emulated'"),
        (put("power", "provenance", "kind")("guessed"), r"key `power\.provenance\.kind`: .*'measured'"),
        (
            put("power", "provenance", "source")(""),
            r"key `power\.provenance\.source`: .*at least 3 characters",
        ),
    ],
)
def test_a_flawed_profile_is_refused_naming_file_and_key(
    tmp_path: Path, content: Content, change: Change, sentence: str
) -> None:
    change(content)
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=sentence) as caught:
        load_profile(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_base_needs_the_largest_variant_on_a_whole_gpu(tmp_path: Path, content: Content) -> None:
    for key in ("service_ms", "energy_j"):
        del content[key]["values"]["B7"]["7g"]
    with pytest.raises(InputError, match=r"own\.yaml: BASE needs variant `B7` on the slice 7g"):
        load_profile(str(written(tmp_path, content)))


def test_bad_syntax_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ngpu: [h100-80gb\napplication: efficientnet\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"own\.yaml:3: is not valid YAML: ") as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InputError,
        match=r"unknown profile `h900`; use one of .*h100-efficientnet.*, or the path of a YAML file",
    ):
        load_profile("h900")


def test_a_profile_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the profile file .*nowhere\.yaml does not exist; check the path"):
        load_profile("nowhere.yaml", near=tmp_path)


def test_an_unknown_application_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown application `bert`; use one of .*efficientnet"):
        load_application("bert")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("variants", "B1", "accuracy")(78.4), r"key `variants\.B1\.accuracy`: .*less than or equal to 1"),
        (put("variants", "B1", "accuracy")(float("nan")), r"key `variants\.B1\.accuracy`: .*\(found nan\)"),
        (put("variants", "B1", "accuracy")(0.84), r"key `variants`: .*from the least to the most accurate"),
        (put("variants")({}), r"key `variants`: .*at least 1 item"),
        (put("variants", "B1", "speed")(1), r"unknown key `variants\.B1\.speed`"),
        (
            put("inputs")([{"name": "image", "datatype": "FP8", "shape": [1]}]),
            r"key `inputs\.0\.datatype`: .*'FP16'",
        ),
        (drop("accuracy_provenance"), r"key `accuracy_provenance` is missing"),
    ],
)
def test_a_flawed_application_is_refused_naming_file_and_key(
    tmp_path: Path, content: Content, application: Content, change: Change, sentence: str
) -> None:
    change(application)
    path = written(tmp_path, application, "mine.yaml")
    content["application"] = "mine.yaml"
    for load in (
        lambda: load_application(str(path)),
        lambda: load_profile(str(written(tmp_path, content))),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            load()
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_slice_with_media_engines_changes_no_hash_unless_the_profile_has_numbers_for_it(
    h100: Profile,
) -> None:
    gpu = h100.gpu
    without = replace(gpu, slices={name: item for name, item in gpu.slices.items() if not item.media})
    assert replace(h100, gpu=without).hash == h100.hash
    service = {variant: {**row, "1g.me": row["1g"]} for variant, row in h100.service_s.items()}
    assert replace(h100, service_s=service).hash != h100.hash
