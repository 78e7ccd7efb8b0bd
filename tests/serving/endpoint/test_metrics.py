"""Metrics: counted where a request leaves, read over HTTP."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clover_rl.errors import ServingError
from clover_rl.serving.endpoint.metrics import Metrics, MetricsExporter
from clover_rl.serving.routing.dispatcher import RequestOutcome
from clover_rl.serving.worker.messages import Tensor
from tests.serving.serving_kit import FEATURES, Serve


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def test_requests_and_instances_can_be_scraped(serve: Serve) -> None:
    async def run() -> None:
        async with serve(hold_s=0.01) as plane:
            metrics = Metrics(plane.dispatcher, plane.pool)
            exporter = MetricsExporter(metrics.registry)
            port = await exporter.start()
            for _ in range(3):
                await plane.dispatcher.infer((Tensor((1, FEATURES), bytes(4 * FEATURES)),))
            plane.dispatcher.refuse(RequestOutcome.INVALID)
            text = await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")
            samples = {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            only = ("variant", "only")
            assert samples["clover_requests_total", (("outcome", "answered"), only)] == 3
            assert samples["clover_requests_total", (("outcome", "invalid"), ("variant", "none"))] == 1
            assert samples["clover_compute_seconds_count", (only,)] == 3
            assert samples["clover_compute_seconds_sum", (only,)] >= 0.03
            assert samples["clover_queue_seconds_count", (only,)] == 3
            assert samples["clover_requests_queued", ()] == 0
            assert samples["clover_instances", (("state", "serving"), only)] == 1
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                await asyncio.to_thread(read, f"http://127.0.0.1:{port}/other")
            refused.value.close()
            with pytest.raises(ServingError, match="metrics port is in use"):
                await MetricsExporter(metrics.registry).start(port=port)
            await exporter.stop()

    asyncio.run(run())
