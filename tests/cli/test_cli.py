"""The command line: one JSON document on request, one sentence for a mistake, never a traceback."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clover_rl import __version__
from tests.cli.process import run_cli, run_here

SMALL = str(Path(__file__).resolve().parents[1] / "data" / "small-scenario.yaml")
FILES = ("evaluate", SMALL, "--carbon", "{tmp}/days.csv", "--load", "{tmp}/load.csv", "--days", "0.1")


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
    assert run_cli("scenario", "check", SMALL).stdout.startswith("small: fine")


def write_recipe(folder: Path) -> Path:
    """A recipe that ends in two seconds."""
    recipe = folder / "quick.yaml"
    recipe.write_text(
        "name: quick\nabout: seconds\nseconds: 2\nenvs: 16\nhidden: [16]\nmemory: 1024\n"
        "validation_episodes: 1\nvalidation_days: 0.1\n"
    )
    return recipe


def test_the_whole_way_from_training_to_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path)
    run, bundle = tmp_path / "run", tmp_path / "policy.clover"
    trained = document("train", SMALL, "--recipe", str(recipe), "--out", str(run), "--seed", "2")
    assert isinstance(trained, dict)
    assert trained["run"] == str(run)
    exported = document("export", str(run), "-o", str(bundle))
    assert isinstance(exported, dict)
    assert exported["vectors"] == 1000
    found = document(
        *("evaluate", SMALL, "--policy", str(bundle), "--against", "base", "--windows", "1"),
        *("--days", "0.1", "--w", "0.1"),
    )
    assert isinstance(found, dict)
    (window,) = found["windows"]
    assert {"base", "static", "oracle", "policy"} == set(window["controllers"])
    assert {"carbon", "load", "w", "sla_ms", "gap"} <= set(window)
    for result in window["controllers"].values():
        assert set(result) >= {
            *("objective", "headroom_share", "carbon_g_per_request", "accuracy_loss", "sla_held"),
            *("transitions", "live_trials", "decision_us"),
        }
        assert 0.0 <= result["sla_held"] <= 1.0
    assert found["command"].startswith("clover-rl evaluate")

    twin = tmp_path / "twin" / bundle.name
    twin.parent.mkdir()
    twin.write_bytes(bundle.read_bytes())
    both = ("evaluate", SMALL, "--policy", str(bundle), "--policy", str(twin))
    require_one_sentence(*run_here(monkeypatch, capsys, *both), "two controllers are called `policy policy`")
    damaged = bytearray(bundle.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    bundle.write_bytes(damaged)
    status, out, err = run_here(monkeypatch, capsys, "evaluate", SMALL, "--policy", str(bundle))
    require_one_sentence(status, out, err, "damaged or no bundle|is not what the manifest says")
    status, out, err = run_here(monkeypatch, capsys, "export", str(run), "-o", str(tmp_path / "no" / "x"))
    require_one_sentence(status, out, err, "cannot be written")


def test_the_headroom_report_is_a_document_and_a_table() -> None:
    arguments = ("scenario", "headroom", SMALL, "--windows", "1", "--days", "0.1")
    report = document(*arguments)
    assert isinstance(report, dict)
    assert [row["w"] for row in report["rows"]] == [0.05, 0.1]
    assert "worth training" in run_cli(*arguments).stdout


def write_traces(folder: Path, hours: int = 24) -> tuple[str, str]:
    """Hourly carbon from 2021-03-01 with timestamps, and load in bins of ten minutes."""
    first = datetime(2021, 3, 1, tzinfo=UTC)
    rows = [f"{(first + timedelta(hours=h)):%Y-%m-%dT%H:%M:%SZ},{150 + 10 * h}" for h in range(hours + 1)]
    (folder / "days.csv").write_text("\n".join(["timestamp,gco2_per_kwh", *rows, ""]))
    bins = [f"{600 * b},{900 + 10 * (b % 50)}" for b in range(6 * hours)]
    (folder / "load.csv").write_text("\n".join(["offset_s,requests", *bins, ""]))
    return str(folder / "days.csv"), str(folder / "load.csv")


def test_files_are_evaluated_from_a_timestamp_or_the_same_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carbon, load = write_traces(tmp_path)
    common = [*("evaluate", SMALL, "--carbon", carbon, "--load", load, "--against", "base"), "--json"]
    common += ["--w", "0.1", "--days", "0.1"]
    found = []
    for start in ("2021-03-01T06:00:00Z", "2021-03-01T07:00:00+01:00", "21600", "0"):
        status, out, _ = run_here(monkeypatch, capsys, *common, "--start", start)
        assert status == 0
        (window,) = json.loads(out)["windows"]
        found.append(window["controllers"]["base"]["carbon_g_per_request"])
        assert (window["carbon"], window["load"], window["steps"]) == ("days", "load", 28)
        assert window["load_factor"] > 0
    assert found[0] == found[1] == found[2] > 1.2 * found[3]  # intensity rises through the day


def test_a_results_folder_holds_the_document_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    common = ["evaluate", SMALL, "--against", "base", "--windows", "1", "--days", "0.05", "--w", "0.1"]
    common += ["--out", str(folder), "--json"]
    status, out, _ = run_here(monkeypatch, capsys, *common)
    assert status == 0
    first = json.loads(out)
    assert json.loads((folder / "result.json").read_text()) == first
    assert first["scenario_definition"]["gpus"] == 2
    runs = {path.stem: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    assert {run["run"] for run in first["windows"][0]["controllers"].values()} <= set(runs)
    status, out, _ = run_here(monkeypatch, capsys, *common)
    assert json.loads(out)["windows"] == first["windows"]  # times of decisions included: nothing ran again
    assert {path.stem: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == runs

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clover_rl.agents.tasks.run_controller", interrupt)
    status, out, err = run_here(monkeypatch, capsys, *common, "--w", "0.15")
    assert (status, out) == (130, "")
    assert "go on" in err
    assert "Traceback" not in err


def test_a_result_is_confirmed_where_its_traces_are_now_and_not_when_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carbon, load = write_traces(tmp_path)
    result = tmp_path / "results" / "result.json"
    common = ["evaluate", SMALL, "--carbon", carbon, "--load", load, "--against", "base", "--days", "0.05"]
    status, out, _ = run_here(
        monkeypatch, capsys, *common, "--w", "0.05", "--w", "0.1", "--causes", "--out", str(result.parent)
    )
    assert status == 0
    assert "parked" in out  # the split by cause
    status, out, _ = run_here(monkeypatch, capsys, "evaluate", "--check", str(result))
    assert status == 0
    assert "confirmed: all figures of 2 rows" in out
    moved = tmp_path / "moved.csv"
    Path(carbon).rename(moved)
    options = ["evaluate", "--check", str(result), "--check-sample", "2", "--json"]
    require_one_sentence(*run_here(monkeypatch, capsys, *options), "say with --carbon where it is now")
    status, out, _ = run_here(monkeypatch, capsys, *options, "--carbon", str(moved))
    assert json.loads(out)["runs"] == 2
    changed = json.loads(result.read_text())
    changed["windows"][0]["controllers"]["oracle"]["sla_held"] = 0.5
    result.write_text(json.dumps(changed))
    options = ["evaluate", "--check", str(result), "--carbon", str(moved)]
    require_one_sentence(
        *run_here(monkeypatch, capsys, *options),
        r"windows\[0\]\.controllers\.oracle\.sla_held is 0\.5 in the file",
    )
    result.write_text("{")
    require_one_sentence(*run_here(monkeypatch, capsys, *options), "cannot be read")
    result.write_text("[]")
    require_one_sentence(*run_here(monkeypatch, capsys, *options), "is no result file")


def test_robustness_is_one_table_for_each_window_and_weight(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["evaluate", SMALL, "--against", "base", "--windows", "1", "--days", "0.02", "--w", "0.1"]
    status, out, _ = run_here(monkeypatch, capsys, *common, "--robust")
    assert status == 0
    for words in ("as modelled", "service x 1.2", "8 bursts a day", "feeds out for 4 h a day"):
        assert words in out
    assert out.count("┏") == 1


def test_policies_that_differ_in_their_seed_are_pooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        run, recipe = str(tmp_path / f"run{seed}"), str(write_recipe(tmp_path))
        document("train", SMALL, "--recipe", recipe, "--out", run, "--seed", str(seed))
        document("export", run, "-o", str(tmp_path / f"s{seed}.clover"))
    common = ["evaluate", SMALL, "--against", "base", "--windows", "1", "--days", "0.05", "--w", "0.1"]
    pattern = str(tmp_path / "s*.clover")
    status, out, err = run_here(monkeypatch, capsys, *common, "--policy-seeds", pattern, "--json")
    assert status == 0, err
    controllers = json.loads(out)["windows"][0]["controllers"]
    assert controllers["policy"]["members"] == ["policy seed 1", "policy seed 2"]
    members = [controllers[name]["objective"] for name in controllers["policy"]["members"]]
    assert controllers["policy"]["objective"] == pytest.approx(sum(members) / 2)
    status, out, _ = run_here(monkeypatch, capsys, *common, "--policy-seeds", pattern)
    assert "policy (mean of 2)" in out
    one = ["--policy-seeds", str(tmp_path / "s1.clover")]
    require_one_sentence(*run_here(monkeypatch, capsys, *common, *one), "1 bundles are no sample")
    nothing = ["--policy-seeds", str(tmp_path / "none*.clover")]
    require_one_sentence(*run_here(monkeypatch, capsys, *common, *nothing), "no bundle is called")


def test_sci_is_a_figure_of_its_own_where_the_scenario_counts_embodied_carbon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carbon, load = write_traces(tmp_path)
    profile = Path(SMALL).with_name("small-profile.yaml")
    text = Path(SMALL).read_text().replace("small-profile.yaml", str(profile))
    own = tmp_path / "own.yaml"
    own.write_text(text + "embodied: {lifetime_years: 4}\n")
    options = ["--carbon", carbon, "--load", load, "--against", "base", "--w", "0.1", "--days", "0.1"]
    found = {}
    for scenario in (SMALL, str(own)):
        status, out, _ = run_here(monkeypatch, capsys, "evaluate", scenario, *options, "--json")
        assert status == 0
        found[scenario] = json.loads(out)
    plain, counted = (item["windows"][0]["controllers"]["base"] for item in found.values())
    assert found[SMALL]["sci"] is plain["sci_g_per_request"] is plain["embodied_g_per_request"] is None
    assert found[SMALL]["intensity_kind"] == found[str(own)]["sci"]["intensity_kind"] == "average life-cycle"
    assert (found[str(own)]["sci"]["embodied_kg_per_gpu"], found[str(own)]["sci"]["gpus"]) == (164, 2)
    assert counted["carbon_g_per_request"] == plain["carbon_g_per_request"]
    assert counted["objective"] == plain["objective"]
    assert counted["sci_g_per_request"] == pytest.approx(
        counted["carbon_g_per_request"] + counted["embodied_g_per_request"]
    )
    status, out, _ = run_here(monkeypatch, capsys, "evaluate", str(own), *options)
    assert status == 0
    assert "SCI adds embodied carbon to gCO2/request (average life-cycle): 164 kgCO2e a GPU" in out


def test_a_scenario_is_changed_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = ["--set", "gpus=1", "--set", "load.peak_share=0.5", "--set", "weights.evaluate=[0.07]"]
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "show", SMALL, *changed, "--json")
    assert status == 0
    shown = json.loads(out)
    assert (shown["gpus"], shown["load"]["peak_share"], shown["weights"]["evaluate"]) == (1, 0.5, [0.07])
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "check", SMALL, "--set", "gpus=3", "--json")
    assert (status, json.loads(out)["gpus"]) == (0, 3)
    plan = ("scenario", "plan", SMALL, "base", "co2opt", "--set", "gpus=1", "--json")
    status, out, _ = run_here(monkeypatch, capsys, *plan)
    assert status == 0
    assert {step["gpu"] for step in json.loads(out)["plan"]["steps"]} == {0}


def test_headroom_and_evaluation_take_the_same_files_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carbon, load = write_traces(tmp_path)
    common = (SMALL, "--carbon", carbon, "--load", load, "--days", "0.1", "--start", "21600", "--json")
    common += ("--set", "weights.evaluate=[0.1]")
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "headroom", *common)
    assert status == 0
    report = json.loads(out)
    (row,) = report["rows"]
    assert (report["windows"], row["w"]) == (1, 0.1)
    status, out, _ = run_here(monkeypatch, capsys, "evaluate", *common, "--against", "base,search")
    assert status == 0
    (window,) = json.loads(out)["windows"]
    assert window["w"] == 0.1
    for name in ("base", "static", "search", "oracle"):
        assert window["controllers"][name]["objective"] == pytest.approx(row[name], abs=1e-12)


def test_training_on_files_leaves_their_last_quarter_to_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carbon, load = write_traces(tmp_path, hours=96)
    recipe = tmp_path / "quick.yaml"
    recipe.write_text(
        "name: quick\nabout: seconds\nseconds: 1\nenvs: 4\nhidden: [8]\nmemory: 1024\n"
        "validation_episodes: 1\nvalidation_days: 0.1\n"
    )
    run = tmp_path / "run"
    status, _, err = run_here(
        monkeypatch,
        capsys,
        *("train", SMALL, "--recipe", str(recipe), "--out", str(run), "--carbon", carbon, "--load", load),
        *("--set", "episode.days=0.2", "--set", "weights.evaluate=[0.1]", "--json"),
    )
    assert status == 0, err
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "show", str(run / "scenario.yaml"), "--json")
    shown = json.loads(out)
    assert (shown["carbon"]["files"], shown["carbon"]["train_share"]) == ([carbon], 0.75)
    assert (shown["load"]["files"], shown["load"]["train_share"]) == ([load], 0.75)
    status, out, _ = run_here(
        monkeypatch,
        capsys,
        *("evaluate", str(run / "scenario.yaml"), "--against", "base", "--days", "0.1", "--windows", "2"),
        "--json",
    )
    assert status == 0
    assert [(row["carbon"], row["load"]) for row in json.loads(out)["windows"]] == [("days", "load")] * 2


def test_a_check_reads_the_files_of_a_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_traces(tmp_path)
    own = tmp_path / "own.yaml"
    text = "name: own\ntitle: My own\nprofile: h100-albert\nepisode: {days: 0.5}\n"
    own.write_text(text + "carbon: {files: [days.csv]}\nload: {files: [load.csv]}\n")
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "check", str(own), "--json")
    assert status == 0
    assert json.loads(out)["files"] == {
        "carbon": [{"name": "days", "hours": 24.0}],
        "load": [{"name": "load", "hours": 24.0}],
    }
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "check", str(own))
    assert "  carbon days: 24 h\n  load load: 24 h" in out
    for change, said in (
        ("carbon.train_share=0.6", "the part for testing covers 9 h, less than an episode"),
        ("load.train_share=0.4", "the part for training covers 9.66667 h, less than an episode"),
        ("episode.days=3", "the file covers 24 h, less than an episode"),
        ("carbon.files=[load.csv]", r"load\.csv:1: the column gco2_per_kwh is missing"),
    ):
        require_one_sentence(
            *run_here(monkeypatch, capsys, "scenario", "check", str(own), "--set", change), said
        )


def test_the_schema_is_printed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed, _ = run_here(monkeypatch, capsys, "scenario", "schema")
    assert status == 0
    assert json.loads(printed)["properties"]["gpus"]["maximum"] == 64
    path = tmp_path / "scenario.schema.json"
    status, out, _ = run_here(monkeypatch, capsys, "scenario", "schema", "-o", str(path))
    assert status == 0
    assert path.read_text() == printed
    assert f"# yaml-language-server: $schema={path}" in out
    require_one_sentence(
        *run_here(monkeypatch, capsys, "scenario", "schema", "-o", str(tmp_path)), "cannot be written"
    )


CARBON = "offset_s,gco2_per_kwh\n0,200\n3600,210\n7200,nan\n"
SERVE = [
    (
        ("serve", "h100-efficientnet", "--state", "{tmp}/state"),
        "slices made with mps, and the partition backend is emulated",
    ),
    (("serve", "demo", "--w", "2"), "--w is 2"),
    (("serve", "demo", "--set", "gpus=0"), "--set gpus=0: key `gpus`"),
    (("serve", "demo", "--carbon", "{tmp}/carbon.csv"), r"carbon\.csv:4"),
]
MISTAKES = [
    (("scenario", "show", "nosuch"), "unknown scenario `nosuch`"),
    (("scenario", "show", "{tmp}/absent.yaml"), "does not exist"),
    (("scenario", "check", "{tmp}/bad.yaml"), "unknown key `gpu`"),
    (("scenario", "check", "{tmp}/broken.yaml"), r"broken\.yaml:3: is not valid YAML"),
    (("scenario", "check", "{tmp}/other.yaml"), "profile"),
    (
        ("scenario", "check", "{tmp}/twice.yaml"),
        r"twice\.yaml:4: .*key `title` is given twice, first in line 2",
    ),
    (("scenario", "headroom", SMALL, "--days", "inf"), "a window of inf days"),
    (("scenario", "headroom", SMALL, "--carbon", "{tmp}/days.csv"), "go together"),
    (("scenario", "show", SMALL, "--set", "gpus"), "--set gpus: no value is given"),
    (("scenario", "show", SMALL, "--set", "gpu=1"), "did you mean `gpus`"),
    (("scenario", "plan", SMALL, "base", "base", "--set", "pue=0"), "--set pue=0: key `pue`: "),
    (("scenario", "headroom", SMALL, "--set", "load.bin_s=x"), "--set load.bin_s=x: key `load.bin_s`: "),
    (("evaluate", SMALL, "--set", "carbon.kind=marginal"), "key `carbon.kind`: Input should be"),
    (("train", SMALL, "--set", "gpus=no"), "expected no yes or no"),
    (("train", SMALL, "--carbon", "{tmp}/carbon.csv"), r"carbon\.csv:4"),
    (("train", SMALL, "--load", "{tmp}/no.csv"), r"no\.csv: the file cannot be read"),
    (("train", "demo", "--recipe", "magic"), "unknown recipe `magic`"),
    (("train", "nosuch"), "unknown scenario `nosuch`"),
    (("train", SMALL, "--out", "{tmp}/bad.yaml", "--seconds", "1"), r"bad\.yaml: cannot be made"),
    (("export", "{tmp}"), "is no run folder"),
    (("evaluate", "demo", "--against", "magic"), "unknown controller `magic`"),
    (("evaluate", SMALL, "--policy", "{tmp}/broken.yaml"), "damaged or no bundle"),
    (("evaluate", SMALL, "--policy", "{tmp}/absent.clover"), "cannot be read"),
    (("evaluate", SMALL, "--carbon", "{tmp}/carbon.csv"), "go together"),
    (("evaluate", SMALL, "--carbon", "{tmp}/carbon.csv", "--load", "{tmp}/load.csv"), r"carbon\.csv:4"),
    (("evaluate", SMALL, "--carbon", "{tmp}/days.csv", "--load", "{tmp}/carbon.csv"), r"carbon\.csv:1"),
    (("evaluate", SMALL, "--carbon", "{tmp}/no.csv", "--load", "{tmp}/load.csv"), r"no\.csv"),
    (("evaluate", SMALL, "--w", "2", "--windows", "1", "--days", "0.1"), "w is 2"),
    (("evaluate", SMALL, "--days", "inf"), "a window of inf days"),
    (("evaluate", SMALL, "--out", "{tmp}/load.csv"), "no folder for results"),
    ((*FILES, "--start", "monday"), "--start `monday` is neither"),
    ((*FILES, "--start", "2021-03-01T00:00:00"), "needs a zone"),
    ((*FILES, "--start", "2020-03-01T00:00:00Z"), "use a --start within it"),
    ((*FILES, "--start", "nan"), "use a --start within it"),
    ((*FILES, "--start", "86100"), "less than a warm-up and one interval"),
    (
        (*FILES, "--carbon", "{tmp}/later.csv", "--start", "2021-03-01T06:00:00Z"),
        "begin at different moments",
    ),
]


def with_files(folder: Path, arguments: tuple[str, ...]) -> list[str]:
    write_traces(folder)
    (folder / "bad.yaml").write_text("name: x\ntitle: y\nprofile: demo\ngpu: 4\n")
    (folder / "twice.yaml").write_text("name: x\ntitle: y\nprofile: demo\ntitle: z\n")
    (folder / "broken.yaml").write_text("name: x\ntitle: [y\nprofile: z\n")
    (folder / "other.yaml").write_text("name: x\ntitle: y\nprofile: nosuch\n")
    (folder / "carbon.csv").write_text(CARBON)
    (folder / "later.csv").write_text((folder / "days.csv").read_text().replace("2021-03", "2021-04"))
    return [text.replace("{tmp}", str(folder)) for text in arguments]


def require_one_sentence(status: int, out: str, err: str, said: str) -> None:
    assert status == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(said, last), last
    assert out == ""


@pytest.mark.parametrize(("arguments", "said"), SERVE)
def test_a_mistake_is_one_sentence_and_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run_cli(*with_files(tmp_path, arguments), timeout=120.0)
    require_one_sentence(done.returncode, done.stdout, done.stderr, said)


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_so_is_a_mistake_of_any_other_kind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    require_one_sentence(*run_here(monkeypatch, capsys, *with_files(tmp_path, arguments)), said)


def test_a_mistake_in_an_option_is_no_traceback_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("bogus",), ("evaluate", SMALL, "--windows", "0"), ("train", "demo", "--seed", "x")):
        status, out, err = run_here(monkeypatch, capsys, *arguments)
        assert status == 2
        assert out == ""
        assert "Error: " in err
        assert "Traceback" not in err
