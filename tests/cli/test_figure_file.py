"""Writing figures: folders made, formats by ending, one sentence where it cannot be, nothing left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from clover_rl.cli.figure_file import save_figure
from clover_rl.errors import InputError

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


def test_a_figure_lands_in_a_folder_that_did_not_exist_and_names_no_library(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.png"
    save_figure(plt.figure(figsize=(2, 1)), path, dpi=50)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 100
    assert b"atplotlib" not in content
    assert plt.get_fignums() == []


def test_the_ending_decides_the_format(tmp_path: Path) -> None:
    save_figure(plt.figure(figsize=(2, 1)), tmp_path / "x.svg")
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()


@pytest.mark.parametrize("path", ["/dev/null/x.png", "x.nothing", "folder.png"])
def test_what_cannot_be_written_is_one_sentence_and_the_figure_is_closed(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder.png").mkdir()
    target = tmp_path / path
    with pytest.raises(InputError, match="cannot be written") as caught:
        save_figure(plt.figure(figsize=(2, 1)), target)
    assert str(target) in str(caught.value)
    assert plt.get_fignums() == []
