"""Metrics: what Prometheus reads of the data plane. Names are documented here and stay.

clover_requests_total{variant,outcome}   requests that left, by how they ended (see RequestOutcome)
clover_queue_seconds{variant}            histogram: from arrival to the start on an instance
clover_compute_seconds{variant}          histogram: from the start to the answer
clover_requests_open                     accepted and not yet answered
clover_requests_queued                   waiting
clover_oldest_queued_seconds             age of the one that has waited longest
clover_instances{variant,state}          instances by where they stand (see InstanceState)
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from clover_rl.errors import ServingError
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.routing.dispatcher import CompletedRequest, Dispatcher, RequestOutcome

__all__ = ["Metrics", "MetricsExporter"]

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_NO_VARIANT = "none"


class Metrics:
    """Observes a dispatcher and its pool.

    Args:
        dispatcher: whose requests are counted from now on.
        pool: whose instances are counted.
        registry: where the metrics live; one of its own when left out.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        pool: InstancePool | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._requests = Counter(
            "clover_requests",
            "Requests that left, by how they ended",
            ("variant", "outcome"),
            registry=self.registry,
        )
        self._queue = Histogram(
            "clover_queue_seconds",
            "From arrival to the start on an instance",
            ("variant",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._compute = Histogram(
            "clover_compute_seconds",
            "From the start on an instance to the answer",
            ("variant",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        # Looking a child up by its labels costs more than counting, so each is kept.
        self._by_outcome: dict[tuple[str | None, RequestOutcome], Counter] = {}
        self._by_variant: dict[str | None, tuple[Histogram, Histogram]] = {}
        self.registry.register(_State(dispatcher, pool))
        dispatcher.observe(self._completed)

    def _completed(self, request: CompletedRequest) -> None:
        key = (request.variant, request.outcome)
        counter = self._by_outcome.get(key)
        if counter is None:
            labels = (request.variant or _NO_VARIANT, request.outcome.value)
            counter = self._by_outcome[key] = self._requests.labels(*labels)
        counter.inc()
        if request.started_s is None or request.outcome is not RequestOutcome.ANSWERED:
            return
        pair = self._by_variant.get(request.variant)
        if pair is None:
            name = request.variant or _NO_VARIANT
            pair = self._by_variant[request.variant] = (self._queue.labels(name), self._compute.labels(name))
        pair[0].observe(request.started_s - request.arrived_s)
        pair[1].observe(request.finished_s - request.started_s)


class _State(Collector):
    """Gauges that are read off when somebody asks."""

    def __init__(self, dispatcher: Dispatcher, pool: InstancePool | None) -> None:
        self._dispatcher = dispatcher
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        """The present values."""
        dispatcher = self._dispatcher
        yield GaugeMetricFamily("clover_requests_open", "Accepted and not yet answered", dispatcher.open)
        yield GaugeMetricFamily("clover_requests_queued", "Waiting", dispatcher.router.queued)
        yield GaugeMetricFamily(
            "clover_oldest_queued_seconds",
            "Age of the one that has waited longest",
            dispatcher.router.oldest_waiting_s(),
        )
        if self._pool is not None:
            instances = GaugeMetricFamily(
                "clover_instances", "Instances by where they stand", labels=("variant", "state")
            )
            tally = Tally((status.spec.variant, status.state.value) for status in self._pool.status())
            for labels, number in sorted(tally.items()):
                instances.add_metric(labels, number)
            yield instances


class MetricsExporter:
    """Serves a registry at `/metrics` over HTTP, on the event loop: what it reads cannot change meanwhile.

    Args:
        registry: what it serves.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port (0: any free one).

        Raises:
            ServingError: the address is in use or cannot be listened on.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=8192)
        except OSError as error:
            raise ServingError(
                "the metrics port is in use or cannot be listened on",
                where=f"{host}:{port}",
                fix="choose another",
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5.0):
                request = await reader.readuntil(b"\r\n\r\n")
                method, path = request.split(b" ", 2)[:2]
                found = method in (b"GET", b"HEAD") and path.split(b"?")[0] == b"/metrics"
                body = generate_latest(self._registry) if found else b"metrics are at /metrics\n"
                head = (
                    f"HTTP/1.1 {'200 OK' if found else '404 Not Found'}\r\n"
                    f"Content-Type: {CONTENT_TYPE_LATEST if found else 'text/plain'}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + (b"" if method == b"HEAD" else body))
                await writer.drain()
        except (TimeoutError, ValueError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or speaks something else than HTTP
        finally:
            writer.close()
