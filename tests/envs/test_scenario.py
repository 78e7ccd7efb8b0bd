"""Scenario files: defaults, overrides, and one sentence for everything that can be wrong."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clover_rl.cluster.gpu import gpu_model
from clover_rl.envs.scenario import Scenario, load_scenario, scenario_names
from clover_rl.envs.signals import draw_signals, sample_signals
from clover_rl.errors import InputError
from clover_rl.signals import BlurredTruth, Persistence, TypicalDay
from clover_rl.simulation.model import ClusterModel

START = "name: mine\ntitle: A scenario of my own\nprofile: h100-efficientnet\n"


@pytest.mark.parametrize("name", scenario_names())
def test_scenarios_shipped_can_be_read_and_their_profiles_too(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.loaded_profile.name == scenario.profile


def test_defaults_are_those_of_the_design() -> None:
    scenario = load_scenario("h100-efficientnet")
    assert (scenario.gpus, scenario.interval_s, scenario.pue) == (4, 300.0, 1.2)
    assert scenario.reference_g_per_kwh == 250.0
    assert scenario.sla_ms is None
    assert (scenario.penalty.base, scenario.penalty.slope) == (0.1, 0.5)
    assert (scenario.weights.low, scenario.weights.high) == (0.01, 0.3)
    assert scenario.weights.evaluate == [0.02, 0.05, 0.10, 0.15]
    assert scenario.load.peak_share == 0.8


def test_a_profile_is_found_beside_its_scenario(scenario_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(scenario_file).parent
    monkeypatch.chdir(folder)
    for name in (scenario_file, Path(scenario_file), Path(scenario_file).name):
        assert load_scenario(name).loaded_profile.name == "small"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpus: 0", "key `gpus`: Input should be greater than or equal to 1 (found 0)"),
        ("gpus: 65", "key `gpus`: Input should be less than or equal to 64 (found 65)"),
        ("gpus: two", "key `gpus`: Input should be a valid integer"),
        ("gpus: yes", "key `gpus`: expected no yes or no (found True)"),
        ("interval_s: off", "key `interval_s`: expected no yes or no (found False)"),
        ("interval_s: 0", "key `interval_s`: Input should be greater than or equal to 0.001 (found 0)"),
        ("interval_s: .inf", "key `interval_s`: Input should be less than or equal to 604800 (found inf)"),
        ("interval_s: .nan", "key `interval_s`: Input should be"),
        ("time_scale: -1", "key `time_scale`: Input should be greater than or equal to 0.001"),
        ("pue: 0.9", "key `pue`: Input should be greater than or equal to 1"),
        ("sla_ms: fast", "key `sla_ms`: Input should be a valid number"),
        ("timeout_s: 0", "key `timeout_s`: Input should be greater than or equal to 0.001"),
        (
            "reference_g_per_kwh: -5",
            "key `reference_g_per_kwh`: Input should be greater than or equal to 0.001",
        ),
        ("penalty: {base: -1}", "key `penalty.base`: Input should be greater than or equal to 0"),
        ("penalty: {slop: 1}", "unknown key `penalty.slop`"),
        ("weights: {low: 0.3, high: 0.1}", "key `weights`: expected low < high"),
        ("weights: {low: 0}", "key `weights.low`: Input should be greater than or equal to 0.000001"),
        ("weights: {evaluate: []}", "key `weights.evaluate`: List should have at least 1 item"),
        ("weights: {evaluate: [0.1, 2]}", "key `weights.evaluate.1`: Input should be less than 1 (found 2)"),
        ("load: {peak_share: 3}", "key `load.peak_share`: Input should be less than or equal to 2"),
        ("load: {bin_s: 0}", "key `load.bin_s`: Input should be greater than or equal to 1"),
        ("carbon: {kind: marginal}", "key `carbon.kind`: Input should be 'average life-cycle' or"),
        ("carbon: {forecast: perfect}", "key `carbon.forecast`: Input should be 'persistence', "),
        ("embodied: {lifetime_years: 0}", "key `embodied.lifetime_years`: Input should be greater than 0"),
        ("embodied: yes", "key `embodied`: expected no yes or no (found True)"),
        ("embodied: {kg_per_gpu: 100}", "key `embodied`: expected `kg_per_gpu` and `source` together"),
        ("episode: {days: 0}", "key `episode.days`: Input should be greater than 0"),
        ("episode: 3", "key `episode`: Input should be a valid dictionary"),
        (
            "episode: {days: 400}\ninterval_s: 10",
            "an episode of 400 days has 3456000 steps of 10 s of the signals",
        ),
        (
            "interval_s: 604800",
            "an episode of 2 days has 0 steps of 604800 s of the signals, and 1 to 200000",
        ),
        ("load: {bin_s: 1}\nepisode: {days: 30}", "an episode of 30 days has 2592000 bins of load"),
        ("carbon: {files: x.csv}", "key `carbon.files`: Input should be a valid list (found 'x.csv')"),
        ("carbon: {files: ['']}", "key `carbon.files.0`: String should have at least 1 character"),
        ("load: {train_share: 1}", "key `load.train_share`: Input should be less than or equal to 0.95"),
        ("carbon: {utc_offset_h: 25}", "key `carbon.utc_offset_h`: Input should be less than or equal to 14"),
        ("w: 0.1", "unknown key `w`"),
        ("folder: /tmp", "unknown key `folder`"),
    ],
)
def test_a_wrong_key_gives_one_sentence_with_file_and_key(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(START + text + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: {sentence}")
    assert "\n" not in said
    assert said.endswith("; correct that key")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title: no name\nprofile: x\n", "key `name` is missing"),
        (START.replace("mine", "My Own"), "key `name`: String should match pattern"),
        ("- a\n- list\n", "expected a mapping of keys, found list"),
        ("", "expected a mapping of keys, found NoneType"),
        ("name: [\n", "is not valid YAML"),
    ],
)
def test_a_wrong_file_gives_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(str(path))


def test_an_unknown_scenario_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown scenario `h200`; use one of .*h100-efficientnet"):
        load_scenario("h200")
    with pytest.raises(InputError, match="does not exist"):
        load_scenario(tmp_path / "absent.yaml")


def test_an_unknown_profile_is_found_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(START.replace("h100-efficientnet", "h300"), encoding="utf-8")
    scenario = load_scenario(path)
    with pytest.raises(InputError, match="unknown profile `h300`"):
        _ = scenario.loaded_profile


def test_overrides_replace_keys_of_files_and_of_scenarios(scenario_file: str) -> None:
    from_file = load_scenario(scenario_file, gpus=1, load={"peak_share": 0.5})
    from_object = load_scenario(load_scenario(scenario_file), gpus=1, load={"peak_share": 0.5})
    assert from_file == from_object
    assert (from_file.gpus, from_file.load.peak_share, from_file.load.bin_s) == (1, 0.5, 300.0)
    assert from_file.loaded_profile.name == "small"
    assert from_file.weights.high == 0.2


@pytest.mark.parametrize("overrides", [{"gpus": 0}, {"gpu": 1}])
def test_a_wrong_override_names_its_key(scenario_file: str, overrides: dict[str, Any]) -> None:
    for name in (scenario_file, load_scenario(scenario_file)):
        with pytest.raises(InputError, match=r"key `gpus?`"):
            load_scenario(name, **overrides)


def test_a_scenario_as_it_is_needs_no_reading(small_scenario: Scenario) -> None:
    assert load_scenario(small_scenario) is small_scenario


def test_a_scenario_that_has_been_used_can_be_pickled(small_scenario: Scenario) -> None:
    assert small_scenario.loaded_profile.name == "small"
    again = pickle.loads(pickle.dumps(small_scenario))
    assert again.loaded_profile == small_scenario.loaded_profile
    assert again.to_dict() == small_scenario.to_dict()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("persistence", Persistence), ("typical-day", TypicalDay), ("blurred", BlurredTruth)],
)
def test_the_forecaster_is_the_one_named(small_scenario: Scenario, kind: str, expected: type) -> None:
    scenario = load_scenario(small_scenario, carbon={"forecast": kind})
    assert isinstance(scenario.forecaster(np.random.default_rng(0)), expected)


def test_embodied_carbon_is_left_out_unless_asked_for_and_then_comes_with_its_source() -> None:
    assert load_scenario("h100-efficientnet").sci is None
    counted = load_scenario("h100-efficientnet", embodied={}).sci
    assert counted is not None
    assert (counted.embodied.kg, counted.lifetime_years, counted.gpus) == (164, 5.0, 4)
    assert counted.kind == "average life-cycle"
    assert "1312 kgCO2e" in counted.to_dict()["embodied_source"]
    own = load_scenario(
        "h100-efficientnet",
        embodied={"lifetime_years": 4, "kg_per_gpu": 300, "source": "our supplier"},
        carbon={"kind": "average direct"},
    ).sci
    assert own is not None
    assert own.to_dict() == {
        "intensity_kind": "average direct",
        "embodied_kg_per_gpu": 300,
        "embodied_covers": "as the scenario says",
        "embodied_source": "our supplier",
        "lifetime_years": 4,
        "gpus": 4,
    }


def test_a_gpu_model_without_embodied_carbon_says_so(small_scenario: Scenario) -> None:
    scenario = load_scenario(small_scenario, embodied={})
    profile = scenario.loaded_profile
    scenario.__dict__["loaded_profile"] = replace(profile, gpu=gpu_model("h200-141gb"))
    with pytest.raises(InputError) as caught:
        _ = scenario.sci
    assert str(caught.value) == (
        "small: key `embodied`: no embodied carbon of NVIDIA H200 141 GB with a source is known; "
        "give `kg_per_gpu` and `source`, or leave `embodied` out"
    )


def test_an_intensity_of_another_kind_than_the_scenario_counts_is_refused(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    direct = load_scenario(small_scenario, carbon={"kind": "average direct"})
    capacity = small_model.baseline.capacity
    signals = draw_signals(direct, capacity, "train", 0.5, np.random.default_rng(1))
    signals.feeds(direct)
    sample_signals(signals, direct, 3)
    for use in (lambda: signals.feeds(small_scenario), lambda: sample_signals(signals, small_scenario, 3)):
        with pytest.raises(InputError, match="average direct, and average life-cycle is counted here"):
            use()
