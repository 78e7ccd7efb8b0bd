"""ControlThread: runs the control loop beside the event loop, writes the ledger, survives every error."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec

from clover_rl.cluster.interval import Interval
from clover_rl.control.controller import Controller, Decision
from clover_rl.control.guard import Guarded
from clover_rl.control.ledger import Activation, Ledger
from clover_rl.control.loop import ControlLoop, StepRecord
from clover_rl.control.state import ControlState
from clover_rl.serving.control.live_cluster import LiveCluster, StoppedError

__all__ = ["ControlThread", "InCharge"]

log = logging.getLogger(__name__)

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class InCharge:
    """A controller with what identifies it: the bundle's hash and name where it is a policy."""

    controller: Controller
    bundle_sha256: str | None = None
    bundle_name: str | None = None


@dataclass
class ControlThread:
    """One control loop on a live cluster.

    Attributes:
        loop: the control loop; its controller is set here.
        cluster: the live cluster.
        ledger: written after every decision and interval.
        make_guard: wraps a controller.
        in_charge: who decides now.
        seed: given to controllers when they take charge.
        trouble: what went wrong last, None when the last interval was fine.
        last: the last completed step.
        steps: completed steps.
        earlier_trials: live trials of controllers that are no longer in charge.
    """

    loop: ControlLoop
    cluster: LiveCluster
    ledger: Ledger
    guard: Guarded
    in_charge: InCharge
    seed: int
    trouble: str | None = None
    last: StepRecord | None = None
    steps: int = 0
    earlier_trials: int = 0
    _next: tuple[Guarded, InCharge, str] | None = None
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the thread."""
        self.loop.controller = self.guard
        self.loop.on_decision = self._decided
        self.guard.reset(self.seed)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def hand_over(self, guard: Guarded, in_charge: InCharge, reason: str) -> None:
        """Put another controller in charge from the next decision on; instances are not touched."""
        guard.reset(self.seed)
        self._next = (guard, in_charge, reason)

    @property
    def upcoming(self) -> InCharge:
        """Who is, or is about to be, in charge."""
        following = self._next
        return following[1] if following else self.in_charge

    @property
    def live_trials(self) -> int:
        """Configurations deployed only to try them, by anyone since the server's start."""
        return self.earlier_trials + self.guard.live_trials

    def stop(self) -> None:
        """End the loop at once and wait for the thread; blocks."""
        self.cluster.stop()
        if self._thread is not None:
            self._thread.join()

    # --- in the thread

    def _run(self) -> None:
        try:
            if not self.loop.intervals:
                self._warm_up()
            while True:
                self._step()
        except StoppedError:
            rest = self.cluster.rest()
            parts = [*self.loop.under_way, *([rest] if rest else [])]
            if parts:
                self._undecided(Interval.merge(parts))

    def _warm_up(self) -> None:
        self._undecided(self.loop.warm_up())

    def _undecided(self, interval: Interval) -> None:
        """Record an interval without a decision; what was emitted counts all the same."""
        try:
            intensity = self.loop.carbon.mean_over(interval.start, interval.end)
        except Exception as error:  # a feed that fails must not end the service
            self._failed(error)
            intensity = self.last.intensity if self.last else self.loop.objective.reference_g_per_kwh
        self._kept(
            self.ledger.served, self.in_charge.controller.name, interval, self.loop.objective, intensity
        )

    def _step(self) -> None:
        self._take_over()
        begun = self.cluster.now
        try:
            record = self.loop.step()
        except StoppedError:
            raise
        except Exception as error:  # whatever fails here, the cluster goes on serving as it is
            self._failed(error)
            parts, self.loop.under_way = list(self.loop.under_way), []
            if not parts or self.cluster.now < begun + 0.5 * self.loop.interval_s:
                rest = max(begun + self.loop.interval_s, self.cluster.now + 0.05)
                parts.append(self.cluster.observe(rest))
            self._undecided(Interval.merge(parts))
            return
        self.trouble = None
        self.last = record
        self.steps += 1
        self._kept(self.ledger.stepped, self.in_charge.controller.name, record)

    def _take_over(self) -> None:
        if self._next is None:
            return
        (guard, in_charge, reason), self._next = self._next, None
        self.earlier_trials += self.guard.live_trials
        self.guard, self.in_charge = guard, in_charge
        self.loop.controller = guard
        self._kept(
            self.ledger.activated,
            Activation(self.cluster.now, in_charge.controller.name, in_charge.bundle_sha256, reason),
        )

    def _decided(self, state: ControlState, decision: Decision) -> None:
        self.ledger.decided(self.in_charge.controller.name, state, decision)

    def _kept(self, keep: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> None:
        """Write to the ledger; a disk that is full must not end the service."""
        try:
            keep(*arguments, **named)
        except (OSError, sqlite3.Error) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {error}"
        log.error("control: the configuration is kept: %s", self.trouble)
