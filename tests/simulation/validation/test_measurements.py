"""Measurement files: rows become tests, and a wrong file is one sentence with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import InputError
from clover_rl.simulation.validation import (
    Mix,
    match_profiles,
    other_card_measurements,
    packaged_measurements,
    read_mixes,
)

HEADER = "layout,test,gpu_w,slice,variant,served_per_s,mean_ms,utilisation\n"


def read(folder: Path, *rows: str) -> list[Mix]:
    path = folder / "own.csv"
    path.write_text(HEADER + "".join(row + "\n" for row in rows))
    return read_mixes(path)


def shape(mixes: list[Mix]) -> list[tuple[str, list[str]]]:
    return [(mix.test, [f"{item.variant} {item.slice}" for item in mix.instances]) for mix in mixes]


def test_rows_of_one_test_make_one_mix_and_cards_without_an_instance_none(tmp_path: Path) -> None:
    mixes = read(
        tmp_path,
        *(",parked,71,,,,,", "2g 1g,idle,120,,,,,"),
        *("2g 1g,mix0,250,2g,b1,200,4.5,0.9", "2g 1g,mix0,250,1g,b7,8,120,0.96"),
        "2g 1g,mix1,251,2g,b3,120,8,0.96",
    )
    assert shape(mixes) == [("mix0", ["b1 2g", "b7 1g"]), ("mix1", ["b3 2g"])]
    assert mixes[0].gpu_w == 250
    assert mixes[0].instances[1].where.endswith("own.csv:5")


def test_instances_alone_stay_alone_even_if_the_watts_agree(tmp_path: Path) -> None:
    mixes = read(
        tmp_path,
        *("3g 3g,alone,190,3g,b1,340,2.9,1", "3g 3g,alone,190,3g,b3,200,4.6,1"),
        *("3g 3g,duty0.2,150,3g,b1,68,2.9,.2", "3g 3g,duty0.2,150,3g,b3,68,2.9,.2"),
    )
    assert [len(mix.instances) for mix in mixes] == [1, 1, 1, 1]


def test_a_test_run_again_is_told_by_the_slices_that_the_layout_has(tmp_path: Path) -> None:
    same = ("4g 3g,same,300,4g,b1,300,3.4,1", "4g 3g,same,300,3g,b1,300,3.5,1")
    assert shape(read(tmp_path, *same, *same)) == [("same", ["b1 4g", "b1 3g"])] * 2


def test_an_instance_that_served_nothing_is_not_busy(tmp_path: Path) -> None:
    mixes = read(
        tmp_path,
        *("4g 3g,mix,300,4g,b1,0,,0", "4g 3g,mix,300,3g,b1,300,3.5,1"),
        *("4g 3g,other,300,4g,b1,300,3.5,1", "4g 3g,other,300,3g,b1,0,nan,0"),
    )
    assert shape(mixes) == [("mix", ["b1 3g"]), ("other", ["b1 4g"])]


def test_a_layout_may_be_written_in_another_way(tmp_path: Path) -> None:
    mixes = read(tmp_path, "2g+1g,mix,250,2g,b1,200,4.5,1", "2g+1g,mix,250,1g,b1,100,7,1")
    assert [len(mix.instances) for mix in mixes] == [2]
    mixes = read(tmp_path, "two,mix,250,2g,b1,200,4.5,1", "two,mix,250,1g,b1,100,7,1")
    assert [len(mix.instances) for mix in mixes] == [2]


def test_the_packaged_files_hold_what_was_measured(shared_data: Path) -> None:
    files = packaged_measurements()
    assert [path.name for path in files] == [
        "h100_mps_albert_384tok.csv",
        "h100_mps_efficientnet_8img.csv",
    ]
    for path in files:
        assert path.read_bytes() == (shared_data / "gpu" / path.name).read_bytes()


@pytest.mark.parametrize("path", [*packaged_measurements(), *other_card_measurements()], ids=str)
def test_every_packaged_test_fits_its_layout_and_a_shipped_profile(path: Path) -> None:
    profiles = [load_profile("h100-efficientnet"), load_profile("h100-albert")]
    mixes = read_mixes(path)
    assert sum(len(mix.instances) > 1 for mix in mixes) in (37, 48)
    for profile, mix in match_profiles(mixes, profiles):
        assert profile.application.name in path.name
        slices = mix.layout.split()
        for item in mix.instances:
            slices.remove(item.slice)
        assert (len(mix.instances) == 1) == mix.test.startswith(("alone", "duty"))


GOOD = "7g,alone,200,7g,b1,400,2.5,1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layout,test\n", ":1: column `gpu_w` is missing"),
        ("", ":1: column `layout` is missing"),
        (HEADER, "no measured instance"),
        (HEADER + ",parked,70,,,,,\n", "no measured instance"),
        (HEADER + GOOD + "\n" + GOOD.replace("200", "x") + "\n", ":3: column `gpu_w`: expected a number"),
        (HEADER + GOOD.replace("200", "0") + "\n", ":2: column `gpu_w`: expected a number above 0"),
        (HEADER + GOOD.replace("400", "-1") + "\n", ":2: column `served_per_s`: expected a number of 0 or"),
        (HEADER + GOOD.replace("2.5", "nan") + "\n", ":2: column `mean_ms`"),
        (HEADER + GOOD.replace("2.5", "") + "\n", ":2: column `mean_ms`"),
        (HEADER + GOOD.replace(",2.5,1", ",2.5,1e999") + "\n", ":2: column `utilisation`"),
        (HEADER + "7g,alone,200\n", ":2: expected 8 fields"),
        (HEADER + GOOD + ",9\n", ":2: expected 8 fields"),
        (HEADER + GOOD + '\n7g,"alone,200\n', ":3: is no CSV"),
        (HEADER + "7g,alone,200,7g,b\xe9,400,2.5,1\n", "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_sentence_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"own\.csv") as caught:
        read_mixes(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_mixes(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1g 1g,mix,300,1g,zz,17,58,1"], ":2: variant `zz` belongs to no profile"),
        (
            ["1g 1g,mix,300,1g,b1,17,58,1", "1g 1g,mix,300,1g,base,17,58,1"],
            ":3: variant `base` is of another",
        ),
        (["6g,mix,300,6g,b1,17,58,1"], ":2: profile `h100-efficientnet` has no `b1` on a slice `6g`"),
    ],
)
def test_what_no_profile_knows_is_one_sentence_with_file_and_line(
    tmp_path: Path, h100: Profile, rows: list[str], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        match_profiles(read(tmp_path, *rows), [h100, load_profile("h100-albert")])
    assert said in str(caught.value)
