"""The command line: one JSON document on request, one sentence for a mistake, never a traceback."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clover_rl import __version__
from tests.serving.server_process import run_cli

SMALL = Path(__file__).resolve().parents[1] / "data" / "small-scenario.yaml"


def document(*arguments: str) -> object:
    done = run_cli(*arguments, "--json", timeout=120.0)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_version_and_help() -> None:
    assert run_cli("--version").stdout.strip() == __version__
    shown = run_cli("--help").stdout
    for name in ("demo", "train", "evaluate", "export", "serve", "deploy", "rollback", "status", "load"):
        assert name in shown


def test_scenarios_are_listed_shown_and_checked() -> None:
    names = {row["name"] for row in document("scenario", "list")}  # type: ignore[attr-defined]
    assert {"demo", "h100-efficientnet"} <= names
    shown = document("scenario", "show", "demo")
    assert isinstance(shown, dict)
    assert shown["gpus"] == 2
    assert shown["provenance"]["service"]["kind"] == "modelled"
    assert run_cli("scenario", "check", str(SMALL)).stdout.startswith("small: fine")


def test_the_whole_way_from_training_to_evaluation(tmp_path: Path) -> None:
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(
        "name: quick\nabout: seconds\nseconds: 2\nenvs: 16\nhidden: [16]\nmemory: 1024\n"
        "validation_episodes: 1\nvalidation_days: 0.1\n"
    )
    run, bundle = tmp_path / "run", tmp_path / "policy.clover"
    trained = document("train", str(SMALL), "--recipe", str(recipe), "--out", str(run), "--seed", "2")
    assert isinstance(trained, dict)
    assert trained["run"] == str(run)
    exported = document("export", str(run), "-o", str(bundle))
    assert isinstance(exported, dict)
    assert exported["vectors"] == 1000
    found = document(
        *("evaluate", str(SMALL), "--policy", str(bundle), "--against", "base", "--windows", "1"),
        *("--days", "0.1", "--w", "0.1"),
    )
    assert isinstance(found, dict)
    (window,) = found["windows"]
    assert {"base", "static", "oracle", "policy"} == set(window["controllers"])
    assert found["command"].startswith("clover-rl evaluate")


def test_the_headroom_report_is_a_document_and_a_table() -> None:
    arguments = ("scenario", "headroom", str(SMALL), "--windows", "1", "--days", "0.1")
    report = document(*arguments)
    assert isinstance(report, dict)
    assert [row["w"] for row in report["rows"]] == [0.05, 0.1]
    assert "worth training" in run_cli(*arguments).stdout


CARBON = "offset_s,gco2_per_kwh\n0,200\n3600,210\n7200,nan\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scenario", "show", "nosuch"), "unknown scenario `nosuch`"),
        (("scenario", "check", "{tmp}/bad.yaml"), "unknown key `gpu`"),
        (("scenario", "check", "{tmp}/broken.yaml"), "broken.yaml:3: is not valid YAML"),
        (("train", "demo", "--recipe", "magic"), "unknown recipe `magic`"),
        (("export", "{tmp}"), "is no run folder"),
        (("evaluate", "demo", "--against", "magic"), "unknown controller `magic`"),
        (("evaluate", str(SMALL), "--policy", "{tmp}/broken.yaml"), "damaged or no bundle"),
        (("evaluate", str(SMALL), "--carbon", "{tmp}/carbon.csv"), "go together"),
        (
            ("evaluate", str(SMALL), "--carbon", "{tmp}/carbon.csv", "--load", "{tmp}/carbon.csv"),
            "carbon.csv",
        ),
        (("serve", "h100-efficientnet", "--state", "{tmp}/state"), "nothing to serve|only `emulated` exists"),
        (("serve", "demo", "--w", "2"), "--w is 2"),
        (("serve", "demo", "--carbon", "{tmp}/carbon.csv"), "carbon.csv:4"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\ntitle: y\nprofile: demo\ngpu: 4\n")
    (tmp_path / "broken.yaml").write_text("name: x\ntitle: [y\nprofile: z\n")
    (tmp_path / "carbon.csv").write_text(CARBON)
    done = run_cli(*(text.replace("{tmp}", str(tmp_path)) for text in arguments), timeout=120.0)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(said, last), last
    assert done.stdout == ""
