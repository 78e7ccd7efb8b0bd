"""MigCard: one GPU in MIG mode: what it offers, what it has, and the four calls that change that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from clover_rl.cluster.gpu import gpu_models
from clover_rl.errors import InputError
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    NOT_SUPPORTED,
    NvmlFailure,
    explained,
)

__all__ = ["Card", "CardProfile", "GpuInstance", "MigCard"]


@dataclass(frozen=True, slots=True)
class CardProfile:
    """A GPU instance profile, as the card describes it.

    Attributes:
        id: NVML's profile id.
        compute: compute slices.
        sms: streaming multiprocessors.
        memory_mib: memory, MiB.
        most: how many of it can exist.
        places: (start, size) where it may lie, in memory slices.
    """

    id: int
    compute: int
    sms: int
    memory_mib: int
    most: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class GpuInstance:
    """A GPU instance that exists.

    Attributes:
        id: its id.
        profile: id of its profile.
        start, size: where it lies.
        compute: ids of its compute instances.
        whole: whether it has exactly one, which takes all of it.
    """

    id: int
    profile: int
    start: int
    size: int
    compute: tuple[int, ...]
    whole: bool


class Card(Protocol):
    """What the backend needs of a GPU."""

    @property
    def name(self) -> str:
        """The driver's name of it."""
        ...

    @property
    def model(self) -> str | None:
        """Our GPU model; None when it is none of ours."""
        ...

    @property
    def profiles(self) -> Mapping[int, CardProfile]:
        """What can be made of it, by NVML's profile id."""
        ...

    def instances(self) -> tuple[GpuInstance, ...]:
        """The GPU instances there are now, by start."""
        ...

    def create_gpu_instance(self, profile: int, start: int, size: int) -> int:
        """Make a GPU instance and return its id."""
        ...

    def create_compute_instance(self, gpu_instance: int) -> int:
        """Make the compute instance that takes all of a GPU instance; returns its id."""
        ...

    def destroy_compute_instance(self, gpu_instance: int, compute_instance: int) -> None:
        """Remove a compute instance."""
        ...

    def destroy_gpu_instance(self, gpu_instance: int) -> None:
        """Remove a GPU instance that has no compute instance any more."""
        ...

    def uuid(self, gpu_instance: int, compute_instance: int) -> str:
        """UUID of the MIG device, for CUDA_VISIBLE_DEVICES."""
        ...


class MigCard:
    """A GPU through NVML. Blocking; no call is made to any other GPU.

    Args:
        nvml: an open session.
        device: number or UUID.

    Raises:
        NvmlFailure: there is no such GPU, it is no MIG GPU, or we may not ask.
        InputError: MIG mode is off, or on only after a reset.
    """

    def __init__(self, nvml: Nvml, device: str) -> None:
        self._api, self._handle = nvml.api, nvml.handle(device)
        self._where = f"device {device}"
        with explained("read the GPU's name and MIG mode", where=self._where):
            self.name = str(self._api.nvmlDeviceGetName(self._handle))
            self.gpu_uuid = str(self._api.nvmlDeviceGetUUID(self._handle))
            current, pending = self._api.nvmlDeviceGetMigMode(self._handle)
        if not current:
            raise InputError(
                "MIG mode is enabled but takes a reset" if pending else "MIG mode is off",
                where=f"{self._where} ({self.name})",
                fix=f"nvidia-smi -i {device} --gpu-reset"
                if pending
                else f"nvidia-smi -i {device} -mig 1, as root",
            )
        self.profiles = self._read_profiles()
        self.model = self._recognise()

    # --- what it offers

    def _read_profiles(self) -> dict[int, CardProfile]:
        found = {}
        for number in range(self._api.NVML_GPU_INSTANCE_PROFILE_COUNT):
            try:
                with explained("read the MIG profiles", where=self._where):
                    info = self._api.nvmlDeviceGetGpuInstanceProfileInfo(self._handle, number)
            except NvmlFailure as error:
                # a driver older than our nvidia-ml-py calls numbers that it does not know invalid
                if error.code in (INVALID_ARGUMENT, NOT_SUPPORTED):
                    continue
                raise
            profile = int(info.id)
            found[profile] = CardProfile(
                id=profile,
                compute=int(info.sliceCount),
                sms=int(info.multiprocessorCount),
                memory_mib=int(info.memorySizeMB),
                most=int(info.instanceCount),
                places=self._read_places(profile),
            )
        return found

    def _read_places(self, profile: int) -> tuple[tuple[int, int], ...]:
        from ctypes import byref, c_uint

        api, count = self._api, c_uint(0)
        with explained("read the MIG placements", where=self._where):
            api.nvmlDeviceGetGpuInstancePossiblePlacements(self._handle, profile, None, byref(count))
            places = (api.c_nvmlGpuInstancePlacement_t * max(count.value, 1))()
            api.nvmlDeviceGetGpuInstancePossiblePlacements(self._handle, profile, places, byref(count))
        return tuple((int(place.start), int(place.size)) for place in places[: count.value])

    def _recognise(self) -> str | None:
        """Name of the GPU model whose whole card has these multiprocessors and nearly this memory."""
        whole = self.profiles.get(0)
        for name, model in gpu_models().items():
            ours = model.slices["7g"]
            if whole and whole.sms == ours.sms and abs(whole.memory_mib / ours.memory_mib - 1.0) < 0.15:
                return name
        return None

    # --- what it has

    def instances(self) -> tuple[GpuInstance, ...]:
        """The GPU instances there are now, by start.

        Raises:
            NvmlFailure: we may not ask, or the GPU is lost.
        """
        from ctypes import byref, c_uint

        api, found = self._api, []
        with explained("list the GPU instances", where=self._where):
            for profile in self.profiles.values():
                count = c_uint(0)
                array = (api.c_nvmlGpuInstance_t * max(profile.most, 1))()
                api.nvmlDeviceGetGpuInstances(self._handle, profile.id, array, byref(count))
                found += [self._describe(array[index], profile) for index in range(count.value)]
        return tuple(sorted(found, key=lambda item: item.start))

    def _describe(self, handle: Any, profile: CardProfile) -> GpuInstance:
        info = self._api.nvmlGpuInstanceGetInfo(handle)
        compute = []
        whole = False
        for kind in self._compute_profiles(handle):
            for number in self._compute_instances(handle, kind):
                compute.append(number)
                whole = int(kind.sliceCount) == profile.compute
        return GpuInstance(
            id=int(info.id),
            profile=profile.id,
            start=int(info.placement.start),
            size=int(info.placement.size),
            compute=tuple(compute),
            whole=whole and len(compute) == 1,
        )

    def _compute_profiles(self, handle: Any) -> list[Any]:
        api, found = self._api, []
        for number in range(api.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
            try:
                found.append(
                    api.nvmlGpuInstanceGetComputeInstanceProfileInfo(
                        handle, number, api.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
                    )
                )
            except api.NVMLError as error:
                if error.value not in (INVALID_ARGUMENT, NOT_SUPPORTED):
                    raise
        return found

    def _compute_instances(self, handle: Any, kind: Any) -> list[int]:
        from ctypes import byref, c_uint

        api, count = self._api, c_uint(0)
        array = (api.c_nvmlComputeInstance_t * max(int(kind.instanceCount), 1))()
        api.nvmlGpuInstanceGetComputeInstances(handle, kind.id, array, byref(count))
        return [int(api.nvmlComputeInstanceGetInfo(array[index]).id) for index in range(count.value)]

    # --- changes

    def create_gpu_instance(self, profile: int, start: int, size: int) -> int:
        """Make a GPU instance and return its id.

        Raises:
            NvmlFailure: it was not made.
        """
        from ctypes import byref

        api = self._api
        place = api.c_nvmlGpuInstancePlacement_t(start, size)
        with explained(f"make a GPU instance of profile {profile} at {start}", where=self._where):
            made = api.nvmlDeviceCreateGpuInstanceWithPlacement(self._handle, profile, byref(place))
            return int(api.nvmlGpuInstanceGetInfo(made).id)

    def create_compute_instance(self, gpu_instance: int) -> int:
        """Make the compute instance that takes all of a GPU instance; returns its id.

        Raises:
            NvmlFailure: it was not made.
        """
        api = self._api
        with explained(f"make the compute instance of GPU instance {gpu_instance}", where=self._where):
            handle = api.nvmlDeviceGetGpuInstanceById(self._handle, gpu_instance)
            largest = max(
                self._compute_profiles(handle), key=lambda kind: (kind.sliceCount, kind.multiprocessorCount)
            )
            made = api.nvmlGpuInstanceCreateComputeInstance(handle, largest.id)
            return int(api.nvmlComputeInstanceGetInfo(made).id)

    def destroy_compute_instance(self, gpu_instance: int, compute_instance: int) -> None:
        """Remove a compute instance.

        Raises:
            NvmlFailure: it is in use, or we may not.
        """
        api = self._api
        with explained(f"remove the compute instance of GPU instance {gpu_instance}", where=self._where):
            handle = api.nvmlDeviceGetGpuInstanceById(self._handle, gpu_instance)
            api.nvmlComputeInstanceDestroy(
                api.nvmlGpuInstanceGetComputeInstanceById(handle, compute_instance)
            )

    def destroy_gpu_instance(self, gpu_instance: int) -> None:
        """Remove a GPU instance that has no compute instance any more.

        Raises:
            NvmlFailure: it is in use, or we may not.
        """
        api = self._api
        with explained(f"remove GPU instance {gpu_instance}", where=self._where):
            api.nvmlGpuInstanceDestroy(api.nvmlDeviceGetGpuInstanceById(self._handle, gpu_instance))

    def uuid(self, gpu_instance: int, compute_instance: int) -> str:
        """UUID of the MIG device, for CUDA_VISIBLE_DEVICES.

        Raises:
            NvmlFailure: there is no such device (yet).
        """
        api = self._api
        with explained(f"find the MIG device of GPU instance {gpu_instance}", where=self._where):
            for index in range(api.nvmlDeviceGetMaxMigDeviceCount(self._handle)):
                try:
                    device = api.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, index)
                except api.NVMLError as error:
                    if error.value == NOT_FOUND:
                        continue
                    raise
                ids = (api.nvmlDeviceGetGpuInstanceId(device), api.nvmlDeviceGetComputeInstanceId(device))
                if ids == (gpu_instance, compute_instance):
                    return str(api.nvmlDeviceGetUUID(device))
        raise NvmlFailure(NOT_FOUND, f"find the MIG device of GPU instance {gpu_instance}", where=self._where)
