"""Campaign: the measurements of one application on one card, kept step by step so that a run can go on."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from clover_rl.cluster.application import Application
from clover_rl.cluster.geometry import Layout, enumerate_layouts
from clover_rl.cluster.gpu import GpuModel
from clover_rl.errors import InputError
from clover_rl.jsonfile import write_json
from clover_rl.serving.instances.instance import Instance
from clover_rl.serving.measuring.bench import Bench, Row, energy_after
from clover_rl.serving.measuring.plan import STAGES, PlannedTest, Stage, planned_tests
from clover_rl.serving.partition.base import PartitionBackend, Slice
from clover_rl.serving.telemetry.source import EnergySource
from clover_rl.serving.worker.definition import ModelDefinition
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["Campaign", "Measured", "entry_points", "layout_of", "median_idle_w"]

PARKED_S, IDLE_S, START_S = 3.0, 1.0, 120.0
Measured = dict[str, Any]
"""What was found so far, as JSON holds it: `card`, `parked_w`, `limit_w`, `stages` (name -> rows, sms,
create_s, destroy_s), `loads` (variant -> seconds and MiB)."""


class Campaign:
    """Measures, and keeps what it has after every layout.

    Args:
        application: whose variants; each needs an entry point.
        model: GPU model of the card.
        backend: cuts the card.
        source: the card's sensors.
        card: what identifies the card and the software; a file of another is not gone on with.
        limit_w: the card's power limit.
        file: where results are kept.
        report: told (share of 1, remark).

    Raises:
        InputError: a variant has no entry point, or the file is of another card or application.
    """

    def __init__(
        self,
        application: Application,
        model: GpuModel,
        backend: PartitionBackend,
        source: EnergySource,
        *,
        card: Mapping[str, str],
        limit_w: float,
        file: Path,
        report: Callable[[float, str], None],
    ) -> None:
        self._application, self._model, self._backend, self._source = application, model, backend, source
        self._entry_points = entry_points(application)
        self._file, self._report = file, report
        self.measured: Measured = {"card": dict(card), "limit_w": limit_w, "stages": {}, "loads": {}}
        if file.is_file():
            found = json.loads(file.read_text())
            if found.get("card") != dict(card):
                raise InputError(
                    "holds measurements of another card, application or version",
                    where=str(file),
                    fix="name another --out folder",
                )
            self.measured = found

    def run(self, stages: Iterable[Stage] = STAGES) -> Measured:
        """Measure what is not measured yet.

        Raises:
            ServingError: a variant cannot be loaded, or a process died.
        """
        stages, variants = list(stages), list(self._application.variants)
        total, done = 1 + 2 * len(stages) + len(variants), 0
        if "parked_w" not in self.measured:
            self._report(0.0, "parked: no process on the card")
            self.measured["parked_w"] = self._mean_w(PARKED_S)
            self._keep()
        for stage in stages:
            done += 2
            self._report(done / total, f"layout {stage.name}")
            if stage.name not in self.measured["stages"]:
                self.measured["stages"][stage.name] = self._stage(stage)
                self._keep()
        for variant in variants:
            done += 1
            self._report(done / total, f"load of {variant}")
            if variant not in self.measured["loads"]:
                self.measured["loads"][variant] = asyncio.run(self._load(variant))
                self._keep()
        return self.measured

    def alone(self, pairs: Mapping[str, list[str]]) -> list[Row]:
        """Only some pairs alone on the card: slice -> variants. Nothing is kept."""
        rows: list[Row] = []
        for slice_name, variants in pairs.items():
            stage = Stage((slice_name,), alone=(slice_name,))
            self._report(len(rows) / 10.0, f"slice {slice_name}")
            rows += self._stage(stage, variants)["rows"]
        return rows

    # --- inside

    def _stage(self, stage: Stage, variants: Iterable[str] | None = None) -> dict[str, Any]:
        chosen = list(self._application.variants if variants is None else variants)
        slices, create_s, destroy_s = [], [], []
        for placement in layout_of(self._model, stage.slices):
            began = time.perf_counter()
            slices.append(asyncio.run(self._made(placement)))
            create_s.append(time.perf_counter() - began)
        try:
            points = {name: point for name, point in self._entry_points.items() if name in chosen}
            with Bench(
                stage.slices,
                [self._backend.environment(piece) for piece in slices],
                points,
                self._source,
            ) as bench:
                rows = self._tests(bench, planned_tests(stage, chosen))
                sms = list(bench.sms)
        finally:
            for piece in slices:
                began = time.perf_counter()
                asyncio.run(self._gone(piece))
                destroy_s.append(time.perf_counter() - began)
        return {"rows": rows, "sms": sms, "create_s": create_s, "destroy_s": destroy_s}

    async def _made(self, placement: Any) -> Slice:
        return await self._backend.create(0, placement)

    async def _gone(self, piece: Slice) -> None:
        await self._backend.destroy(piece)

    def _tests(self, bench: Bench, tests: Iterable[PlannedTest]) -> list[Row]:
        rows = bench.test("idle", {}, IDLE_S)[0]
        alone_ms: dict[tuple[str, str], float] = {}
        for test in tests:
            jobs: dict[int, tuple[str, float | None]] = {}
            for index, variant in test.variants.items():
                rate = None
                if test.level is not None:
                    piece = bench.slices[index]
                    own = alone_ms.get((piece, variant)) or self._alone_ms(piece, variant)
                    rate = 1000.0 * test.level / own
                jobs[index] = variant, rate
            found, means = bench.test(test.name, jobs, test.window_s)
            rows += found
            if test.name == "alone":
                ((index, mean_ms),) = means.items()
                alone_ms[bench.slices[index], test.variants[index]] = mean_ms
        return rows + bench.test("idle", {}, IDLE_S)[0]

    def _alone_ms(self, piece: str, variant: str) -> float:
        """Time alone on this slice type, from whichever layout it was measured on."""
        for stage in self.measured["stages"].values():
            for row in stage["rows"]:
                if (row["test"], row["slice"], row["variant"]) == ("alone", piece, variant):
                    return float(row["mean_ms"])
        raise InputError(f"variant {variant} was not measured alone on {piece}")

    async def _load(self, variant: str) -> dict[str, float]:
        """Seconds from starting a worker to its first answer, and its memory on an otherwise empty card."""
        (placement,) = layout_of(self._model, ("7g",))
        piece = await self._backend.create(0, placement)
        before = self._source.memory_mib()[0]
        spec = InstanceSpec(
            variant=variant,
            model=ModelDefinition.of(None, self._entry_points[variant], where=f"variant {variant}"),
            hold_s=0.0,
            number=0,
            environment=dict(self._backend.environment(piece)),
        )
        worker = Instance(f"load:{variant}", spec, lambda _: None)
        began = time.perf_counter()
        await worker.start(START_S)
        seconds = time.perf_counter() - began
        memory = self._source.memory_mib()[0] - before
        await worker.stop()
        await self._backend.destroy(piece)
        return {"load_s": seconds, "memory_mib": memory}

    def _mean_w(self, seconds: float) -> float:
        joules, began = energy_after(self._source, time.perf_counter())
        more, ended = energy_after(self._source, began + seconds - 0.05)
        return (more - joules) / (ended - began)

    def _keep(self) -> None:
        write_json(self._file, self.measured)


def entry_points(application: Application) -> dict[str, str]:
    """Variant -> name of its entry point.

    Raises:
        InputError: a variant has none.
    """
    found = {name: variant.entry_point for name, variant in application.variants.items()}
    missing = [name for name, point in found.items() if not point]
    if missing:
        raise InputError(
            f"variant {missing[0]} of application `{application.name}` has no entry point to run on a GPU",
            fix="measure efficientnet, albert, rtdetr, or an application whose variants name entry points",
        )
    return {name: point for name, point in found.items() if point}


def layout_of(model: GpuModel, slices: Iterable[str]) -> tuple[Any, ...]:
    """Placements of a layout with those slices, in that order.

    Raises:
        InputError: no layout of the model has them.
    """
    wanted = sorted(slices)
    for layout in enumerate_layouts(model):
        if sorted(item.slice for item in layout.placements) == wanted:
            return _ordered(layout, slices)
    raise InputError(f"no layout of {model.title} has the slices {' '.join(slices)}")


def _ordered(layout: Layout, slices: Iterable[str]) -> tuple[Any, ...]:
    left = list(layout.placements)
    found = []
    for name in slices:
        place = next(item for item in left if item.slice == name)
        left.remove(place)
        found.append(place)
    return tuple(found)


def median_idle_w(measured: Measured) -> float:
    """Median of all idle tests, W."""
    return statistics.median(
        float(row["gpu_w"])
        for stage in measured["stages"].values()
        for row in stage["rows"]
        if row["test"] == "idle"
    )
