"""Prometheus metrics of the control loop."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from clover_rl.serving.control.control_thread import ControlThread

__all__ = ["ControlMetrics"]


class ControlMetrics(Collector):
    """Reads the control thread when somebody asks.

    Args:
        control: the control thread.
        registry: registered there.
    """

    def __init__(self, control: ControlThread, registry: CollectorRegistry) -> None:
        self._control = control
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The present values."""
        control = self._control
        guard = control.guard
        yield CounterMetricFamily("clover_intervals", "Completed intervals", control.steps)
        yield CounterMetricFamily(
            "clover_guard_interventions", "Decisions that the guard replaced", guard.interventions
        )
        yield CounterMetricFamily(
            "clover_live_trials", "Configurations deployed only to try them", control.live_trials
        )
        yield GaugeMetricFamily(
            "clover_control_trouble", "1 while the last interval's control failed", int(bool(control.trouble))
        )
        charge = GaugeMetricFamily("clover_controller", "Who is in charge", labels=("controller", "bundle"))
        charge.add_metric((control.in_charge.controller.name, control.in_charge.bundle_name or ""), 1)
        yield charge
        if guard.predicted is not None:
            yield GaugeMetricFamily(
                "clover_predicted_p95_seconds", "Predicted at the last load", guard.predicted.p95_ms / 1000.0
            )
            yield GaugeMetricFamily(
                "clover_predicted_power_watts", "Predicted at the last load", guard.predicted.power_w
            )
        if control.last is not None:
            yield from self._last(control)

    def _last(self, control: ControlThread) -> Iterable[Metric]:
        record = control.last
        assert record is not None
        interval, score = record.interval, record.score
        yield GaugeMetricFamily(
            "clover_intensity_g_per_kwh", "Carbon intensity over the last interval", record.intensity
        )
        yield GaugeMetricFamily(
            "clover_p95_seconds", "p95 latency of the last interval", score.p95_ms / 1000.0
        )
        yield GaugeMetricFamily("clover_sla_seconds", "Bound on the p95", record.objective.sla_ms / 1000.0)
        yield GaugeMetricFamily("clover_accuracy", "Accuracy of the last interval's answers", score.accuracy)
        power = GaugeMetricFamily("clover_power_watts", "Mean of the last interval", labels=("kind",))
        power.add_metric((interval.energy.kind,), interval.energy.joules / interval.duration_s)
        yield power
        carbon = GaugeMetricFamily(
            "clover_carbon_grams_per_request", "Of the last interval", labels=("of", "kind")
        )
        carbon.add_metric(("cluster", interval.energy.kind), score.carbon_g / max(interval.answers, 1))
        carbon.add_metric(("base", "modelled"), score.base_carbon_g / max(interval.arrived, 1))
        yield carbon
