"""What varies in time, seen from outside: a value now, and a forecast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from clover_rl.errors import InputError

__all__ = [
    "AVERAGE_DIRECT",
    "AVERAGE_LIFE_CYCLE",
    "CARBON_UNIT",
    "LOAD_UNIT",
    "MARGINAL",
    "REQUESTS",
    "FloatArray",
    "Signal",
    "require_kind",
    "require_same_kind",
]

FloatArray = NDArray[np.float64]

AVERAGE_LIFE_CYCLE: Final = "average life-cycle"
AVERAGE_DIRECT: Final = "average direct"
MARGINAL: Final = "marginal"
REQUESTS = "requests"

CARBON_UNIT = "gCO2/kWh"
LOAD_UNIT = "requests/s"


@runtime_checkable
class Signal(Protocol):
    """A quantity over time; times are seconds since the signal's own offset 0."""

    @property
    def kind(self) -> str:
        """What is measured, such as "average life-cycle"; signals of two kinds never meet in one figure."""

    @property
    def unit(self) -> str:
        """ "gCO2/kWh" or "requests/s"."""

    def at(self, t: float) -> float:
        """The value at `t`; raises SignalEndError outside the signal, never wraps around."""

    def forecast(self, issued: float, horizon_s: float, step_s: float) -> FloatArray:
        """What was expected at `issued` for issued + step, ..., issued + horizon.

        Shape (round(horizon_s / step_s),), in the signal's unit.
        """


def require_same_kind(signals: Iterable[Signal]) -> str:
    """The one kind that all of `signals` share; raises InputError when they differ or there is none."""
    seen = list(dict.fromkeys((signal.kind, signal.unit) for signal in signals))
    if not seen:
        raise InputError("no signal was given", fix="give at least one")
    if len(seen) > 1:
        found = ", ".join(f"{kind} ({unit})" for kind, unit in seen)
        raise InputError(
            f"signals of different kinds are mixed: {found}",
            fix="use one kind in one figure (average or marginal, direct or life-cycle)",
        )
    return seen[0][0]


def require_kind(signal: Signal, kind: str, *, where: str | None = None) -> None:
    """Refuse a signal of another kind than its figures are counted in.

    Args:
        signal: the signal.
        kind: what the figures are counted in.
        where: what the signal is called in the message.

    Raises:
        InputError: it has another kind.
    """
    if signal.kind != kind:
        raise InputError(
            f"the signal is {signal.kind}, and {kind} is counted here",
            where=where,
            fix="use a signal of that kind (average or marginal, direct or life-cycle)",
        )
