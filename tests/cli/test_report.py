"""clover-rl report: a page that holds every figure, escapes what it shows, and says what it leaves out."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clover_rl.cli.reporting.bands import gpus_of, mix_of
from clover_rl.cli.reporting.headroom_figure import interval_of
from clover_rl.cli.reporting.palette import chosen, look_of, ordered
from clover_rl.cli.reporting.results import Row, Run, Study, read_results
from clover_rl.cli.reporting.robustness import condition_name, robustness
from clover_rl.cli.reporting.tables import means
from tests.cli.process import run_here
from tests.cli.report_results import document, tiny, training, write_results

pytest.importorskip("matplotlib")

FIGURES = ["study1-frontier", "study1-headroom", "study1-causes", "study1-day1", "study1-day2", "learning"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: status, stdout, stderr."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        return run_here(monkeypatch, capsys, "report", *map(str, arguments))

    return invoke


class _Checker(HTMLParser):
    """Elements opened and closed, ids, and every address that an element names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")
        ]
        self.addresses += re.findall(r"url\(([^)]*)\)", " ".join(value or "" for _, value in attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "link"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_everything_is_on_the_page_and_in_files_beside_it(run: Any, tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", document())
    (results / "training.json").write_text(json.dumps(training()))
    out, figures = tmp_path / "new" / "report.html", tmp_path / "figures"
    status, shown, err = run(results, "-o", out, "--figures", figures, "--json")
    assert (status, err) == (0, "")
    told = json.loads(shown)
    assert told["figures"] == FIGURES
    assert told["left_out"] == []
    assert {path.name for path in figures.iterdir()} == {
        f"{n}.{end}" for n in FIGURES for end in ("svg", "png")
    }
    for name in FIGURES:
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(figures / f"{name}.svg")
    page = checked(out.read_text(encoding="utf-8"))
    assert len(page.ids) == len(set(page.ids))
    assert {f"{name}-title" for name in FIGURES} <= set(page.ids)
    for text in (
        "measured",
        "modelled",
        "clover-rl evaluate h100-efficientnet --out results",
        "python 3.11.7",
    ):
        assert text in page.text
    assert "what a test knows" in page.text


def test_the_page_asks_for_nothing_and_holds_no_script(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    run(write_results(tmp_path / "results", tiny()), "-o", out)
    page = checked(out.read_text(encoding="utf-8"))
    assert "script" not in page.names
    inside = {f"#{place}" for place in page.ids} | {"data:,"}
    assert set(page.addresses) <= inside


def test_names_are_escaped_wherever_they_are_shown(run: Any, tmp_path: Path) -> None:
    bad = "<script>alert('x')</script>"
    content = document(bad) | {"command": bad, "intensity_kind": bad, "versions": {bad: bad}, "seed": bad}
    for row in content["windows"]:
        row["carbon"] = row["load"] = bad
        row["controllers"]["policy " + bad] = dict(row["controllers"]["policy"])
    results = write_results(tmp_path / bad.replace("/", "_"), content)
    (results / "training.json").write_text(json.dumps(training()))
    out = tmp_path / "report.html"
    status, _, _ = run(results, "-o", out, "--title", bad)
    assert status == 0
    page = checked(out.read_text(encoding="utf-8"))
    assert "script" not in page.names
    assert page.text.count(bad) > 10


def test_the_same_results_give_the_same_bytes(run: Any, tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", tiny())
    (results / "training.json").write_text(json.dumps(training()))
    made = []
    for turn in ("a", "b"):
        run(results, "-o", tmp_path / turn / "report.html", "--figures", tmp_path / turn)
        made.append({path.name: path.read_bytes() for path in (tmp_path / turn).iterdir()})
    assert made[0] == made[1]
    assert b"Date" not in made[0]["learning.svg"]


def test_users_own_settings_of_matplotlib_change_nothing(run: Any, tmp_path: Path) -> None:
    import matplotlib

    results = write_results(tmp_path / "results", tiny(), runs=False)
    run(results, "-o", tmp_path / "a.html")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.hashsalt": None}):
        run(results, "-o", tmp_path / "b.html")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_what_the_results_do_not_hold_is_left_out_with_a_sentence(run: Any, tmp_path: Path) -> None:
    content = document()
    del content["equal_accuracy"]
    content["windows"] = [row for row in content["windows"] if not row["conditions"]]
    for row in content["windows"]:
        row["gap"] = None
        for figures in row["controllers"].values():
            for key in ("saving", "headroom_share", "accuracy_loss"):
                del figures[key]
    out = tmp_path / "report.html"
    status, _, err = run(write_results(tmp_path / "results", content, runs=False), "-o", out)
    assert status == 0
    sentences = err.strip().splitlines()
    assert len(sentences) == 7
    parts = ("frontier", "equal accuracy", "headroom", "cause", "robustness", "Days", "Learning")
    for part, sentence in zip(parts, sentences, strict=True):
        assert sentence.startswith("note: ")
        assert part in sentence
        assert sentence.removeprefix("note: ") in checked(out.read_text(encoding="utf-8")).text
    assert "<svg" not in out.read_text(encoding="utf-8")


def test_several_results_and_bare_documents_share_a_page(run: Any, tmp_path: Path) -> None:
    folder = write_results(tmp_path / "results", document())
    bare, record = tmp_path / "bare.json", tmp_path / "seed7.json"
    bare.write_text(json.dumps(document("demo")))
    record.write_text(json.dumps(training(7)))
    out = tmp_path / "report.html"
    status, shown, _ = run(folder, bare, record, "-o", out, "--json")
    assert status == 0
    assert json.loads(shown)["figures"] == [
        *FIGURES[:-1],
        *("study2-frontier", "study2-headroom", "study2-causes", "learning"),
    ]
    text = checked(out.read_text(encoding="utf-8")).text
    assert "seed7, seed 7" in text


def test_the_weight_shown_is_the_nearest_there_is(run: Any, tmp_path: Path) -> None:
    rows = [Row("a", "l", w, None, None, {}) for w in (0.02, 0.05, 0.1, 0.15)]
    study = Study("s", {}, rows)
    assert [study.nearest_weight(w) for w in (None, 0.0, 0.09, 1.0)] == [0.05, 0.02, 0.1, 0.15]
    out = tmp_path / "report.html"
    run(write_results(tmp_path / "results", tiny(), runs=False), "-o", out, "--w", "0.3")
    assert "Means over one window at w = 0.05" in out.read_text(encoding="utf-8")


def test_the_day_drawn_is_the_one_with_the_widest_swing(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    run(write_results(tmp_path / "results", document()), "-o", out)
    assert "day 2 of 2 (the widest swing of intensity)" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds neither result.json nor training.json"),
        ("{", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "it has no `windows`"),
        ('{"windows": []}', "it has no `windows`"),
        ('{"windows": [{"w": 0.1}]}', r"windows\[0\]: lacks its weight or its controllers"),
        ('{"windows": [{"controllers": {"a": {}}}]}', r"windows\[0\]: lacks"),
        ('{"windows": [{"w": true, "controllers": {"a": {}}}]}', r"windows\[0\]: lacks"),
        ('{"windows": [{"w": 0.1, "controllers": {}}]}', r"windows\[0\]: lacks"),
        ('{"windows": [3]}', r"windows\[0\]: lacks"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_result_is_one_sentence(run: Any, tmp_path: Path, content: str | None, said: str) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    if content is not None:
        (folder / "result.json").write_text(content)
    status, out, err = run(folder, "-o", tmp_path / "report.html")
    assert (status, out) == (2, "")
    assert re.match(rf"error: .*results.*{said}", err.strip())
    assert not (tmp_path / "report.html").exists()


def test_absent_results_and_places_that_cannot_be_written_are_one_sentence(run: Any, tmp_path: Path) -> None:
    status, _, err = run(tmp_path / "absent", "-o", tmp_path / "x.html")
    assert status == 2
    assert "absent: cannot be read" in err
    folder = write_results(tmp_path / "results", document())
    status, _, err = run(folder, "-o", "/dev/null/x.html")
    assert status == 2
    assert err.startswith("error: /dev/null: cannot be made")
    (tmp_path / "folder").mkdir()
    status, _, err = run(folder, "-o", tmp_path / "folder")
    assert "folder: cannot be written" in err
    status, _, err = run(folder, "-o", tmp_path / "x.html", "--figures", "/dev/null/x")
    assert "error: /dev/null/x: cannot be made" in err
    status, _, err = run(folder, "-o", tmp_path / "x.html", "--policy", "nobody")
    assert "unknown policy `nobody`" in err


def test_a_run_named_outside_its_folder_is_not_read(run: Any, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(json.dumps({"knows": "a secret", "series": {}}))
    content = document()
    for row in content["windows"]:
        for figures in row["controllers"].values():
            figures["run"] = "../../secret"
    out = tmp_path / "report.html"
    run(write_results(tmp_path / "results", content, runs=False), "-o", out)
    assert "a secret" not in out.read_text(encoding="utf-8")


def test_odd_numbers_are_shown_as_absent_rather_than_drawn(run: Any, tmp_path: Path) -> None:
    content = tiny()
    figures = content["windows"][0]["controllers"]["search"]
    figures |= {
        "carbon_g_per_request": None,
        "accuracy_loss": "much",
        "sla_held": True,
        "headroom_share": 1e999,
    }
    out = tmp_path / "report.html"
    folder = write_results(tmp_path / "results", content)
    assert run(folder, "-o", out)[0] == 0
    for path in (folder / "runs").glob("0-0_05-search*"):
        path.write_text(json.dumps({"series": {"hour": [0, None], "rate": [1], "carbon_g": ["x", 2]}}))
    assert run(folder, "-o", out)[0] == 0


# --- parts


def test_configurations_are_read_from_their_labels() -> None:
    assert mix_of("2x[4g:B3 3g:B1] + 2 parked") == pytest.approx({"B3": 8 / 7, "B1": 6 / 7})
    assert mix_of("1x[2*3g:small 1g.me:a:b]") == pytest.approx({"small": 6 / 7, "a:b": 1 / 7})
    assert mix_of("4 parked") == {}
    assert mix_of("something else") is None
    assert mix_of("") is None
    assert gpus_of("2x[4g:B3 3g:B1] + 2 parked") == 4
    assert gpus_of("3 parked") == 3


def test_labels_of_real_configurations_are_understood(small_model: Any) -> None:
    for configuration in small_model.catalogue:
        mix = mix_of(configuration.label())
        assert mix is not None
        assert sum(mix.values()) == pytest.approx(configuration.active)
        assert gpus_of(configuration.label()) == len(configuration.gpus)


def test_intervals_are_students() -> None:
    assert interval_of([1.0, 2.0]) is None
    low, high = interval_of([1.0, 2.0, 3.0, 4.0, 5.0]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-3)  # 2.776 x sqrt(2.5 / 5)
    narrow = interval_of([0.0, 1.0] * 40) or (0.0, 0.0)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * (0.2532 / 80) ** 0.5, rel=1e-3)


def test_controllers_keep_their_looks_and_their_order() -> None:
    names = ["oracle", "static", "policy seed10", "policy seed2", "search", "base", "policy"]
    assert ordered(names) == [
        *("policy", "policy seed2", "policy seed10", "search", "static", "base", "oracle"),
    ]
    assert look_of("search") == look_of("search", names)
    looks = [look_of(name, names) for name in names]
    assert len({(look.marker, look.dashes, look.colour) for look in looks}) == len(names)
    assert chosen(["oracle", "base", "blover", "search", "policy"], 3) == ["policy", "search", "oracle"]


def test_robustness_is_against_the_same_windows_as_modelled() -> None:
    def row(held: float, objective: float, window: str = "a", **conditions: float) -> Row:
        figures = {"sla_held": held, "objective": objective}
        return Row(window, "l", 0.1, 100.0, 0.01, {"search": Run(figures)}, conditions)

    plain = [row(1.0, 0.05), row(1.0, 0.5, "never disturbed")]
    study = Study("s", {}, plain, [row(0.9, 0.03, service=1.1), row(0.8, 0.02, service=0.9)])
    cells = [line.split("\n") for line in re.sub(r"<[^>]+>", "\n", robustness(study) or "").split("search")]
    text = [[cell for cell in line if cell] for line in cells]
    assert text[1][:4] == ["100.00 %", "100.00 %", "0.0500", "+0.0000"]
    assert text[2][:4] == ["90.00 %", "90.00 %", "0.0300", "-0.0200"]
    assert text[3][:4] == ["80.00 %", "80.00 %", "0.0200", "-0.0300"]
    assert robustness(Study("s", {}, plain)) is None


def test_conditions_are_named_in_words() -> None:
    assert condition_name({"energy": 1.1}) == "service x 1, energy x 1.1"
    bursts = {"bursts_per_day": 8.0, "burst_factor": 1.5, "burst_minutes": 15.0}
    assert condition_name(bursts) == "8 bursts of load a day of 15 min at x 1.5"
    assert condition_name({"moon": "full"}) == "moon full"
    assert condition_name({}) == "as modelled"


def test_means_are_over_windows_and_show_the_worst() -> None:
    def row(region: str, held: float) -> Row:
        figures = {"sla_held": held, "carbon_g_per_request": 0.5, "base_carbon_g_per_request": 1.0}
        return Row(region, "l", 0.1, 100.0, 0.01, {"search": Run(figures)})

    text = checked(means(Study("s", {}, [row("a", 1.0), row("b", 0.98)]), 0.1)).text
    assert "Means over 2 windows" in text
    assert "99.00 %" in text
    assert "98.00 %" in text
    assert "50.0 %" in text


def test_five_seeds_are_one_controller_with_whiskers(run: Any, tmp_path: Path) -> None:
    content = document()
    for row in content["windows"]:
        policy = row["controllers"].pop("policy")
        for seed in range(5):
            share = policy["headroom_share"]
            shifted = None if share is None else share + 0.01 * seed
            row["controllers"][f"policy seed{seed}"] = policy | {"headroom_share": shifted}
    figures = tmp_path / "figures"
    folder = write_results(tmp_path / "results", content, runs=False)
    run(folder, "-o", tmp_path / "r.html", "--figures", figures)
    assert "policies (5 seeds)" in (figures / "study1-headroom.svg").read_text()
    said = "each training seed. Last line: mean over windows, faint each window. Whiskers"
    assert said in (tmp_path / "r.html").read_text()


def test_pooled_seeds_are_drawn_once(run: Any, tmp_path: Path) -> None:
    content = tiny()
    controllers = content["windows"][0]["controllers"]
    policy = controllers["policy"]
    members = [f"policy seed {seed}" for seed in range(3)]
    controllers |= {name: dict(policy) for name in members}
    controllers["policy"] = policy | {"members": members, "run": None}
    figures = tmp_path / "figures"
    folder = write_results(tmp_path / "results", content)
    run(folder, "-o", tmp_path / "r.html", "--figures", figures)
    drawn = {path.stem: path.read_text() for path in figures.glob("*.svg")}
    assert "policies (3 seeds)" in drawn["study1-headroom"]
    assert "seed" not in drawn["study1-frontier"] + drawn["study1-causes"]
    assert "policy seed 0" in drawn["study1-day1"]
    assert "policy seed 1" not in drawn["study1-day1"]


def test_windows_drawn_from_one_pair_of_files_stay_apart(tmp_path: Path) -> None:
    content = tiny()
    row = content["windows"][0]
    content["windows"] = [row | {"window": 4}, row | {"window": 7}, row | {"window": 4, "w": 0.1}]
    (study,), _ = read_results(write_results(tmp_path / "results", content, runs=False))
    assert [(window[1], len(rows)) for window, rows in study.windows.items()] == [
        ("m-large #1", 2),
        ("m-large #2", 1),
    ]
