"""Prometheus metrics of GPUs, under DCGM's names where it has one, so that existing dashboards read them.

DCGM_FI_DEV_POWER_USAGE{gpu,UUID,modelName,kind}                      present power, W
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu,UUID,modelName,kind,method}  since the server's start, mJ
DCGM_FI_DEV_FB_USED, DCGM_FI_DEV_FB_FREE{gpu,UUID,modelName}          memory, MiB
clover_gpu_trouble{gpu,UUID,modelName}                                1 while the GPU cannot be read
clover_instance_energy_joules_total{gpu,GPU_I_PROFILE,variant,kind}   share of the card's energy
clover_unattributed_energy_joules_total{gpu,kind}                     drawn while no instance was there
clover_predicted_energy_ratio                                         predicted / measured, last interval

Power, energy and memory are of the whole card, also under MIG: a slice has no meter, its share is attributed.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from clover_rl.cluster.gpu import GpuModel
from clover_rl.serving.telemetry.meter import EnergyMeter
from clover_rl.serving.telemetry.metered_book import MeteredBook

__all__ = ["GpuMetrics"]

WHO = ("gpu", "UUID", "modelName")


class GpuMetrics(Collector):
    """Reads a meter, and the books made from it, when somebody asks.

    Args:
        meter: the GPUs' meter.
        registry: registered there.
        book: attribution to instances; left out where networks run elsewhere than on these GPUs.
        model: names of slices.
    """

    def __init__(
        self,
        meter: EnergyMeter,
        registry: CollectorRegistry,
        book: MeteredBook | None = None,
        model: GpuModel | None = None,
    ) -> None:
        self._meter, self._book, self._model = meter, book, model
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The present values."""
        power = GaugeMetricFamily("DCGM_FI_DEV_POWER_USAGE", "Power, W", labels=(*WHO, "kind"))
        # a counter by nature; prometheus_client would append `_total` to its name, which DCGM's has not
        energy = UnknownMetricFamily(
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Energy, mJ", labels=(*WHO, "kind", "method")
        )
        used = GaugeMetricFamily("DCGM_FI_DEV_FB_USED", "Memory used, MiB", labels=WHO)
        free = GaugeMetricFamily("DCGM_FI_DEV_FB_FREE", "Memory free, MiB", labels=WHO)
        trouble = GaugeMetricFamily("clover_gpu_trouble", "1 while the GPU cannot be read", labels=WHO)
        for reading in self._meter.readings():
            who = (str(reading.name.gpu), reading.name.uuid, reading.name.model)
            trouble.add_metric(who, int(reading.trouble is not None))
            energy.add_metric((*who, reading.kind, reading.method), reading.joules * 1000.0)
            if reading.trouble is None:
                power.add_metric((*who, reading.kind), reading.power_w)
                used.add_metric(who, reading.memory_mib[0])
                free.add_metric(who, reading.memory_mib[1])
        yield from (power, energy, used, free, trouble)
        if self._book is not None:
            yield from self._shares(self._book)

    def _shares(self, book: MeteredBook) -> Iterable[Metric]:
        kind = book.attributed_kind
        shares = CounterMetricFamily(
            "clover_instance_energy_joules",
            "Share of the card's energy, J",
            labels=("gpu", "GPU_I_PROFILE", "variant", "kind"),
        )
        for name, joules in sorted(book.attributed_j.items(), key=lambda item: str(item[0])):
            profile = self._model.slice_type(name.slice).nvml_name if self._model else name.slice
            shares.add_metric((str(name.gpu), profile, name.variant, kind), joules)
        yield shares
        rest = CounterMetricFamily(
            "clover_unattributed_energy_joules",
            "Drawn while no instance was there, J",
            labels=("gpu", "kind"),
        )
        for gpu, joules in enumerate(book.unattributed_j):
            rest.add_metric((str(gpu), kind), float(joules))
        yield rest
        if book.predicted_over_measured is not None:
            yield GaugeMetricFamily(
                "clover_predicted_energy_ratio",
                "Predicted over measured, last interval",
                book.predicted_over_measured,
            )
