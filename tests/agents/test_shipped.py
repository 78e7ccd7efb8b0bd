"""Policies shipped: each opens, replays and fits its scenario of today; names lead to files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clover_rl.agents import shipped
from clover_rl.agents.bundle import open_bundle
from clover_rl.agents.packing import MOST_BYTES, headline, pack
from clover_rl.agents.shipped import resolve_bundle, shipped_for, shipped_names, shipped_policy
from clover_rl.agents.train.recipe import load_recipe
from clover_rl.cli.policies import policy_document
from clover_rl.cli.policy_choice import controller_or_bundle
from clover_rl.envs.scenario import load_scenario, scenario_names
from clover_rl.errors import BundleError, InputError
from tests.cli.process import run_cli, run_here

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = str(REPOSITORY / "tests" / "data" / "small-scenario.yaml")
FAST = ("demo",)
"""Their tables are built in the fast suite; the others' catalogues are compared with --slow."""


@pytest.fixture(scope="module")
def packed(run: Path, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of policies with `small` in it, packed from a run, its bundle and its evaluation."""
    folder = tmp_path_factory.mktemp("policies")
    evaluation = folder / "evaluation.json"
    evaluation.write_text(json.dumps(evaluated(bundle_path)))
    pack(run, bundle_path, evaluation, folder / "packed")
    return folder / "packed"


def evaluated(bundle: Path) -> dict[str, Any]:
    """The document of a short evaluation, as if asked for with an absolute path."""
    short = ("--windows", "1", "--days", "0.1", "--w", "0.1", "--against", "base", "--json")
    done = run_cli("evaluate", SMALL, "--policy", str(bundle), *short, timeout=300.0)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"command": "clover-rl evaluate /some/where/small.yaml --days 0.1"}


@pytest.fixture
def as_shipped(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as if it were the package's."""
    monkeypatch.setattr(shipped, "FOLDER", packed)
    return packed


# --- those in the package


def shipped_faults(name: str, *, catalogue: bool) -> list[str]:
    """What is wrong with a shipped policy, one sentence each."""
    policy = shipped_policy(name)
    record = policy.record()
    bundle = open_bundle(policy.bundle)
    bundle.replay()
    load_recipe(policy.recipe)
    faults = []
    if record.bundle_sha256 != bundle.sha256:
        faults.append("result.json is of another bundle")
    if bundle.manifest["scenario"]["name"] != record.scenario:
        faults.append("result.json is of another scenario")
    if policy.bundle.stat().st_size > MOST_BYTES:
        faults.append("the bundle is too large to ship")
    source = SMALL if record.scenario == "small" else record.scenario
    scenario = load_scenario(source)
    if bundle.manifest["profile_hash"] != scenario.loaded_profile.hash:
        faults.append("the profile has changed since")
    if bundle.manifest["gpus"] != scenario.gpus:
        faults.append("the scenario has another number of GPUs")
    if any(path.is_absolute() for command in record.commands for path in map(Path, command.split())):
        faults.append("a command names a path of somebody's machine")
    if catalogue:
        try:
            bundle.check(scenario.model())
        except BundleError as error:
            faults.append(str(error))
    return faults


def test_every_shipped_policy_opens_replays_and_has_its_records() -> None:
    faults = {name: shipped_faults(name, catalogue=name in FAST) for name in shipped_names()}
    assert {name: found for name, found in faults.items() if found} == {}


@pytest.mark.slow
def test_every_shipped_policy_chooses_from_its_scenarios_present_catalogue() -> None:
    faults = {name: shipped_faults(name, catalogue=True) for name in shipped_names()}
    assert {name: found for name, found in faults.items() if found} == {}


def test_every_folder_of_policies_is_whole_and_of_a_shipped_scenario() -> None:
    folders = {path.name for path in shipped.FOLDER.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders == set(shipped_names())
    assert {shipped_policy(name).record().scenario for name in shipped_names()} <= set(scenario_names())


def test_the_check_finds_what_is_wrong(as_shipped: Path, tmp_path: Path, monkeypatch: Any) -> None:
    assert shipped_faults("small", catalogue=True) == []
    copy = tmp_path / "policies"
    shutil.copytree(as_shipped, copy)
    monkeypatch.setattr(shipped, "FOLDER", copy)
    result = copy / "small" / "result.json"
    content = json.loads(result.read_text())
    content |= {"bundle_sha256": 64 * "0", "commands": ["clover-rl train /home/me/x.yaml"]}
    result.write_text(json.dumps(content))
    faults = shipped_faults("small", catalogue=False)
    assert faults == ["result.json is of another bundle", "a command names a path of somebody's machine"]
    damaged = bytearray((copy / "small" / "small.clover").read_bytes())
    damaged[1000] ^= 1
    (copy / "small" / "small.clover").write_bytes(damaged)
    with pytest.raises(BundleError):
        shipped_faults("small", catalogue=False)


def test_a_wheel_holds_them(tmp_path: Path, packed: Path) -> None:
    """A wheel of a copy of this package with a policy in it; no network is needed for that."""
    pytest.importorskip("setuptools", "77")  # as pyproject.toml wants it; pip would fetch it
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path)
    policies = shipped.FOLDER.relative_to(REPOSITORY)
    shutil.copytree(
        *(REPOSITORY / "clover_rl", tmp_path / "clover_rl"),
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
    )
    shutil.copytree(packed, tmp_path / policies, dirs_exist_ok=True)
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "clover_rl/cli/reporting/page.css" in names
    held = {name for name in names if name.startswith(f"{policies.as_posix()}/small/")}
    parts = ("small.clover", "recipe.yaml", "training.json", "result.json")
    assert held == {f"{policies.as_posix()}/small/{part}" for part in parts}


# --- packing


def test_a_packed_policy_says_how_it_was_made_and_what_it_achieved(
    as_shipped: Path, bundle_path: Path
) -> None:
    policy = shipped_policy("small")
    assert policy.bundle.read_bytes() == bundle_path.read_bytes()
    record = policy.record()
    assert record.commands[0] == "clover-rl train small --recipe small/recipe.yaml"
    assert record.commands[1].startswith("clover-rl export small -o small.clover --name ")
    assert record.commands[2] == "clover-rl evaluate small.yaml --days 0.1"
    assert json.loads(policy.training.read_text())["history"]
    found = policy_document(policy)
    assert found["recipe"] == "pretrained"
    assert found["size_bytes"] == bundle_path.stat().st_size
    assert set(found["figures"]) == set(found["kinds"])
    assert found["kinds"]["carbon_saving_mean"] == "modelled"
    assert found["kinds"]["decision_us_mean"] == "measured"
    (window,) = found["windows"]
    assert set(window["controllers"]) == {"base", "static", "oracle", "policy"}


def test_headline_figures_leave_out_shares_of_an_empty_headroom() -> None:
    def row(share: float | None, carbon: float, held: float) -> dict[str, Any]:
        own = {"headroom_share": share, "carbon_g_per_request": carbon, "base_carbon_g_per_request": 4.0}
        return {
            "controllers": {"policy": own | {"accuracy_loss": 0.01, "sla_held": held, "decision_us": 5.0}}
        }

    found = headline([row(0.8, 2.0, 1.0), row(0.6, 3.0, 0.99), row(None, 1.0, 0.98)])
    assert found["headroom_share_mean"] == pytest.approx(0.7)
    assert found["headroom_share_min"] == 0.6
    assert found["windows_with_gap"] == 2
    assert found["carbon_saving_mean"] == pytest.approx(0.5)
    assert found["sla_held_min"] == 0.98
    assert headline([row(None, 1.0, 1.0)])["headroom_share_mean"] is None


def test_packing_refuses_what_does_not_belong_together(
    run: Path, bundle_path: Path, packed: Path, tmp_path: Path
) -> None:
    right = json.loads((packed.parent / "evaluation.json").read_text())
    evaluation = tmp_path / "evaluation.json"

    def attempt(content: object, bundle: Path = bundle_path, into: Path = tmp_path / "into") -> None:
        evaluation.write_text(content if isinstance(content, str) else json.dumps(content))
        pack(run, bundle, evaluation, into)

    with pytest.raises(InputError, match="is of the scenario `demo`, the bundle of `small`"):
        attempt(right | {"scenario": "demo"})
    with pytest.raises(InputError, match="no document of `clover-rl evaluate --json` with one policy"):
        attempt(right | {"windows": [{"controllers": {}}]})
    other = right["inputs"] | {"policies": [right["inputs"]["policies"][0] | {"sha256": "0" * 64}]}
    with pytest.raises(InputError, match="is not the evaluation of this bundle alone"):
        attempt(right | {"inputs": other})
    with pytest.raises(InputError, match=r"evaluation\.json: .*windows"):
        attempt(right | {"windows": []})
    with pytest.raises(InputError, match="is no JSON"):
        attempt("{")
    with pytest.raises(InputError, match="holds no JSON object"):
        attempt([])
    (tmp_path / "search.clover").write_bytes(bundle_path.read_bytes())
    with pytest.raises(InputError, match="cannot be called `search`"):
        attempt(right, tmp_path / "search.clover")
    with pytest.raises(InputError, match="cannot be written"):
        attempt(right, into=Path("/dev/null/policies"))
    assert not (tmp_path / "into").exists()


# --- names


def test_names_lead_to_shipped_bundles_and_paths_to_files(as_shipped: Path, bundle_path: Path) -> None:
    assert resolve_bundle("small") == as_shipped / "small" / "small.clover"
    assert resolve_bundle(bundle_path) == bundle_path
    assert resolve_bundle("no/such.clover") == Path("no/such.clover")
    assert shipped_for("small") == as_shipped / "small" / "small.clover"
    assert shipped_for("demo") is None
    assert controller_or_bundle("search") == "search"
    assert controller_or_bundle("small") == as_shipped / "small" / "small.clover"


@pytest.mark.parametrize("name", ["nobody", "../small", "small/small", "", "a\0b", 5000 * "x"])
def test_an_unknown_name_is_one_sentence_that_lists_the_names(as_shipped: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=r"unknown policy `.*use one of small, or the path of a \.clover file$"
    ):
        resolve_bundle(name)
    with pytest.raises(InputError, match=r"a controller \(base, .*as a policy use one of small, or"):
        controller_or_bundle(name)


def test_without_any_shipped_the_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "none")
    assert shipped_names() == ()
    with pytest.raises(InputError, match="none is shipped yet"):
        resolve_bundle("small")


# --- commands


def test_list_and_show_print_tables_and_documents(
    as_shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run_here(monkeypatch, capsys, "policies", "list", "--json")
    assert status == 0
    (row,) = json.loads(out)
    assert row["name"] == row["scenario"] == "small"
    assert len(row["sha256"]) == 64
    assert row["catalogue_hash"]
    status, out, _ = run_here(monkeypatch, capsys, "policies", "list")
    assert row["sha256"][:12] in out
    status, out, _ = run_here(monkeypatch, capsys, "policies", "show", "small")
    assert "clover-rl evaluate small.yaml --days 0.1" in out
    assert "modelled" in out
    status, out, _ = run_here(monkeypatch, capsys, "policies", "show", "small", "--json")
    assert len(json.loads(out)["windows"]) == 1
    status, out, err = run_here(monkeypatch, capsys, "policies", "show", "nobody")
    assert (status, out) == (2, "")
    assert err.startswith("error: unknown policy `nobody`; use one of small")


def told(err: str) -> str:
    """What stderr says besides the progress that a slow machine gets to see."""
    return "\n".join(line for line in err.splitlines() if not line.startswith("evaluating: "))


def test_an_evaluation_takes_the_scenarios_own_policy_and_says_when_there_is_none(
    as_shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--windows", "1", "--days", "0.1", "--w", "0.1", "--against", "base", "--json")
    for chosen in ((), ("--policy", "small")):
        status, out, err = run_here(monkeypatch, capsys, "evaluate", SMALL, *chosen, *short)
        assert (status, told(err)) == (0, "")
        assert "policy" in json.loads(out)["windows"][0]["controllers"]
    status, out, err = run_here(monkeypatch, capsys, "evaluate", SMALL, "--set", "gpus=1", *short)
    assert status == 0
    assert "policy" not in json.loads(out)["windows"][0]["controllers"]
    assert told(err) == (
        "note: the policy shipped for `small` is left out: the bundle is for the number of GPUs 2, "
        "the cluster's is 1; train and export a policy for this cluster"
    )
    monkeypatch.setattr(shipped, "FOLDER", as_shipped / "none")
    status, out, err = run_here(monkeypatch, capsys, "evaluate", SMALL, *short)
    assert status == 0
    assert told(err) == "note: no policy is shipped for `small`; name one with --policy to compare it"


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", SMALL, "--policy", "nobody"),
        ("deploy", "nobody"),
        ("serve", SMALL, "--controller", "nobody"),
        ("live-compare", SMALL, "--policy", "nobody"),
    ],
)
def test_every_command_that_takes_a_bundle_lists_the_names(
    as_shipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    if arguments[0] in ("serve", "live-compare"):
        pytest.importorskip("grpc_health", reason="serving is not installed")
    status, out, err = run_here(monkeypatch, capsys, *arguments)
    assert (status, out) == (2, "")
    assert "policy `nobody`" in err
    assert "use one of small, or the path" in err
