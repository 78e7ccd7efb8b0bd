"""What is measured, layout by layout, and which tests the laws are not fitted to."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["FITTED", "KEPT_OUT", "STAGES", "PlannedTest", "Stage", "planned_tests"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A layout and what is measured on it.

    Attributes:
        slices: names, as in a layout.
        alone: slice types whose variants are measured alone here.
        same: whether all instances run the same variant, one variant after the other.
        mixes: how many mixed configurations.
        duty: whether an instance is measured at part load.
    """

    slices: tuple[str, ...]
    alone: tuple[str, ...] = ()
    same: bool = False
    mixes: int = 0
    duty: bool = False

    @property
    def name(self) -> str:
        """The layout, as files name it."""
        return " ".join(self.slices)


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """One test: share of each instance's rate alone that arrives, None for back to back; seconds of power."""

    name: str
    variants: Mapping[int, str]
    level: float | None
    window_s: float


STAGES = (
    Stage(("7g",), alone=("7g",), duty=True),
    Stage(("4g", "3g"), alone=("4g", "3g"), same=True, mixes=3),
    Stage(("2g", "2g", "2g", "1g"), alone=("2g", "1g"), mixes=4),
    Stage(("1g",) * 7, same=True, mixes=3),
    Stage(("4g", "2g", "1g"), mixes=3),
    Stage(("3g", "3g"), mixes=3),
)
FITTED = (STAGES[1].name, STAGES[3].name)
"""Layouts that the laws are fitted to, as the shipped profiles' are."""
KEPT_OUT = (STAGES[2].name, STAGES[4].name, STAGES[5].name)
"""Layouts of the ten mixed configurations that no law is fitted to."""
MIX_LEVEL = 0.5
DUTY_LEVELS = (0.25, 0.6)


def planned_tests(stage: Stage, variants: Sequence[str]) -> Iterator[PlannedTest]:
    """The tests of a stage, in order: alone first, as open tests need the times alone."""
    everywhere = range(len(stage.slices))
    for slice_name in stage.alone:
        index = stage.slices.index(slice_name)
        for variant in variants:
            yield PlannedTest("alone", {index: variant}, None, 1.2)
    if stage.duty:
        for variant in variants:
            for level in DUTY_LEVELS:
                yield PlannedTest(f"duty{level}", {0: variant}, level, 1.6)
    if stage.same:
        for variant in variants:
            yield PlannedTest("same", dict.fromkeys(everywhere, variant), None, 1.5)
    for number, mix in enumerate(_mixes(stage, variants)):
        yield PlannedTest(f"mix{number}", mix, None, 1.5)
        yield PlannedTest(f"mix{number}open{MIX_LEVEL}", mix, MIX_LEVEL, 2.2)


def _mixes(stage: Stage, variants: Sequence[str]) -> Iterator[Mapping[int, str]]:
    """Different mixes of at least two variants, the same in every run."""
    rng = random.Random(stage.name)
    seen: set[tuple[tuple[str, str], ...]] = set()
    kinds = len(variants)
    while len(seen) < min(stage.mixes, kinds * (kinds - 1) // 2):
        chosen = [rng.choice(variants) for _ in stage.slices]
        key = tuple(sorted(zip(stage.slices, chosen, strict=True)))
        if len(set(chosen)) > 1 and key not in seen:
            seen.add(key)
            yield dict(enumerate(chosen))
