"""Bench: instances on the slices of one layout, and tests of them under the card's energy counter."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
import zlib
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from clover_rl.errors import ServingError
from clover_rl.serving.measuring.bench_process import Job, instance

__all__ = ["COLUMNS", "PRELOADED", "Bench", "Meter", "Row"]

COLUMNS = (
    *("layout", "test", "gpu_w", "slice", "variant"),
    *("offered_per_s", "served_per_s", "mean_ms", "p50_ms", "p95_ms", "utilisation"),
)
"""Those of the packaged measurements, so that `clover-rl validate` reads them."""
Row = dict[str, str]
PRELOADED = ("torch", "torchvision", "transformers", "clover_rl.serving.worker.definition")
"""Imported once; every process forks from there, before CUDA starts."""
SETTLE_S, AFTER_S, LEAD_S = 0.35, 0.25, 0.03
"""Instances are busy this long before and after the window in which power is read."""
START_S = 120.0


class Meter(Protocol):
    """A card's energy counter."""

    def counter_j(self) -> float | None:
        """Energy so far, J."""
        ...


class Bench:
    """One process per slice of a layout; close it, or use it in a `with` statement.

    Args:
        slices: names of the slices, in the layout's order.
        environments: of each slice, from the partition backend.
        entry_points: variant -> name of its model.
        meter: the card's.

    Raises:
        ServingError: a process cannot load the variants.
    """

    def __init__(
        self,
        slices: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        entry_points: Mapping[str, str],
        meter: Meter,
    ) -> None:
        self.slices, self.layout, self._meter = tuple(slices), " ".join(slices), meter
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOADED])
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self.sms: list[int] = []
        try:
            for environment in environments:
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=instance, args=(dict(environment), dict(entry_points), theirs), daemon=True
                )
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
            for name, pipe in zip(self.slices, self._pipes, strict=True):
                self.sms.append(_up(name, pipe))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(OSError):  # it has ended already
                pipe.send(None)
            process.join(10.0)
            if process.is_alive():
                process.kill()
                process.join()
        self._pipes, self._processes = [], []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def test(
        self, name: str, jobs: Mapping[int, tuple[str, float | None]], window_s: float
    ) -> tuple[list[Row], dict[int, float]]:
        """Rows of one test, and the mean service time of each busy instance, ms.

        Args:
            name: of the test; seeds the arrivals.
            jobs: number of a slice -> variant and requests/s; None is back to back. No jobs: idle.
            window_s: how long power is read.

        Raises:
            ServingError: a process died, or the card's counter stands still.
        """
        begin = time.perf_counter() + LEAD_S
        end = begin + SETTLE_S + window_s + AFTER_S
        for index, (variant, rate) in jobs.items():
            seed = zlib.crc32(f"{name} {index}".encode())
            try:
                self._pipes[index].send(Job(variant, rate, seed, begin, end))
            except OSError:
                raise self._died(index) from None
        energy_0, since = energy_after(self._meter, begin + SETTLE_S)
        energy_1, until = energy_after(self._meter, since + window_s - 0.05)
        watts = f"{(energy_1 - energy_0) / (until - since):.1f}"
        blank = dict.fromkeys(COLUMNS, "") | {"layout": self.layout, "test": name, "gpu_w": watts}
        if not jobs:
            return [blank], {}
        rows: list[Row] = []
        means = {}
        for index, (variant, rate) in jobs.items():
            ran = [(a, b, min(b, until) - max(a, since)) for a, b in self._answer(index)]
            ran = [item for item in ran if item[2] > 0.0]
            if not ran:
                continue
            times = sorted(1000.0 * (b - a) for a, b, _ in ran)
            means[index] = sum(times) / len(times)
            # a request that reaches over an edge of the window counts for the part inside
            served = sum(inside / (b - a) for a, b, inside in ran) / (until - since)
            busy = sum(inside for _, _, inside in ran) / (until - since)
            rows.append(
                blank
                | {
                    "slice": self.slices[index],
                    "variant": variant,
                    "offered_per_s": f"{rate:.2f}" if rate else "",
                    "served_per_s": f"{served:.2f}",
                    "mean_ms": f"{means[index]:.3f}",
                    "p50_ms": f"{times[len(times) // 2]:.3f}",
                    "p95_ms": f"{times[int(0.95 * len(times))]:.3f}",
                    "utilisation": f"{busy:.3f}",
                }
            )
        return rows, means

    def _answer(self, index: int) -> list[tuple[float, float]]:
        pipe = self._pipes[index]
        try:
            if pipe.poll(START_S):
                return list(pipe.recv())
        except (EOFError, OSError):
            pass
        raise self._died(index)

    def _died(self, index: int) -> ServingError:
        return ServingError(
            "its process died in a test",
            where=f"slice {self.slices[index]} of {self.layout}",
            fix="run it again: it goes on from the last layout that was measured",
        )


def energy_after(meter: Meter, moment: float) -> tuple[float, float]:
    """The counter, J, at its first step after a moment, and when that was; an H100's steps every 0.1 s.

    Raises:
        ServingError: the card has no counter, or it stands still.
    """
    time.sleep(max(0.0, moment - time.perf_counter()))
    first = meter.counter_j()
    while first is not None and time.perf_counter() < moment + 2.0:
        energy = meter.counter_j()
        if energy is not None and energy != first:
            return energy, time.perf_counter()
        time.sleep(0.0005)
    raise ServingError("the card has no energy counter that moves", fix="profiles need Volta or later")


def _up(name: str, pipe: Connection) -> int:
    try:
        if pipe.poll(START_S):
            said = pipe.recv()
            if not said.trouble:
                return int(said.sms)
            raise ServingError(f"the variants cannot be loaded: {said.trouble}", where=f"slice {name}")
    except (EOFError, OSError):
        pass
    raise ServingError(f"the process ended, or was not ready after {START_S:g} s", where=f"slice {name}")
