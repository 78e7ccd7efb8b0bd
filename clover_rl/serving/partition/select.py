"""Partitioning: the partition backend that was asked for, opened, with the meter of its GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError
from clover_rl.serving.partition.base import PartitionBackend
from clover_rl.serving.partition.emulated import EmulatedPartition
from clover_rl.serving.partition.mig import MigPartition
from clover_rl.serving.partition.mig_card import Card, MigCard
from clover_rl.serving.partition.mps import MpsPartition
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.telemetry.meter import EnergyMeter
from clover_rl.serving.telemetry.source import NvmlSource

__all__ = ["BACKENDS", "PartitionSettings", "Partitioning", "open_cards"]

BACKENDS = ("emulated", "mps", "mig")
"""Those that `serve --partition` knows."""


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """Which backend, on which GPUs.

    Attributes:
        backend: emulated, mps or mig.
        devices: numbers or UUIDs of the GPUs that may be cut, by GPU of the cluster; none for emulated.
    """

    backend: str = "emulated"
    devices: tuple[str, ...] = ()

    def check(self, gpus: int) -> None:
        """Refuse what cannot be.

        Args:
            gpus: how many GPUs the cluster has.

        Raises:
            InputError: no such backend, or not as many devices as GPUs.
        """
        if self.backend not in BACKENDS:
            raise InputError(
                f"unknown partition backend `{self.backend}`", fix=f"use one of {', '.join(BACKENDS)}"
            )
        if self.backend == "emulated":
            if self.devices:
                raise InputError("emulated GPUs are no devices", fix="leave --devices out")
            return
        if len(self.devices) != gpus or len(set(self.devices)) != gpus:
            raise InputError(
                f"the scenario has {gpus} GPUs and --devices names {len(set(self.devices))}",
                fix=f"name {gpus}, as --devices {','.join(map(str, range(gpus)))}: no other is touched; "
                "clover-rl doctor lists them",
            )


class Partitioning:
    """A backend for as long as a server runs.

    Args:
        settings: which.
        gpus: how many GPUs.
        profile: its GPU model and, for the emulated backend, its times.
        clock: seconds, for the meter.

    Raises:
        InputError: the settings cannot be, or a card is not as the profile needs it.
        ServingError: MPS cannot be used.
        NvmlFailure: the driver or a card cannot be used.
    """

    def __init__(
        self, settings: PartitionSettings, gpus: int, profile: Profile, clock: Callable[[], float]
    ) -> None:
        settings.check(gpus)
        self.name = settings.backend
        self.meter: EnergyMeter | None = None
        self._nvml: Nvml | None = None
        self._mig: MigPartition | None = None
        self._mps: MpsPartition | None = None
        self.backend: PartitionBackend
        if settings.backend == "emulated":
            self.backend = EmulatedPartition(gpus, profile.gpu, profile.times)
            return
        self._nvml = Nvml()
        try:
            if settings.backend == "mps":
                self.backend = self._mps = MpsPartition(self._nvml, settings.devices, profile.gpu)
            else:
                self.backend = self._mig = MigPartition(open_cards(self._nvml, settings), profile.gpu)
            sources = [NvmlSource(self._nvml, device, gpu) for gpu, device in enumerate(settings.devices)]
            self.meter = EnergyMeter(sources, clock=clock)
        except BaseException:
            self._let_go()
            raise
        self.meter.start()

    async def recover(self, target: ClusterConfiguration) -> None:
        """Put what earlier runs left in order, before the first configuration is made.

        Args:
            target: the first configuration; its slices are adopted where they exist.

        Raises:
            TransitionError: something cannot be removed.
        """
        if self._mig is not None:
            await self._mig.recover([gpu.layout.placements for gpu in target.gpus])

    def close(self) -> None:
        """Stop meter and MPS, and let go of the driver; MIG's slices stay for the next start to adopt."""
        if self.meter is not None:
            self.meter.stop()
        self._let_go()

    def _let_go(self) -> None:
        if self._mps is not None:
            self._mps.close()
        if self._nvml is not None:
            self._nvml.close()


def open_cards(nvml: Nvml, settings: PartitionSettings) -> list[Card]:
    """The cards that were given, by GPU of the cluster.

    Raises:
        InputError: one is named twice, or MIG mode is off.
        NvmlFailure: one cannot be asked.
    """
    cards = [MigCard(nvml, device) for device in settings.devices]
    if len({card.gpu_uuid for card in cards}) < len(cards):
        raise InputError("--devices names a GPU twice, by number and by UUID", fix="name each once")
    return [*cards]
