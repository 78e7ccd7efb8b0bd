"""NvmlSource: what one GPU's own sensors say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from clover_rl.cluster.provenance import EnergyKind
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import NOT_SUPPORTED, NvmlFailure, explained

__all__ = ["EnergySource", "GpuName", "NvmlSource"]


@dataclass(frozen=True, slots=True)
class GpuName:
    """Who a GPU is, as DCGM's labels say it."""

    gpu: int
    uuid: str
    model: str


class EnergySource(Protocol):
    """Sensors of one GPU; each call may raise TransitionError when the GPU is lost."""

    name: GpuName
    kind: EnergyKind

    def counter_j(self) -> float | None:
        """The energy counter, J; None where the GPU has none."""
        ...

    def power_w(self) -> float:
        """Present power, W."""
        ...

    def memory_mib(self) -> tuple[float, float]:
        """Memory used and free, MiB."""
        ...


class NvmlSource:
    """A GPU through NVML; its figures are of the whole card, also under MIG.

    Args:
        nvml: an open session.
        device: number or UUID.
        gpu: its number in the cluster.

    Raises:
        NvmlFailure: there is no such GPU.
    """

    def __init__(self, nvml: Nvml, device: str, gpu: int) -> None:
        self._api, self._handle = nvml.api, nvml.handle(device)
        self._where = f"device {device}"
        self.kind: EnergyKind = "modelled" if nvml.fake else "measured"
        with explained("read the GPU's name", where=self._where):
            self.name = GpuName(
                gpu,
                str(self._api.nvmlDeviceGetUUID(self._handle)),
                str(self._api.nvmlDeviceGetName(self._handle)),
            )

    def counter_j(self) -> float | None:
        """The energy counter since the driver was loaded, J; None where the GPU has none (before Volta).

        Raises:
            NvmlFailure: the GPU is lost.
        """
        try:
            with explained("read the energy counter", where=self._where):
                return float(self._api.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000.0
        except NvmlFailure as error:
            if error.code == NOT_SUPPORTED:
                return None
            raise

    def power_w(self) -> float:
        """Present power, W.

        Raises:
            NvmlFailure: the GPU is lost, or has no power sensor.
        """
        with explained("read the power", where=self._where):
            return float(self._api.nvmlDeviceGetPowerUsage(self._handle)) / 1000.0

    def memory_mib(self) -> tuple[float, float]:
        """Memory used and free, MiB.

        Raises:
            NvmlFailure: the GPU is lost.
        """
        with explained("read the memory", where=self._where):
            info = self._api.nvmlDeviceGetMemoryInfo(self._handle)
        return info.used / 2**20, info.free / 2**20
