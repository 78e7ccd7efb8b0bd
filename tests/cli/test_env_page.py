"""The page of each environment is what its code says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from clover_rl.cli.docstrings import first_paragraphs, items_of
from clover_rl.cli.env_page import PAGES, draw_figure, page
from clover_rl.envs.info import INFO_KEYS, REWARD_TERMS
from clover_rl.envs.render_figure import SIZE
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.summary import EPISODE_KEYS
from clover_rl.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = str(REPOSITORY / "tests" / "data" / "small-scenario.yaml")
IDS = [name for name in gym.registry if name.startswith("clover_rl/") and "Live" not in name]


@pytest.mark.slow  # builds the table of four H100
def test_every_environment_has_a_page_that_the_code_would_write_again() -> None:
    assert set(PAGES) == set(IDS)
    for name, title in PAGES.items():
        written = (REPOSITORY / "docs" / "envs" / f"{title}.md").read_text(encoding="utf-8")
        assert page(name) == written, "run `python -m clover_rl.cli.env_page docs`"
        assert f"({title}.png)" in written
        picture = (REPOSITORY / "docs" / "envs" / f"{title}.png").read_bytes()
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
        assert (width, height) == SIZE


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_every_key_of_info_is_documented(fidelity: str) -> None:
    env = MIGClusterEnv(SMALL, days=0.005, fidelity=fidelity)  # type: ignore[arg-type]
    start = env.reset(seed=0)[1]
    found: dict[str, Any] = env.step(np.int64(0))[4]
    assert start.keys() <= INFO_KEYS.keys()
    assert found.keys() - EPISODE_KEYS.keys() == INFO_KEYS.keys()
    assert found["reward_terms"].keys() == REWARD_TERMS.keys()


def test_a_figure_that_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from clover_rl.cli import env_page

    monkeypatch.setattr(env_page, "STEPS", 1)
    with pytest.raises(InputError, match="cannot be written"):
        draw_figure("clover_rl/MIGCluster-v0", Path("/dev/null/x.png"))


def test_sections_of_docstrings_are_read_item_by_item() -> None:
    def documented() -> None:
        """First.

        Second.

        Args:
            one: a text
                over two lines: with a colon.
            two, three: both.

        Raises:
            InputError: never.
        """

    assert items_of(documented, "Args") == {
        "one": "a text over two lines: with a colon.",
        "two": "both.",
        "three": "both.",
    }
    assert items_of(documented, "Returns") == {}
    assert first_paragraphs(documented) == "First.\n\nSecond."
