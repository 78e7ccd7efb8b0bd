"""clover-rl profile: every number with its source, figures, and a page that is what the profiles say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from clover_rl.cli.profile import profile_document
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile, profile_names
from tests.cli.process import run_here

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = str(REPOSITORY / "tests" / "data" / "small-profile.yaml")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> tuple[int, str, str]:
        return run_here(monkeypatch, capsys, "profile", *arguments)

    return command


def test_every_shipped_profile_is_listed_with_what_it_was_measured_on(run: Any) -> None:
    status, out, _ = run("list", "--json")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert set(rows) == set(profile_names())
    assert rows["h100-efficientnet"]["kinds"]["service"] == "measured"
    assert rows["h100-efficientnet-mig"]["kinds"]["service"] == "modelled"
    assert (rows["h100-albert"]["gpu"], rows["h100-albert"]["partition"]) == ("h100-80gb", "mps")
    status, out, _ = run("list")
    assert status == 0
    assert all(name in out for name in rows)


@pytest.mark.parametrize("name", profile_names())
def test_every_number_of_a_profile_is_shown_with_its_provenance(run: Any, name: str) -> None:
    status, out, err = run("show", name, "--json")
    assert (status, err) == (0, "")
    document, profile = json.loads(out), load_profile(name)
    for key, rows, scale in (
        ("service_ms", profile.service_s, 1000.0),
        ("energy_j", profile.energy_j, 1.0),
    ):
        for variant, row in rows.items():
            assert document[key][variant] == pytest.approx({s: scale * value for s, value in row.items()})
    assert document["hash"] == profile.hash
    assert document["power"]["idle_w"] == profile.power.idle_w
    assert document["times"]["load_s"] == dict(profile.times.load_s)
    assert (document["interference"] is None) == (profile.interference is None)
    for group, item in profile.provenance.items():
        shown = document["provenance"][group]
        assert (shown["kind"], shown["source"]) == (item.kind, item.source)
        assert shown["band"] == (list(item.band) if item.band else None)
    status, out, _ = run("show", name)
    assert status == 0
    assert all(f"  {group}" in out for group in profile.provenance)
    assert profile.provenance["service"].source in out
    for row in document["service_ms"].values():
        for value in row.values():
            assert re.search(rf"\b{re.escape(f'{value:g}')}\b", out), value


def test_pairs_that_differ_from_their_group_show_their_own_band(run: Any) -> None:
    _, out, _ = run("show", "h100-efficientnet-mig")
    assert "5.03 [0.74, 1.26]" in out
    assert "service.B1.2g: modelled, x 0.74 to 1.26" in out
    assert "modelled, x 0.71 to 1.29" in out


def test_a_pair_of_another_kind_than_its_group_says_so(run: Any, tmp_path: Path) -> None:
    text = Path(SMALL).read_text()
    text = text.replace("small-application.yaml", str(Path(SMALL).with_name("small-application.yaml")))
    line = "    L: {7g: 24.0, 4g: 34.0, 3g: 36.0}\n"
    assert line in text
    own = tmp_path / "own.yaml"
    own.write_text(
        text.replace(line, f"{line}  pairs: {{L: {{4g: {{kind: measured, source: our card}}}}}}\n")
    )
    status, out, _ = run("show", str(own))
    assert status == 0
    assert "34 (measured)" in out
    assert "service.L.4g: measured: our card" in out


def test_a_figure_is_drawn_and_its_numbers_are_in_the_document(run: Any, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "small.png"
    status, out, err = run("show", SMALL, "--figure", str(picture), "--gpus", "2", "--sla-ms", "60", "--json")
    assert (status, err) == (0, "")
    assert picture.read_bytes().startswith(PNG)
    curves = json.loads(out)["load_curves"]
    assert (curves["gpus"], curves["sla_ms"]) == (2, 60.0)
    assert [curve["name"] for curve in curves["curves"]] == ["BASE", "half parked", "middle", "CO2OPT"]
    for curve in curves["curves"]:
        for points in (curve["table"], curve["event"]):
            assert len(points["load_per_s"]) == len(points["p95_ms"]) == len(points["energy_j_per_request"])
    status, out, _ = run("show", SMALL, "--figure", str(picture), "--gpus", "2")
    assert status == 0
    assert "half parked: 1x[7g:L] + 1 parked" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nothing"), "unknown profile `nothing`; use one of a100-albert"),
        (("show", "no.yaml"), "no.yaml does not exist"),
        (("show", SMALL, "--sla-ms", "0"), "--sla-ms is 0"),
        (("show", SMALL, "--figure", "/dev/null/x.png"), "/dev/null/x.png: cannot be written"),
        (("show", SMALL, "--figure", "{tmp}/x.nothing"), "x.nothing: cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    run: Any, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = run(*(part.format(tmp=tmp_path) for part in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_card_without_embodied_carbon_says_so(h100: Profile) -> None:
    assert profile_document(h100)["embodied_kg"] == 164
    assert profile_document(h100)["provenance"]["embodied"]["kind"] == "published"


def test_the_page_and_its_figures_are_what_the_profiles_say() -> None:
    from clover_rl.cli.profile_page import FIGURED, GPUS, page
    from clover_rl.simulation.load_curves import load_curves

    written = (REPOSITORY / "docs" / "profiles.md").read_text(encoding="utf-8")
    assert page([load_curves(load_profile(name), GPUS) for name in FIGURED]) == written
    for name in FIGURED:
        assert f"({name}.png)" in written
        assert (REPOSITORY / "docs" / f"{name}.png").read_bytes().startswith(PNG)
