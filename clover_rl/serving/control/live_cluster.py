"""LiveCluster: the cluster that the control loop steers, made of real instances on the event loop.

The control loop runs in a thread of its own and blocks there; everything that touches instances runs on the
event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.transition import TransitionPlan
from clover_rl.errors import ServingError
from clover_rl.serving.clock import Clock
from clover_rl.serving.control.energy import EnergyBook
from clover_rl.serving.control.reconciler import Reconciler
from clover_rl.serving.routing.dispatcher import CompletedRequest, Dispatcher, RequestOutcome

__all__ = ["LiveCluster", "StoppedError"]

T = TypeVar("T")


class StoppedError(ServingError):
    """The server is stopping; the control loop ends."""


class LiveCluster:
    """Facts of live intervals, and transitions, for the control loop.

    Args:
        reconciler: changes the cluster.
        dispatcher: whose requests are counted.
        energy: books of energy.
        clock: the server's clock.
        began: the clock's time at the run's second 0.
        loop: the event loop.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        dispatcher: Dispatcher,
        energy: EnergyBook,
        clock: Clock,
        began: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._reconciler, self._dispatcher, self._energy = reconciler, dispatcher, energy
        self._clock, self._began, self._loop = clock, began, loop
        self._stop = threading.Event()
        self._start = self.now
        self._plans: list[TransitionPlan] = []
        self._arrived = dispatcher.arrived
        self._fresh()
        dispatcher.observe(self._completed)

    def _fresh(self) -> None:
        self._answered: Counter[str] = Counter()
        self._by_slice: Counter[tuple[int, str, str]] = Counter()
        self._latency = Histogram()
        self._timed_out = self._failed = self._invalid = 0

    # --- what the loop calls, from its thread

    @property
    def now(self) -> float:
        """Seconds of the run."""
        return self._clock.now() - self._began

    @property
    def configuration(self) -> ClusterConfiguration:
        """What takes requests now."""
        return self._reconciler.actual

    @property
    def target(self) -> ClusterConfiguration:
        """What it is, or is on its way to."""
        return self._reconciler.target

    def apply(self, plan: TransitionPlan) -> None:
        """Start a transition; it goes on while the loop observes.

        Raises:
            StoppedError: the server is stopping.
        """
        if self._stop.is_set():
            raise StoppedError("the server is stopping")
        self._plans.append(plan)
        self._loop.call_soon_threadsafe(self._reconciler.apply, plan)

    def observe(self, until: float) -> Interval:
        """Wait until a second of the run and report what happened since the last call.

        Raises:
            StoppedError: the server is stopping.
        """
        while (left := until - self.now) > 0:
            if self._stop.wait(left):
                raise StoppedError("the server is stopping")
        return self._on_loop(self._cut())

    def rest(self) -> Interval | None:
        """What happened since the last report, for the end of a run; None when no time has passed."""
        return self._on_loop(self._cut()) if self.now - self._start > 1e-3 else None

    def stop(self) -> None:
        """Make the loop end at once."""
        self._stop.set()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- on the event loop

    def _completed(self, request: CompletedRequest) -> None:
        outcome = request.outcome
        if outcome is RequestOutcome.ANSWERED:
            assert request.variant is not None
            assert request.instance is not None
            self._answered[request.variant] += 1
            self._latency.add((request.finished_s - request.arrived_s) * 1000.0)
            gpu, place = request.instance.split("/")
            self._by_slice[int(gpu.removeprefix("gpu")), place.split("@")[0], request.variant] += 1
        elif outcome is RequestOutcome.TIMED_OUT:
            self._timed_out += 1
        elif outcome is RequestOutcome.INVALID:
            self._invalid += 1
        elif outcome is not RequestOutcome.CANCELLED:
            self._failed += 1

    async def _cut(self) -> Interval:
        now = self.now
        total = self._dispatcher.arrived
        arrived = total - self._arrived - self._invalid
        duration = now - self._start
        interval = Interval(
            start=self._start,
            duration_s=duration,
            arrived=arrived,
            answered=dict(self._answered),
            timed_out=self._timed_out,
            failed=self._failed,
            queued=self._dispatcher.router.queued,
            oldest_queued_s=self._dispatcher.router.oldest_waiting_s(),
            latency=self._latency,
            energy=self._energy.close(self._by_slice, self._reconciler.actual, duration, self._clock.now()),
            configuration=self._reconciler.actual,
            plans=tuple(self._plans),
        )
        self._plans = []
        self._arrived = total
        self._start = now
        self._fresh()
        return interval
