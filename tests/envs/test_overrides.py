"""Keys changed from outside the file: typed by the schema, and one sentence for a wrong one."""

from __future__ import annotations

import pytest

from clover_rl.envs.overrides import keys_of, override
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import InputError


def test_values_are_typed_by_the_schema_and_the_last_one_wins(small_scenario: Scenario) -> None:
    found = override(
        small_scenario,
        [
            "gpus=1",
            "gpus=3",
            "load.peak_share=0.5",
            "weights.evaluate=[0.03, 0.2]",
            "title=Three GPUs",
            "sla_ms = 40",
            "embodied.lifetime_years=4",
            "carbon.files=[a.csv]",
        ],
    )
    assert (found.gpus, found.load.peak_share, found.load.bin_s) == (3, 0.5, 300.0)
    assert found.weights.evaluate == [0.03, 0.2]
    assert found.weights.high == small_scenario.weights.high
    assert (found.sla_ms, found.title, found.carbon.files) == (40.0, "Three GPUs", ["a.csv"])
    assert found.embodied is not None
    assert found.embodied.lifetime_years == 4.0
    assert found.loaded_profile == small_scenario.loaded_profile
    assert override(found, ["embodied=null", "sla_ms="]).embodied is None


def test_nothing_set_is_the_scenario_itself(small_scenario: Scenario) -> None:
    assert override(small_scenario, []) is small_scenario


def test_values_are_checked_together(small_scenario: Scenario) -> None:
    found = override(small_scenario, ["weights.low=0.5", "weights.high=0.9"])
    assert (found.weights.low, found.weights.high) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["gpus"], "--set gpus: no value is given; write KEY=VALUE, as load.peak_share=0.7"),
        (
            ["gpu=2"],
            "--set gpu=2: unknown key `gpu`; did you mean `gpus`? `clover-rl scenario show NAME` lists all",
        ),
        (["xyzzy=2"], "--set xyzzy=2: unknown key `xyzzy`; `clover-rl scenario show NAME` lists all keys"),
        (["folder=/"], "--set folder=/: unknown key `folder`; `clover-rl scenario show NAME`"),
        (
            ["load.peak.x=1"],
            "--set load.peak.x=1: unknown key `load.peak.x`; did you mean `load.",
        ),
        (
            ["gpus=two"],
            "--set gpus=two: key `gpus`: Input should be a valid integer, unable to parse string as an "
            "integer (found 'two'); correct that key",
        ),
        (["gpus=yes"], "--set gpus=yes: key `gpus`: expected no yes or no (found True); correct that key"),
        (["gpus=[1"], "--set gpus=[1: is not valid YAML: expected ',' or ']'"),
        (
            ["pue=1.1", "load.peak_share=9"],
            "--set pue=1.1 --set load.peak_share=9: key `load.peak_share`: Input should be less than or "
            "equal to 2 (found 9); correct that key",
        ),
        (["weights.low=0.9"], "--set weights.low=0.9: key `weights`: expected low < high"),
        (["load=3"], "--set load=3: key `load`: Input should be a valid dictionary"),
        (["load=3", "load.bin_s=60"], None),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    small_scenario: Scenario, settings: list[str], sentence: str | None
) -> None:
    if sentence is None:  # the later one makes the earlier one whole again
        assert override(small_scenario, settings).load.bin_s == 60.0
        return
    with pytest.raises(InputError) as caught:
        override(small_scenario, settings)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).isprintable()


def test_every_key_can_be_set_to_what_it_is() -> None:
    scenario = load_scenario("h100-efficientnet", embodied={"kg_per_gpu": 100, "source": "label"})
    content = scenario.to_dict()
    for key in keys_of():
        value = content
        for part in key.split("."):
            value = value[part]
        if not isinstance(value, dict):
            assert override(scenario, [f"{key}={value!r}".replace("None", "null")]) == scenario, key
    assert "load.peak_share" in keys_of()
    assert "folder" not in keys_of()
