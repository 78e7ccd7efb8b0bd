"""MpsPartition: slices of real GPUs as shares of their multiprocessors, by MPS, laid out by MIG's rules."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from clover_rl.cluster.geometry import Placement
from clover_rl.cluster.gpu import GpuModel, SliceType, gpu_models
from clover_rl.errors import InputError
from clover_rl.serving.partition.base import DeviceState, Slice
from clover_rl.serving.partition.book import SliceBook
from clover_rl.serving.partition.mps_daemon import MpsDaemon
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import NvmlFailure, explained

__all__ = ["MpsPartition", "check_card", "thread_percentage"]

MEASURED = MappingProxyType({"7g": 100, "4g": 49, "3g": 46, "2g": 24, "1g": 12})
"""Percentages on 132 multiprocessors. A real H100 then shows 132, 64, 60, 30 and 14 of them: measured, and
the shares that the shipped profiles were measured with."""
MEASURED_SMS = 132
OTHERS = ("h100 pcie", "h100 nvl")
"""Cards of a known family and memory with fewer multiprocessors than its model here."""
MEMORY_TOLERANCE = 0.15
"""As for MIG: what the driver reports and what a model's slices add up to differ by less."""


class MpsPartition:
    """Slices by MPS: no rights are needed, and the card's settings stay as they are.

    A process on a slice sees only the slice's share of multiprocessors and, below a whole card, of memory.
    Caches and bandwidth are shared, so neighbours slow each other; and there is no fault isolation: a fatal
    fault of one process can end its neighbours on the card.

    Args:
        nvml: an open session.
        devices: numbers or UUIDs of the GPUs that may be used, by GPU of the cluster.
        model: the GPU model that the profile was measured on.

    Raises:
        InputError: a device is of another model, in MIG mode, named twice, or does not exist.
        ServingError: MPS is not installed, or its daemon does not start.
        NvmlFailure: a device cannot be asked.
    """

    def __init__(self, nvml: Nvml, devices: Sequence[str], model: GpuModel) -> None:
        self._uuids = [check_card(nvml, device, model) for device in devices]
        if len(set(self._uuids)) < len(self._uuids):
            raise InputError("--devices names a GPU twice, by number and by UUID", fix="name each once")
        self._model = model
        self._book = SliceBook(len(devices), model, "mps")
        self._daemon = MpsDaemon(self._uuids)

    @property
    def daemon(self) -> MpsDaemon:
        """The daemon that cuts."""
        return self._daemon

    async def discover(self) -> tuple[DeviceState, ...]:
        """What there is now, by GPU."""
        return self._book.state()

    async def create(self, gpu: int, placement: Placement) -> Slice:
        """Make a slice; MPS takes no time for that, a process gets its share when it starts.

        Raises:
            TransitionError: there is no such GPU, or no room for the slice beside those that exist.
            ServingError: the daemon does not answer.
        """
        await asyncio.to_thread(self._daemon.ask, "get_server_list")
        return await self._book.enter(gpu, placement)

    async def destroy(self, target: Slice) -> None:
        """Remove a slice.

        Raises:
            TransitionError: there is no such GPU.
        """
        await self._book.remove(target)

    def environment(self, target: Slice) -> Mapping[str, str]:
        """The daemon, the device, the share of its multiprocessors and of its memory."""
        piece = self._model.slice_type(target.placement.slice)
        found = {
            **self._daemon.environment,
            "CLOVER_RL_SLICE": target.device,
            "CUDA_VISIBLE_DEVICES": self._uuids[target.gpu],
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(thread_percentage(self._model, piece)),
        }
        if piece.sms < self._model.sms:
            found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={piece.memory_mib}M"
        return found

    def close(self) -> None:
        """End the daemon; processes on slices must have ended."""
        self._daemon.close()


def thread_percentage(model: GpuModel, piece: SliceType) -> int:
    """Share of a card's multiprocessors that a slice gets, percent, for CUDA_MPS_ACTIVE_THREAD_PERCENTAGE."""
    if model.sms == MEASURED_SMS and piece.name in MEASURED:
        return MEASURED[piece.name]
    return min(100, math.ceil(100.0 * piece.sms / model.sms))


def check_card(nvml: Nvml, device: str, model: GpuModel) -> str:
    """A card's UUID, if MPS can cut it.

    Raises:
        InputError: it is of another model, in MIG mode, forbids processes, or does not exist.
        NvmlFailure: it cannot be asked.
    """
    api, handle, where = nvml.api, nvml.handle(device), f"device {device}"
    if nvml.fake:
        raise InputError(
            "the driver is the stand-in, which runs nothing on a GPU", where=where, fix="use --partition mig"
        )
    with explained("read the GPU's name", where=where):
        name, uuid = str(api.nvmlDeviceGetName(handle)), str(api.nvmlDeviceGetUUID(handle))
        mode = int(api.nvmlDeviceGetComputeMode(handle))
        memory_mib = float(api.nvmlDeviceGetMemoryInfo(handle).total) / 2**20
    if _mig_is_on(nvml, handle):
        raise InputError(
            f"{name} is in MIG mode",
            where=where,
            fix="use --partition mig, or switch it off: nvidia-smi -i GPU -mig 0",
        )
    if mode == api.NVML_COMPUTEMODE_PROHIBITED:
        raise InputError(
            f"{name} is in compute mode PROHIBITED", where=where, fix="set it to DEFAULT: nvidia-smi -c 0"
        )
    if model_of(name, memory_mib) is not model:
        raise InputError(
            f"{name} is no {model.title}, which the profile was measured on",
            where=where,
            fix="use a profile of this card; clover-rl profile run --gpu MODEL measures one",
        )
    return uuid


def _mig_is_on(nvml: Nvml, handle: object) -> bool:
    try:
        with explained("read the MIG mode"):
            return bool(nvml.api.nvmlDeviceGetMigMode(handle)[0])
    except NvmlFailure:
        return False  # a card without MIG


def model_of(name: str, memory_mib: float) -> GpuModel | None:
    """The model of a card by the driver's name and its memory: `NVIDIA H100 80GB HBM3`, h100-80gb.

    None for a family's other models: H100 PCIe has 114 multiprocessors, H100 NVL more memory.
    """
    words = set(re.findall(r"[a-z]+[0-9]+", name.lower()))
    kin = [each for each in gpu_models().values() if each.name.split("-")[0] in words]
    found = min(kin, key=lambda each: abs(_memory(each) - memory_mib), default=None)
    if found is None or any(other in name.lower() for other in OTHERS):
        return None
    return found if abs(memory_mib / _memory(found) - 1.0) < MEMORY_TOLERANCE else None


def _memory(model: GpuModel) -> float:
    return max(piece.memory_mib for piece in model.slices.values())
