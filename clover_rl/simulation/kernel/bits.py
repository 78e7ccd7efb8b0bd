"""Bits: times as integers that compare like the times, which makes choosing the next instance cheaper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped, unused-ignore]
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["bits_of", "choose", "float_of", "key_of", "time_of"]

_MAGNITUDE = 0x7FFF_FFFF_FFFF_FFFF


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _bits_of(typing_context: Any, value: Any) -> Any:
    """Bits of a float64 as an int64."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), build


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _float_of(typing_context: Any, bits: Any) -> Any:
    """Float64 that an int64's bits spell."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), build


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _choose(typing_context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes` if the condition holds, else `no`, without a branch: a processor cannot guess who is next."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = builder.select(*arguments)
        chosen.set_metadata("unpredictable", builder.module.add_metadata([]))
        return chosen

    return yes(types.boolean, yes, yes), build


bits_of = cast(Callable[[Any], int], _bits_of)
float_of = cast(Callable[[Any], float], _float_of)
choose = cast(Callable[[Any, Any, Any], Any], _choose)


@njit(cache=True)
def key_of(time_s: float) -> int:
    """Integer that orders like the time; both zeros share one. For times >= 0 it is the float's own bits."""
    bits = bits_of(time_s + 0.0)
    return bits ^ ((bits >> 63) & _MAGNITUDE)


@njit(cache=True)
def time_of(key: int) -> float:
    """Inverse of `key_of`."""
    return float_of(key ^ ((key >> 63) & _MAGNITUDE))
