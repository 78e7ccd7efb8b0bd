"""clover-rl env: list, check and replay, and what check says of scenarios that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from clover_rl.envs import checks
from clover_rl.envs.advice import file_findings, scenario_findings
from clover_rl.envs.checks import CHECKS, check_environment
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import Scenario, load_scenario, scenario_names
from clover_rl.simulation.model import ClusterModel
from tests.cli.process import run_here

DATA = Path(__file__).parents[1] / "data"
SMALL = str(DATA / "small-scenario.yaml")
NAME = "clover_rl/MIGCluster-v0"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> tuple[int, str, str]:
        return run_here(monkeypatch, capsys, "env", *arguments)

    return command


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Writes the small scenario with some lines changed."""

    def write(**changes: str | None) -> Path:
        lines = {
            "name": "own",
            "title": "My scenario",
            "profile": str(DATA / "small-profile.yaml"),
            "gpus": "2",
            "episode": "{days: 2}",
        } | changes
        path = tmp_path / "own.yaml"
        path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None))
        return path

    return write


def test_environments_and_scenarios_are_listed(run: Any) -> None:
    status, out, _ = run("list", "--json")
    assert status == 0
    document = json.loads(out)
    rows = {row["id"]: row for row in document["environments"]}
    assert rows[NAME]["vector_entry_point"] == "clover_rl.envs.vector:MIGClusterVec"
    assert rows[NAME]["about"].startswith("A cluster of MIG-capable GPUs")
    assert rows[NAME]["render_modes"] == ["rgb_array", "human", "ansi"]
    assert document["scenarios"] == list(scenario_names())
    status, out, _ = run("list")
    assert NAME in out
    assert "h100-efficientnet" in out


def test_a_good_scenario_passes_every_check(run: Any, own: Any) -> None:
    status, out, err = run("check", str(own()), "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["passed"]
    assert document["environment"] == NAME
    found = {row["check"]: row for row in document["checks"]}
    assert list(found) == ["scenario", *CHECKS]
    assert all(row["severity"] == "fine" and row["says"].endswith(".") for row in found.values())


def test_people_get_a_line_for_each_finding(run: Any, small_model: ClusterModel) -> None:
    status, out, _ = run("check", SMALL)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("warning  episode")
    assert "never sees a whole day" in lines[0]
    assert lines[-1] == f"{1 + len(CHECKS)} findings: 0 wrong, 1 warnings"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpu": "3"}, ["unknown key `gpu`; did you mean `gpus`?"]),
        ({"load": "{peak: 2}"}, ["unknown key `load.peak`; did you mean `peak_share`?"]),
        ({"colour": "red"}, ["unknown key `colour`; known are name, title, profile, gpus"]),
        ({"title": None, "gpus": "0"}, ["key `title` is missing", "key `gpus`: Input should be greater"]),
        ({"embodied": "{lifetime: 3}"}, ["unknown key `embodied.lifetime`; did you mean `lifetime_years`?"]),
        ({"profile": "nothing"}, ["unknown profile `nothing`; use one of"]),
        ({"weights": "{low: 0.3, high: 0.1}"}, ["expected low < high"]),
        ({"gpus": "[1"}, ["is not valid YAML"]),
    ],
)
def test_everything_wrong_with_a_file_is_said_in_sentences(
    run: Any, own: Any, changes: dict[str, Any], says: list[str]
) -> None:
    path = own(**changes)
    status, out, err = run("check", str(path), "--json")
    assert (status, err) == (1, "")
    document = json.loads(out)
    assert not document["passed"]
    assert len(document["checks"]) == len(says)
    for row, text in zip(document["checks"], says, strict=True):
        assert row["severity"] == "wrong"
        assert str(path) in row["says"]
        assert text in row["says"]


def test_a_file_that_can_be_used_has_no_findings() -> None:
    assert file_findings(Path(SMALL)) == []


def kinds(scenario: Scenario) -> dict[str, str]:
    return {item.check: item.severity for item in scenario_findings(scenario, scenario.model())}


@pytest.mark.parametrize(
    ("changes", "check", "severity", "says"),
    [
        ({"sla_ms": 5.0}, "sla", "wrong", "No configuration keeps the SLA of 5 ms"),
        ({"load": {"peak_share": 2.0}, "sla_ms": 21.0}, "load", "wrong", "no configuration keeps the SLA"),
        ({"load": {"peak_share": 1.1}}, "base", "warning", "BASE keeps the SLA only up to"),
        ({"timeout_s": 0.05}, "timeout", "wrong", "given up after 0.05 s, before the SLA"),
        ({"interval_s": 1.0}, "interval", "warning", "its p95 is noise"),
        ({"interval_s": 5.0}, "transitions", "warning", "longer than an interval of 5 s"),
        ({"episode": {"days": 0.02}}, "episode", "warning", "has 5.8 steps of 300 s"),
        ({"gpus": 1}, "gpus", "warning", "nothing can be parked"),
    ],
)
def test_what_a_scenarios_author_did_not_mean_is_explained(
    changes: dict[str, Any], check: str, severity: str, says: str
) -> None:
    scenario = load_scenario(SMALL, **changes)
    found = {item.check: item for item in scenario_findings(scenario, scenario.model())}
    assert found[check].severity == severity
    assert says in found[check].says


def test_an_episode_without_a_step_is_not_played(run: Any, own: Any) -> None:
    status, out, _ = run("check", str(own(episode="{days: 0.001}")), "--json")
    assert status == 1
    assert [row["check"] for row in json.loads(out)["checks"]] == ["file"]


@pytest.mark.parametrize("name", scenario_names())
def test_files_shipped_have_no_mistakes(name: str) -> None:
    folder = Path(checks.__file__).parent / "scenarios"
    assert file_findings(folder / f"{name}.yaml") == []


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere", "unknown environment or scenario `nowhere`; use one of clover_rl/MIGCluster-v0"),
        ("CartPole-v1", "unknown environment or scenario `CartPole-v1`"),
        ("no.yaml", "the scenario file no.yaml does not exist"),
    ],
)
def test_an_unknown_target_is_one_sentence_and_status_2(run: Any, target: str, says: str) -> None:
    status, out, err = run("check", target)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


class Faulty(MIGClusterEnv):
    """Breaks one promise at a time."""

    fault = ""

    def reset(self, **arguments: Any) -> Any:
        if self.fault == "determinism":
            arguments["seed"] = None
        observation, info = super().reset(**arguments)
        return (observation + 100.0 if self.fault == "observations" else observation), info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.fault == "reward":
            reward += 0.01
        if self.fault == "masks":
            info["action_valid"] = False
        if self.fault == "truncation":
            truncated, self.core.t[:] = False, 0
        return observation, reward, terminated, truncated, info

    def action_masks(self) -> Any:
        masks = super().action_masks()
        return np.zeros_like(masks) if self.fault == "empty" else masks


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("determinism", "determinism", "Observations differ after step 0"),
        ("observations", "observations", "lies outside the space"),
        ("reward", "reward", "its terms sum to"),
        ("masks", "masks", "An action that the mask allowed was refused"),
        ("empty", "masks", "A mask allows nothing"),
        ("truncation", "truncation", "An episode of five steps ended after 40"),
    ],
)
def test_a_broken_promise_is_found_and_named(
    fault: str, check: str, says: str, small_model: ClusterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "fault", fault)
    monkeypatch.setattr(checks, "CHECKS", {check: CHECKS[check]})
    gym.register("clover_rl/Faulty-v0", entry_point=Faulty, disable_env_checker=True)
    try:
        (found,) = check_environment("clover_rl/Faulty-v0", {"scenario": SMALL})
    finally:
        del gym.registry["clover_rl/Faulty-v0"]
    assert (found.check, found.severity) == (check, "wrong")
    assert says in found.says


def test_what_checkers_warn_of_counts_as_wrong(
    small_model: ClusterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MIGClusterEnv, "metadata", {"render_modes": ["ansi"]})
    monkeypatch.setattr(checks, "CHECKS", {"gymnasium": CHECKS["gymnasium"]})
    (found,) = check_environment(NAME, {"scenario": SMALL})
    assert found.severity == "wrong"
    assert "No render fps was declared" in found.says
    assert "\x1b" not in found.says


def test_without_stable_baselines3_its_check_is_skipped(
    small_model: ClusterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    monkeypatch.setattr(checks, "CHECKS", {name: CHECKS[name] for name in ("stable-baselines3", "reward")})
    found = list(check_environment(NAME, {"scenario": SMALL}))
    assert [item.severity for item in found] == ["skipped", "fine"]


def test_a_recorded_episode_is_replayed(run: Any, tmp_path: Path, small_model: ClusterModel) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install 'clover-rl[record]'")
    from clover_rl.envs.recording import RecordEpisode

    env = RecordEpisode(gym.make(NAME, scenario=SMALL, days=0.02), tmp_path)
    env.reset(seed=1)
    env.step(0)
    env.close()
    status, out, _ = run("replay", str(env.files[0]), "--json")
    assert status == 0
    assert json.loads(out)["identical"]
    assert run("replay", str(env.files[0]))[1] == "1 steps: identical\n"
    assert run("replay", str(tmp_path / "none.parquet"))[0] == 2
