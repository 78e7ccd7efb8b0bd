"""The oldest versions that are tested are the oldest ones that packaging allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = ("train", "render", "record")
"""Installed by `make test-oldest`."""


def pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def lower_bounds() -> dict[str, str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        each for extra in EXTRAS for each in project["optional-dependencies"][extra]
    ]
    found = [re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", text) for text in wanted]
    return {match[1].lower(): match[2] for match in found if match}


def number(version: str) -> tuple[int, ...]:
    """1.1 and 1.1.0 are one version."""
    parts = [int(part) for part in version.split(".")]
    while parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def test_what_environments_agents_and_training_need_is_pinned_at_its_lower_bound() -> None:
    oldest, bounds = pins("constraints-oldest.txt"), lower_bounds()
    assert {"gymnasium", "stable-baselines3", "numpy"} <= bounds.keys()
    assert bounds.keys() <= oldest.keys()
    wrong = {name for name, bound in bounds.items() if number(bound) != number(oldest[name])}
    # an older torch brings gigabytes of CUDA libraries, so both files pin the one that has a CPU build
    assert wrong == {"torch"}
    assert oldest["torch"] == pins("constraints.txt")["torch"]


def test_the_versions_pinned_together_are_newer() -> None:
    newest = pins("constraints.txt")
    for name, version in lower_bounds().items():
        assert number(newest[name]) > number(version), name
