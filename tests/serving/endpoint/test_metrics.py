"""Metrics: counted where a request leaves, read over HTTP."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from clover_rl.errors import InputError, ServingError
from clover_rl.serving.clock import RealClock
from clover_rl.serving.control import control_metrics
from clover_rl.serving.endpoint.metrics import Metrics, MetricsExporter
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.routing.dispatcher import Dispatcher, RequestOutcome
from clover_rl.serving.worker.messages import Tensor
from tests.serving.serving_kit import FEATURES, Serve


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def test_requests_and_instances_can_be_scraped(serve: Serve) -> None:
    async def run() -> None:
        async with serve(hold_s=0.01, prefix="gpu0/3g@0:") as plane:
            metrics = Metrics(
                plane.dispatcher, plane.pool, estimate=lambda variant, instance: (2.0, 0.5, "modelled")
            )
            exporter = MetricsExporter(metrics.registry)
            port = await exporter.start()
            for _ in range(3):
                await plane.dispatcher.infer((Tensor((1, FEATURES), bytes(4 * FEATURES)),))
            plane.dispatcher.refuse(RequestOutcome.INVALID, "invalid")
            text = await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")
            samples = {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            piece, only, none = ("slice", "3g"), ("variant", "only"), (("slice", "none"), ("variant", "none"))
            assert samples["clover_requests_total", (("outcome", "answered"), piece, only)] == 3
            assert samples["clover_requests_total", (("outcome", "invalid"), *none)] == 1
            assert samples["clover_failures_total", (("reason", "invalid"), *none)] == 1
            assert samples["clover_compute_seconds_count", (piece, only)] == 3
            assert samples["clover_compute_seconds_sum", (piece, only)] >= 0.03
            assert samples["clover_queue_seconds_count", (piece, only)] == 3
            assert samples["clover_energy_joules_total", (("kind", "modelled"), piece, only)] == 6.0
            assert samples["clover_carbon_grams_total", (("kind", "modelled"), piece, only)] == 1.5
            assert samples["clover_requests_queued", ()] == 0
            assert samples["clover_instances", (piece, ("state", "serving"), only)] == 1
            assert samples["clover_instance_restarts", ()] == 0
            running = asyncio.create_task(plane.dispatcher.infer((Tensor((1, FEATURES), bytes(24)),)))
            await asyncio.sleep(0)
            assert (
                metrics.registry.get_sample_value(
                    "clover_requests_in_flight", {"variant": "only", "slice": "3g"}
                )
                == 1
            )
            await running
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                await asyncio.to_thread(read, f"http://127.0.0.1:{port}/other")
            refused.value.close()
            with pytest.raises(ServingError, match="metrics port is in use"):
                await MetricsExporter(metrics.registry).start(port=port)
            await exporter.stop()

    asyncio.run(run())


def test_every_failure_has_its_reason(serve: Serve) -> None:
    async def run() -> None:
        async with serve(hold_s=0.1, capacity=1) as plane:
            metrics = Metrics(plane.dispatcher)
            request = (Tensor((1, FEATURES), bytes(4 * FEATURES)),)
            dispatcher = plane.dispatcher
            running = [asyncio.create_task(dispatcher.infer(request)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(ServingError):
                await dispatcher.infer(request)
            running[1].cancel()
            await asyncio.gather(*running, return_exceptions=True)
            with pytest.raises(InputError):
                await dispatcher.infer((Tensor((1, 2), bytes(8)),))
            first = asyncio.create_task(dispatcher.infer(request))
            with pytest.raises(ServingError, match="timed out"):
                await dispatcher.infer(request, deadline_s=dispatcher.clock.now() + 0.01)
            await first
            dispatcher.set_loaded(False)
            with pytest.raises(ServingError, match="unloaded"):
                await dispatcher.infer(request)
            dispatcher.set_loaded(True)
            dispatcher.stop_accepting()
            with pytest.raises(ServingError, match="stopping"):
                await dispatcher.infer(request)
            reasons = {
                sample.labels["reason"]: sample.value
                for family in metrics.registry.collect()
                for sample in family.samples
                if sample.name == "clover_failures_total"
            }
            wanted = ("queue_full", "cancelled", "invalid", "deadline", "unloaded", "draining")
            assert reasons == dict.fromkeys(wanted, 1.0)

    asyncio.run(run())


def test_every_name_is_documented() -> None:
    told = (Path(__file__).resolve().parents[3] / "docs" / "serving.md").read_text()
    registry = CollectorRegistry()
    dispatcher = Dispatcher(RealClock())
    Metrics(dispatcher, InstancePool(dispatcher), registry)
    names = {family.name for family in registry.collect()}
    source = Path(control_metrics.__file__).read_text()
    names |= set(re.findall(r'"(clover_[a-z0-9_]+)"', source))
    assert len(names) > 20
    assert {name for name in names if f"`{name}" not in told} == set()
