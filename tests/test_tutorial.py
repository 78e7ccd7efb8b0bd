"""The tutorial: every block of it runs, in order."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MISSING = [name for name in ("pyarrow", "sb3_contrib") if find_spec(name) is None]


@pytest.mark.parametrize("part_of_the_catalogue", [5], indirect=True)
@pytest.mark.skipif(bool(MISSING), reason=f"the tutorial needs {', '.join(MISSING)}")
def test_the_tutorial_runs_from_top_to_bottom(
    part_of_the_catalogue: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") == 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "tutorial"}
    printed = []
    for number, block in enumerate(blocks):
        exec(compile(block, f"tutorial.md, block {number}", "exec"), names)
        printed.append(capsys.readouterr().out)
    assert "intensity_forecast" in printed[1]
    assert "1x[" in printed[2] or "2x[" in printed[2]
    shown = dict(line.split(" ", 1) for line in printed[4].splitlines())
    mean = {name: float(text.split()[0]) for name, text in shown.items()}
    assert mean["rule"] > mean["base"], "the rule is something to beat only if it beats BASE"
    assert "demo  step 24" in printed[5]
    assert "difference=None" in printed[6]
    assert printed[8].startswith("fine ")
    assert [line.split()[0] for line in printed[9].splitlines()] == ["rule", "policy"]
    assert (tmp_path / "episodes" / "episode-000000.parquet").is_file()
