"""A result file is confirmed by doing its runs again, and a tampered one is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.check import CheckReport, check_document, locate
from clover_rl.agents.conditions import PLAIN, Conditions
from clover_rl.agents.document import FORMAT, Inputs, PolicyFile, document, sealed
from clover_rl.agents.evaluate import evaluate
from clover_rl.agents.plan import plan_rows
from clover_rl.agents.tasks import Bench, run_tasks
from clover_rl.agents.windows import Window, generated_windows
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

SMALL = Path(__file__).parents[1] / "data" / "small-scenario.yaml"

Tamper = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def windows(small_scenario: Scenario, small_model: ClusterModel) -> list[Window]:
    return generated_windows(small_scenario, small_model, count=1, days=0.1, split="test", seed=4)


@pytest.fixture(scope="module")
def result(
    small_scenario: Scenario, small_model: ClusterModel, windows: list[Window], bundle_path: Path
) -> dict[str, Any]:
    bundle = open_bundle(bundle_path)
    inputs = Inputs(
        scenario=str(SMALL),
        carbon=[],
        load=[],
        start="0",
        days=0.1,
        count=1,
        seed=4,
        weights=[0.05, 0.1],
        against=["base", "search"],
        causes=["search", "policy"],
        conditions=[PLAIN, Conditions(service=1.2, energy=1.2)],
        policies=[PolicyFile("policy", bundle_path, bundle.sha256)],
        accuracy_budget=0.02,
    )
    evaluation = evaluate(
        small_scenario,
        small_model,
        windows,
        weights=inputs.weights,
        against=inputs.against,
        policies=[("policy", bundle)],
        causes=["search", "policy"],
        conditions=inputs.conditions,
        budget=inputs.accuracy_budget,
    )
    return document(evaluation, inputs, "clover-rl evaluate small")


def check(content: dict[str, Any], model: ClusterModel, windows: list[Window], **options: Any) -> CheckReport:
    return check_document(content, locate(content), model, windows, **options)


def test_a_result_file_says_all_that_is_needed_to_do_it_again(result: dict[str, Any]) -> None:
    assert result["scenario_definition"]["gpus"] == 2
    assert result["versions"]["numpy"]
    assert result["seed"] == result["inputs"]["seed"] == 4
    assert result["command"] == "clover-rl evaluate small"
    (policy,) = result["inputs"]["policies"]
    assert len(policy["sha256"]) == 64
    assert set(result["model"]) >= {"profile_hash", "catalogue_hash", "table_version", "run_version"}
    assert sealed(result) == result


def test_an_honest_file_is_confirmed_whole_and_by_sample(
    result: dict[str, Any], small_model: ClusterModel, windows: list[Window]
) -> None:
    whole = check(result, small_model, windows)
    assert (whole.runs, whole.of, whole.rows) == (32, 32, 4)
    part = check(result, small_model, windows, sample=3, sample_seed=1)
    assert (part.runs, part.of, part.rows) == (3, 32, 4)
    assert check(result, small_model, windows, sample=100).runs == 32


def figure(content: dict[str, Any]) -> None:
    content["windows"][1]["controllers"]["policy"]["carbon_g_per_request"] *= 0.99


def share(content: dict[str, Any]) -> None:
    for row in content["windows"]:
        row["controllers"]["policy"]["headroom_share"] = 0.99


def cause(content: dict[str, Any]) -> None:
    content["windows"][0]["controllers"]["policy"]["saving"]["following_carbon"] += 0.01


def gap(content: dict[str, Any]) -> None:
    content["windows"][0]["gap"] += 0.001


def row_dropped(content: dict[str, Any]) -> None:
    del content["windows"][1]


def row_conditions(content: dict[str, Any]) -> None:
    content["windows"][0]["conditions"] = {"service": 1.1}


def controller_dropped(content: dict[str, Any]) -> None:
    del content["windows"][0]["controllers"]["search"]


def scenario(content: dict[str, Any]) -> None:
    content["scenario_definition"]["timeout_s"] = 9.0


def catalogue(content: dict[str, Any]) -> None:
    content["model"]["catalogue_hash"] = "0" * 64


def at_equal_accuracy(content: dict[str, Any]) -> None:
    for row in content["equal_accuracy"]:
        for found in row["controllers"].values():
            if found is not None:
                found["saved"] += 0.05
                return
    content["equal_accuracy"][0]["controllers"]["policy"] = {"saved": 0.5}


def best_static(content: dict[str, Any]) -> None:
    for row in content["windows"]:
        row["best_static"] = "2x[7g:X]"


def infinite(content: dict[str, Any]) -> None:
    content["windows"][0]["controllers"]["policy"]["carbon_g_per_request"] = float("inf")


def undefined(content: dict[str, Any]) -> None:
    content["windows"][0]["controllers"]["policy"]["sla_held"] = float("nan")


def seed_of_another(content: dict[str, Any]) -> None:
    content["seed"] = 77


def invented_controller(content: dict[str, Any]) -> None:
    for row in content["windows"]:
        row["controllers"]["mine"] = row["controllers"]["policy"] | {"objective": 0.5, "headroom_share": 9.9}


def invented_saving(content: dict[str, Any]) -> None:
    row = next(row for row in content["windows"] if row["causes"] is None)
    row["controllers"]["policy"]["saving"] = {"total": 0.99, "variants": 0.99}


def another_window(content: dict[str, Any]) -> None:
    content["windows"][0]["steps"] = 999_999


def another_sla(content: dict[str, Any]) -> None:
    for row in content["windows"]:
        row["sla_ms"] = 1.0


def another_kind(content: dict[str, Any]) -> None:
    content["intensity_kind"] = "marginal"


def model_dropped(content: dict[str, Any]) -> None:
    del content["model"]


def share_dropped(content: dict[str, Any]) -> None:
    del content["windows"][0]["controllers"]["policy"]["headroom_share"]


def margins_dropped(content: dict[str, Any]) -> None:
    content["margins"] = {}


def row_of_numbers(content: dict[str, Any]) -> None:
    content["windows"][0] = 5


def objective_of_letters(content: dict[str, Any]) -> None:
    content["windows"][0]["controllers"]["policy"]["objective"] = "good"


INVENTED = (
    (seed_of_another, "seed is 77"),
    (invented_controller, r"controllers\.mine (is none of those|is .* and absent)"),
    (invented_saving, r"controllers\.policy(\.saving| has savings)"),
    (another_window, r"windows\[0\]\.steps is 999999"),
    (another_sla, r"windows\[0\]\.sla_ms is 1\.0"),
    (another_kind, "intensity_kind is marginal"),
    (model_dropped, "model is not as"),
    (share_dropped, r"controllers\.policy is not as"),
    (margins_dropped, r"margins\.oracle is not as"),
    (row_of_numbers, r"windows\[0\] is not as"),
    (objective_of_letters, r"controllers\.policy is not as"),
)

TAMPERED = (
    (infinite, r"policy\.carbon_g_per_request is (inf|None)"),
    (undefined, r"policy\.sla_held is (nan|None)"),
    (figure, r"windows\[1\]\.controllers\.policy\.carbon_g_per_request is .* when it is done again"),
    (share, r"policy\.headroom_share is 0\.99"),
    (gap, r"gap is "),
    (cause, r"policy\.saving\.total is "),
    (row_dropped, r"rows|number of windows"),
    (row_conditions, r"windows\[0\]"),
    (controller_dropped, r"windows\[0\]\.controllers\.search"),
    (catalogue, r"model\.catalogue_hash is 0000"),
    (at_equal_accuracy, "equal_accuracy"),
    (best_static, "best_static"),
)


@pytest.mark.parametrize(("tamper", "sentence"), TAMPERED, ids=lambda item: getattr(item, "__name__", ""))
def test_a_tampered_file_fails_by_sample_naming_the_figure_even_when_it_is_sealed_anew(
    result: dict[str, Any], small_model: ClusterModel, windows: list[Window], tamper: Tamper, sentence: str
) -> None:
    changed = copy.deepcopy(result)
    tamper(changed)
    for content in (changed, sealed(changed)):
        with pytest.raises(InputError, match=sentence):
            check(content, small_model, windows, sample=100)


def test_a_static_configuration_that_is_not_the_best_is_found_out_by_sample(
    result: dict[str, Any],
    small_scenario: Scenario,
    small_model: ClusterModel,
    windows: list[Window],
    bundle_path: Path,
) -> None:
    policies = {"policy": open_bundle(bundle_path)}
    bench = Bench(small_scenario, small_model, tuple(windows), policies, result["margins"])
    plan = plan_rows(bench, [0.05], ["base", "search"])[0]
    found = run_tasks(bench, list(plan.candidates))
    worst = min(plan.candidates, key=lambda task: found[bench.key(task, 0.05)].objective)
    assert worst.static is not None
    changed = copy.deepcopy(result)
    row = changed["windows"][0]
    assert worst.static.label() != row["best_static"]
    row["best_static"] = worst.static.label()
    figures = found[bench.key(worst, 0.05)]
    row["controllers"]["static"] |= {name: getattr(figures, name) for name in figures.__slots__}
    with pytest.raises(InputError, match="is better"):
        check(sealed(changed), small_model, windows, sample=100)


@pytest.mark.parametrize(("tamper", "sentence"), INVENTED, ids=lambda item: getattr(item, "__name__", ""))
def test_what_is_invented_or_missing_is_found_out_whole_and_by_sample(
    result: dict[str, Any], small_model: ClusterModel, windows: list[Window], tamper: Tamper, sentence: str
) -> None:
    changed = copy.deepcopy(result)
    tamper(changed)
    with pytest.raises(InputError, match=sentence):
        check(sealed(changed), small_model, windows, sample=1)
    if tamper not in (another_window, another_sla):  # a whole check takes all runs: two of a kind will do
        with pytest.raises(InputError, match=sentence):
            check(sealed(changed), small_model, windows)


@pytest.mark.parametrize("tamper", [figure, cause, row_dropped, controller_dropped, best_static])
def test_a_tampered_file_fails_as_a_whole(
    result: dict[str, Any], small_model: ClusterModel, windows: list[Window], tamper: Tamper
) -> None:
    changed = copy.deepcopy(result)
    tamper(changed)
    with pytest.raises(InputError, match=r"in the file, and .* when it is done again"):
        check(sealed(changed), small_model, windows)


def test_another_scenario_or_command_is_found_out(
    result: dict[str, Any], small_model: ClusterModel, windows: list[Window]
) -> None:
    changed = copy.deepcopy(result)
    scenario(changed)
    with pytest.raises(InputError, match=r"controllers\.\w+\.\w+ is |changed after it was written"):
        check(changed, small_model, windows, sample=100)
    claimed = {**result, "command": "clover-rl evaluate other"}
    with pytest.raises(InputError, match="changed after it was written"):
        check(claimed, small_model, windows, sample=1)


def test_files_are_found_by_what_they_hold(result: dict[str, Any], bundle_path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.clover"
    moved.write_bytes(bundle_path.read_bytes())
    changed = copy.deepcopy(result)
    (policy,) = changed["inputs"]["policies"]
    policy["path"] = str(tmp_path / "gone.clover")
    with pytest.raises(InputError, match=r"gone\.clover.* is not there; say with --policy"):
        locate(changed)
    located = locate(changed, files=[moved])
    assert located.inputs.policies[0].path == moved
    policy["path"] = str(bundle_path)
    policy["sha256"] = "0" * 64
    with pytest.raises(InputError, match="has changed since"):
        locate(changed)


@pytest.mark.parametrize(
    "content",
    [{}, {"format": FORMAT}, {"format": 1}, {"format": FORMAT, "inputs": [], "scenario_definition": {}}],
)
def test_what_is_no_result_file_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"no result file|format 1"):
        locate(content)
