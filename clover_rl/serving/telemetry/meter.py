"""EnergyMeter: energy of GPUs, read off their counters by a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from clover_rl.cluster.provenance import EnergyKind
from clover_rl.errors import CloverError
from clover_rl.serving.telemetry.source import EnergySource, GpuName

__all__ = ["EnergyMeter", "GpuReading", "Method"]

log = logging.getLogger(__name__)

Method = Literal["counter", "integrated"]
"""counter: differences of the GPU's own energy counter; integrated: its power over time, by the trapezoid."""

LONGEST_REACH_S = 1.0
"""A reading is carried forward with the present power for so long at most; afterwards it is overdue."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """A GPU's energy since the meter began.

    Attributes:
        name: which GPU.
        at_s: when it was read, s of the meter's clock.
        joules: energy since the meter began, J.
        power_w: power then, W.
        memory_mib: memory used and free, MiB.
        method: how energy is known.
        kind: what it is worth.
        gaps: how often so far energy is missing because the GPU could not be read.
        trouble: why it cannot be read now; None while it can.
    """

    name: GpuName
    at_s: float
    joules: float
    power_w: float
    memory_mib: tuple[float, float]
    method: Method
    kind: EnergyKind
    gaps: int = 0
    trouble: str | None = None

    def joules_at(self, now_s: float) -> float:
        """Energy up to a moment shortly after the reading, J: the power then is taken to have gone on."""
        return self.joules + self.power_w * min(max(now_s - self.at_s, 0.0), LONGEST_REACH_S)


class EnergyMeter:
    """Reads GPUs every `period_s` in a thread, so that the server never waits for a driver.

    An H100's counter moves every 0.1 s; reading it more often tells nothing new. Where there is none, power
    is integrated. A counter that goes back (the driver was loaded anew) is bridged by power. A GPU that could
    not be read for a while is a gap: counted, and filled by the counter or not at all.

    Args:
        sources: sensors, by GPU.
        period_s: time between readings, s.
        clock: seconds.
    """

    def __init__(
        self,
        sources: Sequence[EnergySource],
        *,
        period_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources, self._period_s, self._clock = tuple(sources), period_s, clock
        self._counters: list[float | None] = [None] * len(self._sources)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._readings = tuple(self._first(gpu, source) for gpu, source in enumerate(self._sources))

    def start(self) -> None:
        """Read from now on."""
        self._thread = threading.Thread(target=self._run, name="energy-meter", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the last readings stay."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def readings(self) -> tuple[GpuReading, ...]:
        """The last reading of every GPU."""
        return self._readings

    def sample(self) -> tuple[GpuReading, ...]:
        """Read every GPU now, from whichever thread."""
        with self._lock:
            self._readings = tuple(
                self._next(gpu, source, self._readings[gpu]) for gpu, source in enumerate(self._sources)
            )
            return self._readings

    # --- inside

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.sample()
            due = max(due + self._period_s, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _first(self, gpu: int, source: EnergySource) -> GpuReading:
        self._counters[gpu] = source.counter_j()
        method: Method = "integrated" if self._counters[gpu] is None else "counter"
        power_w, memory = source.power_w(), source.memory_mib()
        return GpuReading(source.name, self._clock(), 0.0, power_w, memory, method, source.kind)

    def _next(self, gpu: int, source: EnergySource, last: GpuReading) -> GpuReading:
        try:
            counter = source.counter_j() if last.method == "counter" else None
            power_w, memory = source.power_w(), source.memory_mib()
        except CloverError as error:
            if last.trouble is None:
                log.warning("GPU %d cannot be read: %s", gpu, error)
            return GpuReading(
                *(last.name, last.at_s, last.joules, 0.0, last.memory_mib, last.method, last.kind),
                *(last.gaps + (last.trouble is None), str(error)),
            )
        now_s = self._clock()
        before, self._counters[gpu] = self._counters[gpu], counter
        if last.trouble is not None and (before is None or counter is None or counter < before):
            grown = 0.0  # what was drawn meanwhile nobody knows
        elif before is not None and counter is not None and counter >= before:
            grown = counter - before
        else:
            grown = 0.5 * (last.power_w + power_w) * max(now_s - last.at_s, 0.0)
        method: Method = last.method if counter is not None else "integrated"
        joules = last.joules + grown
        # the interval in which a GPU comes back has its gap too, wherever that began
        gaps = last.gaps + (last.trouble is not None)
        return GpuReading(last.name, now_s, joules, power_w, memory, method, last.kind, gaps)
