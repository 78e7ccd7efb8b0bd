"""Configurations as bands: how many GPUs run which variant, read from a configuration's label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["gpus_of", "hexadecimal", "mix_of", "variant_order"]

_PARKED = re.compile(r"(\d+) parked")
_CUT = re.compile(r"(\d+)x\[(.+)\]")
_GROUP = re.compile(r"(?:(\d+)\*)?(\d+)g([^:\s]*):(\S+)")


def mix_of(label: str) -> dict[str, float] | None:
    """Variant -> GPUs that it fills, by compute slices; parked ones are in no variant.

    Args:
        label: of a configuration, as 2x[4g:B3 3g:B1] + 2 parked.

    Returns:
        None where the label is no such text.
    """
    mix: dict[str, float] = {}
    for part in label.split(" + "):
        if _PARKED.fullmatch(part):
            continue
        cut = _CUT.fullmatch(part)
        if cut is None:
            return None
        groups = [_GROUP.fullmatch(group) for group in cut[2].split(" ")]
        if not all(groups):
            return None
        slices = [(int(g[1] or 1) * int(g[2]), g[4]) for g in groups if g]
        whole = sum(count for count, _ in slices)
        for count, variant in slices:
            mix[variant] = mix.get(variant, 0.0) + int(cut[1]) * count / whole
    return mix


def gpus_of(label: str) -> int:
    """How many GPUs a label tells of, parked ones included."""
    return sum(int(count) for count in re.findall(r"(?:^| \+ )(\d+)(?:x\[| parked)", label))


def variant_order(definition: Any, seen: Iterable[str]) -> list[str]:
    """Variants from the smallest to the largest: as the scenario's profile has them, else by name.

    Args:
        definition: the scenario, as the evaluation's document has it.
        seen: variants met in configurations.
    """
    from clover_rl.cluster.profile_file import load_profile
    from clover_rl.errors import CloverError

    names = sorted(set(seen))
    profile = definition.get("profile") if isinstance(definition, dict) else None
    try:
        known = list(load_profile(str(profile).removesuffix(".yaml")).application.variants)
    except CloverError:  # a profile of the user's own, whose file the results do not carry
        known = []
    return known if set(names) <= set(known) else names


def hexadecimal(colour: Sequence[int]) -> str:
    """A colour as #rrggbb."""
    return "#" + "".join(f"{part:02x}" for part in colour)
