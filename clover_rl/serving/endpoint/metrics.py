"""Metrics: what Prometheus reads of the data plane. Names are documented in docs/serving.md and stay."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from clover_rl.errors import ServingError
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.routing.dispatcher import CompletedRequest, Dispatcher, RequestOutcome

__all__ = ["Estimate", "Metrics", "MetricsExporter", "slice_of"]

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_NONE = "none"

Estimate: TypeAlias = Callable[[str, str], tuple[float, float, str]]
"""(variant, instance) -> energy, J, and carbon, gCO2, of one answer, and the kind of these figures."""


class Metrics:
    """Observes a dispatcher and its pool.

    Args:
        dispatcher: whose requests are counted from now on.
        pool: whose instances are counted.
        registry: where the metrics live; one of its own when left out.
        estimate: (variant, instance) -> energy in J and carbon in g of one answer, and the kind of these
            figures; without it neither is counted.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        pool: InstancePool | None = None,
        registry: CollectorRegistry | None = None,
        *,
        estimate: Estimate | None = None,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._estimate = estimate
        where = ("variant", "slice")
        self._requests = self._counter("clover_requests", "Requests that left", (*where, "outcome"))
        self._failures = self._counter("clover_failures", "Requests not answered, by why", (*where, "reason"))
        self._energy = self._counter("clover_energy_joules", "Energy of the answers", (*where, "kind"))
        self._carbon = self._counter("clover_carbon_grams", "Carbon of the answers", (*where, "kind"))
        self._queue = self._histogram("clover_queue_seconds", "From arrival to the start on an instance")
        self._compute = self._histogram("clover_compute_seconds", "From the start to the answer")
        # Looking a child up by its labels costs more than counting, so each is kept.
        self._answers: dict[tuple[str | None, str | None], _Answered] = {}
        self.registry.register(_State(dispatcher, pool))
        dispatcher.observe(self._completed)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ("variant", "slice"), buckets=_BUCKETS_S, registry=self.registry)

    def _completed(self, request: CompletedRequest) -> None:
        if request.outcome is RequestOutcome.ANSWERED:
            found = self._answers.get((request.variant, request.instance))
            self._answered(request, found or self._meet(request))
            return
        where = (request.variant or _NONE, slice_of(request.instance))
        self._requests.labels(*where, request.outcome.value).inc()
        self._failures.labels(*where, request.reason).inc()

    def _answered(self, request: CompletedRequest, children: _Answered) -> None:
        assert request.started_s is not None
        children.requests.inc()
        children.queue.observe(request.started_s - request.arrived_s)
        children.compute.observe(request.finished_s - request.started_s)
        if self._estimate is not None:
            assert request.variant is not None
            assert request.instance is not None
            energy_j, carbon_g, _ = self._estimate(request.variant, request.instance)
            children.energy.inc(energy_j)
            children.carbon.inc(carbon_g)

    def _meet(self, request: CompletedRequest) -> _Answered:
        """The children for an instance that answers for the first time."""
        variant, instance = request.variant or _NONE, request.instance or _NONE
        where = (variant, slice_of(request.instance))
        kind = self._estimate(variant, instance)[2] if self._estimate is not None else _NONE
        found = self._answers[request.variant, request.instance] = _Answered(
            self._requests.labels(*where, RequestOutcome.ANSWERED.value),
            self._queue.labels(*where),
            self._compute.labels(*where),
            self._energy.labels(*where, kind),
            self._carbon.labels(*where, kind),
        )
        return found


@dataclass(frozen=True, slots=True)
class _Answered:
    """What is counted for each answer of one instance."""

    requests: Counter
    queue: Histogram
    compute: Histogram
    energy: Counter
    carbon: Counter


def slice_of(instance: str | None) -> str:
    """The slice's profile in an instance's key, as 3g; none where it names no slice."""
    _, found, place = (instance or "").partition("/")
    return place.partition("@")[0] if found else _NONE


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
        serving = GaugeMetricFamily(
            "clover_requests_in_flight", "Requests that an instance has", labels=("variant", "slice")
        )
        busy = Tally((item.spec.variant, slice_of(item.key)) for item in dispatcher.in_flight())
        for where, number in sorted(busy.items()):
            serving.add_metric(where, number)
        yield serving
        if self._pool is not None:
            instances = GaugeMetricFamily(
                "clover_instances", "Instances by where they stand", labels=("variant", "slice", "state")
            )
            statuses = self._pool.status()
            tally = Tally((s.spec.variant, slice_of(s.key), s.state.value) for s in statuses)
            for labels, number in sorted(tally.items()):
                instances.add_metric(labels, number)
            yield instances
            restarts = sum(status.restarts for status in statuses)
            yield GaugeMetricFamily("clover_instance_restarts", "Deaths of present instances", restarts)


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
