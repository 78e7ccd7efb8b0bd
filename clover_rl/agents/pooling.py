"""Pools: policies that differ in their training seed only, under one name with means and 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

from clover_rl.agents.bundle import Bundle
from clover_rl.errors import InputError

__all__ = ["Pools", "mean_interval", "pooled", "require_alike", "seed_name", "t95"]

Pools = Mapping[str, Sequence[str]]
"""Name of a pool -> names of its members."""

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""0.975 quantiles of Student's t for 1 to 10 degrees of freedom: any table of them, to three decimals."""


def t95(degrees: int) -> float:
    """Half width of a 95 % interval in standard errors.

    Beyond the table the Cornish-Fisher expansion, within 0.001 there (Abramowitz and Stegun 26.7.5).
    """
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / degrees + second / degrees**2 + third / degrees**3


def mean_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean, and the ends of its 95 % interval by Student's t; None of fewer than two."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    half = t95(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def seed_name(pool: str, bundle: Bundle) -> str:
    """What a member of a pool is called: by its training seed, else by the bundle's own name."""
    seed = bundle.manifest["training"].get("seed")
    return f"{pool} {bundle.name}" if seed is None else f"{pool} seed {seed}"


def require_alike(bundles: Sequence[Bundle]) -> None:
    """Refuse to pool bundles that differ in more than their training seed.

    Raises:
        InputError: fewer than two, or another scenario, catalogue, profile, recipe, or the same seed.
    """
    if len(bundles) < 2:
        raise InputError(
            f"{len(bundles)} bundles are no sample of training seeds", fix="give two or more, better five"
        )
    first = bundles[0].manifest
    seeds = [bundle.manifest["training"].get("seed") for bundle in bundles]
    known = [seed for seed in seeds if seed is not None]
    if len(set(known)) < len(known):
        raise InputError("two of the bundles have the same training seed", fix="give each once")
    for bundle in bundles[1:]:
        other = bundle.manifest
        for noun, mine, theirs in (
            ("scenario", first["scenario"], other["scenario"]),
            ("catalogue", first["actions"]["catalogue_hash"], other["actions"]["catalogue_hash"]),
            ("profile", first["profile_hash"], other["profile_hash"]),
            ("recipe", first["training"].get("recipe"), other["training"].get("recipe")),
        ):
            if mine != theirs:
                raise InputError(
                    f"the bundles `{first['name']}` and `{other['name']}` differ in their {noun}, "
                    "not only in their training seed",
                    fix="compare them as policies of their own, with --policy",
                )


def pooled(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One entry from those of the members: the mean of each figure, `seeds` and `interval_95`.

    Figures that some member lacks are None; so are those that are no numbers. Nested ones are pooled alike.
    """
    found: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name, value in members[0].items():
        values = [member.get(name) for member in members]
        if isinstance(value, Mapping) and all(isinstance(each, Mapping) for each in values):
            inner = pooled([each for each in values if isinstance(each, Mapping)])
            intervals[name] = inner.pop("interval_95")
            inner.pop("seeds")
            found[name] = inner
            continue
        numbers = [float(each) for each in values if isinstance(each, int | float)]
        whole = mean_interval(numbers) if len(numbers) == len(values) else None
        found[name] = whole[0] if whole else None
        intervals[name] = list(whole[1:]) if whole else None
    return found | {"seeds": len(members), "interval_95": intervals}
