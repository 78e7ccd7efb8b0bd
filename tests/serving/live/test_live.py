"""Days compared live: the day repeats itself, processes wait for what is predicted, a day is served."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.signals import draw_signals
from clover_rl.errors import InputError
from clover_rl.serving.live.kept import Kept
from clover_rl.serving.live.outcome import order_of
from clover_rl.serving.live.plan import Contest, needed_processes, predict, repeated
from tests.cli.process import CLI, run_cli

SHORT = """
name: short-live
title: one emulated card, a day in twelve steps of half a second
profile: emulated-digits
gpus: 1
interval_s: 0.5
time_scale: 14400.0
timeout_s: 5.0
load: {bin_s: 7200.0}
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "short-live.yaml"
    path.write_text(SHORT)
    return path


def contest_of(scenario: Scenario, *names: str) -> Contest:
    model = scenario.model()
    signals = draw_signals(scenario, model.baseline.capacity, "test", 1.0, np.random.default_rng(3))
    return Contest.of(scenario, model, signals, names=names, bundle=None, w=0.1, seed=3)


def test_every_day_of_repeated_signals_is_the_first(short: Path) -> None:
    scenario = load_scenario(short)
    model = scenario.model()
    signals = draw_signals(scenario, model.baseline.capacity, "test", 1.0, np.random.default_rng(3))
    again = repeated(signals, 3)
    hours = 3600.0 * np.arange(24)
    first = signals.carbon.values_at(signals.start + hours)
    for day in range(3):
        assert again.carbon.values_at(again.start + 86_400.0 * day + hours) == pytest.approx(first)
        loads = [again.load.at(again.load_start + 86_400.0 * day + hour) for hour in hours]
        assert loads == pytest.approx([signals.load.at(signals.load_start + hour) for hour in hours])


def test_processes_wait_for_what_the_predictions_deploy_and_for_base(short: Path) -> None:
    contest = contest_of(load_scenario(short), "base", "static")
    days = predict(contest, 2)
    assert [len(each) for each in days.values()] == [2, 2]
    needed = needed_processes(contest.model, days, 40)
    last = days["static"][0][-1].interval.configuration
    wanted = Counter((item.placement.slice, item.variant) for item in last.instances)
    assert wanted <= needed
    assert needed["7g", "large"] == 1
    assert sum(needed_processes(contest.model, days, 1).values()) == 1


def test_a_policy_without_its_bundle_is_refused(short: Path) -> None:
    with pytest.raises(InputError, match="--policy"):
        contest_of(load_scenario(short), "policy")


def test_controllers_are_ordered_by_objective() -> None:
    days = {name: {"measured": {"objective": value}} for name, value in (("a", -1.0), ("b", 0.5))}
    assert order_of(days, "measured") == ["b", "a"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--controllers=,"], "--controllers names none"),
        (["--partition=mig", "--devices=0"], "holds the MIG slice"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    short: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    done = run_cli(
        "live-compare", str(short), "--partition=emulated", "--devices=", *options, f"--out={tmp_path / 'o'}"
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_the_day_of_another_policy_is_not_gone_on_with(short: Path, tmp_path: Path) -> None:
    scenario = load_scenario(short)
    signals = draw_signals(
        scenario, scenario.model().baseline.capacity, "test", 1.0, np.random.default_rng([0, 4])
    )
    identity = {"scenario": scenario.to_dict(), "w": 0.1, "seed": 0, "partition": "emulated"}
    identity |= {"signals_sha256": signals.sha256, "profile_hash": scenario.model().profile.hash}
    kept = Kept(tmp_path, identity)
    kept.begin()
    kept.day("policy", {"bundle_sha256": "another", "measured": {}})
    arguments = ["live-compare", str(short), "--partition=emulated", "--devices=", "--controllers=policy"]
    done = run_cli(*arguments, "--policy=demo", f"--out={tmp_path}")
    assert done.returncode == 2
    assert "the day of another policy" in done.stderr


@pytest.mark.slow
def test_a_comparison_that_is_killed_keeps_the_days_that_have_ended(short: Path, tmp_path: Path) -> None:
    arguments = ["live-compare", str(short), "--partition=emulated", "--devices="]
    arguments += ["--controllers=base,static", f"--out={tmp_path}", "--json", "--no-calibrate"]
    killed = subprocess.Popen([*CLI, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120.0
    while not (tmp_path / "day-base.json").exists():
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "day-static.json").exists()
    killed.send_signal(signal.SIGINT)
    killed.wait(60.0)
    kept = json.loads((tmp_path / "day-base.json").read_text())
    done = run_cli(*arguments)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [run["controllers"] for run in document["runs"]] == [["base"], ["static"]]
    assert document["days"]["base"]["measured"] == kept["measured"]
    assert document["days"]["static"]["client"]["lost"] == 0


@pytest.mark.slow
def test_two_short_days_are_served_and_a_finished_comparison_is_not_run_again(
    short: Path, tmp_path: Path
) -> None:
    arguments = ["live-compare", str(short), "--partition=emulated", "--devices="]
    arguments += ["--controllers=base,static", f"--out={tmp_path}", "--json", "--no-calibrate"]
    first = run_cli(*arguments)
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert list(document["days"]) == ["base", "static"]
    for day in document["days"].values():
        assert len(day["measured"]["steps"]) == 12
        assert day["client"]["sent"] > 0
        assert day["client"]["lost"] == 0
    again = run_cli(*arguments)
    assert json.loads(again.stdout)["days"] == document["days"]
    other = run_cli(*arguments, "--w=0.2")
    assert other.returncode != 0
    assert "another comparison" in other.stderr
