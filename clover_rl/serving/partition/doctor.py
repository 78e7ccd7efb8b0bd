"""diagnose: what this machine can run, and why not more."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from clover_rl.cluster.gpu import gpu_models
from clover_rl.errors import CloverError
from clover_rl.serving.partition.mig_card import MigCard
from clover_rl.serving.partition.mps import model_of
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import NOT_SUPPORTED, NvmlFailure, explained
from clover_rl.serving.partition.select import BACKENDS

__all__ = ["BackendFact", "Diagnosis", "GpuFact", "diagnose"]

MigMode = Literal["on", "off", "on after a reset", "off after a reset", "not supported", "unknown"]

SERVING = ("grpc", "grpc_health", "grpc_reflection", "onnxruntime", "prometheus_client")
MPS_CONTROL = "nvidia-cuda-mps-control"


@dataclass(frozen=True, slots=True)
class GpuFact:
    """A GPU that the driver knows.

    Attributes:
        number: as nvidia-smi counts.
        name, uuid: the driver's.
        model: our GPU model; None when it is none of ours or cannot be told without MIG mode.
        memory_mib: memory, MiB.
        mig: MIG mode.
        slices: GPU instances that exist; None where we may not ask.
        mig_trouble: why the mig backend cannot use it; None when it can.
    """

    number: int
    name: str
    uuid: str
    model: str | None
    memory_mib: float
    mig: MigMode
    slices: int | None
    mig_trouble: str | None


@dataclass(frozen=True, slots=True)
class BackendFact:
    """Whether a partition backend can run here; the reasons say why not."""

    name: str
    can: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        cpus: processors that this process may use.
        driver: version of the NVIDIA driver; None without one.
        stand_in: whether that driver is our stand-in.
        no_driver: why there is none; None when there is.
        gpus: by number.
        backends: emulated, mps, mig.
    """

    cpus: int
    driver: str | None
    stand_in: bool
    no_driver: str | None
    gpus: tuple[GpuFact, ...]
    backends: tuple[BackendFact, ...]


def diagnose() -> Diagnosis:
    """Look at this machine; nothing is changed."""
    driver, stand_in, trouble = None, False, None
    gpus: tuple[GpuFact, ...] = ()
    try:
        with Nvml() as nvml:
            driver, stand_in = nvml.driver, nvml.fake
            gpus = tuple(_whole_or_lost(nvml, number) for number in range(nvml.gpus()))
    except CloverError as error:
        trouble = str(error)
    common = tuple(_missing("serve", SERVING))
    cannot: dict[str, list[str]] = {"emulated": list(common), "mps": list(common), "mig": list(common)}
    cannot["emulated"] += [] if sys.platform == "linux" else ["it needs Linux"]
    for name in ("mps", "mig"):
        if trouble is not None:
            cannot[name].append(trouble)
        elif not gpus:
            cannot[name].append("the driver knows no GPU")
    if gpus:
        cannot["mps"] += _mps_reasons(gpus, stand_in)
        if all(gpu.mig_trouble for gpu in gpus):
            cannot["mig"] += [f"GPU {gpu.number}: {gpu.mig_trouble}" for gpu in gpus]
    for name, reasons in cannot.items():
        if name not in BACKENDS:
            reasons.append(f"this version of clover-rl has no {name} backend")
    return Diagnosis(
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        driver=driver,
        stand_in=stand_in,
        no_driver=trouble,
        gpus=gpus,
        backends=tuple(BackendFact(name, not reasons, tuple(reasons)) for name, reasons in cannot.items()),
    )


def _missing(extra: str, modules: tuple[str, ...]) -> Iterator[str]:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        yield f"{', '.join(missing)} not installed; pip install 'clover-rl[{extra}]'"


def _mps_reasons(gpus: tuple[GpuFact, ...], stand_in: bool) -> Iterator[str]:
    if stand_in:
        yield "the driver is the stand-in, which runs nothing on a GPU"
        return
    if shutil.which(MPS_CONTROL) is None:
        yield f"{MPS_CONTROL} is not on the PATH; it comes with the NVIDIA driver"
    if all(gpu.mig == "on" for gpu in gpus):
        yield "every GPU is in MIG mode; use the mig backend, or switch it off: nvidia-smi -i GPU -mig 0"
    elif all(model_of(gpu.name, gpu.memory_mib) is None for gpu in gpus):
        yield f"no GPU is of a model that is known: {', '.join(gpu_models())}"
    else:
        reasons = [(gpu.number, _mps_reason(gpu)) for gpu in gpus]
        if all(reason for _, reason in reasons):
            yield "; ".join(f"GPU {number} {reason}" for number, reason in reasons)
    yield from _missing("models", ("torch",))


def _mps_reason(gpu: GpuFact) -> str | None:
    if gpu.mig == "on":
        return "is in MIG mode"
    return None if model_of(gpu.name, gpu.memory_mib) else f"is of no known model ({gpu.name})"


def _whole_or_lost(nvml: Nvml, number: int) -> GpuFact:
    """A GPU; one that does not answer hides no other."""
    try:
        return _gpu(nvml, number)
    except CloverError as error:
        return GpuFact(number, "unknown", "unknown", None, 0.0, "unknown", None, error.what)


def _gpu(nvml: Nvml, number: int) -> GpuFact:
    handle, api, where = nvml.handle(str(number)), nvml.api, f"GPU {number}"
    with explained("read the GPU's name and memory", where=where):
        name, uuid = str(api.nvmlDeviceGetName(handle)), str(api.nvmlDeviceGetUUID(handle))
        memory_mib = float(api.nvmlDeviceGetMemoryInfo(handle).total) / 2**20
    model, slices, trouble = None, None, None
    try:
        card = MigCard(nvml, str(number))
        model = card.model
        slices = len(card.instances())
    except CloverError as error:
        trouble = f"{error.what}; {error.fix}" if error.fix else error.what
    return GpuFact(number, name, uuid, model, memory_mib, _mode(nvml, number), slices, trouble)


def _mode(nvml: Nvml, number: int) -> MigMode:
    try:
        with explained("read the MIG mode"):
            current, pending = nvml.api.nvmlDeviceGetMigMode(nvml.handle(str(number)))
    except NvmlFailure as error:
        return "not supported" if error.code == NOT_SUPPORTED else "unknown"
    if current == pending:
        return "on" if current else "off"
    return "on after a reset" if pending else "off after a reset"
