"""What NVML's error codes mean for an operator, and NvmlFailure, which says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clover_rl.errors import MissingExtraError, TransitionError

__all__ = [
    "INVALID_ARGUMENT",
    "IN_USE",
    "NOT_FOUND",
    "NOT_SUPPORTED",
    "NO_PERMISSION",
    "NvmlFailure",
    "explained",
]

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, IN_USE = 2, 3, 4, 6, 19

MEANINGS = {
    1: ("the NVIDIA management library was closed meanwhile", "start again"),
    INVALID_ARGUMENT: (
        "the driver calls an argument invalid",
        "check that the slice type exists on this card",
    ),
    NOT_SUPPORTED: (
        "the card or its driver does not support this, or MIG mode is off",
        "use a MIG-capable GPU and enable MIG mode: nvidia-smi -i GPU -mig 1",
    ),
    NO_PERMISSION: (
        "no permission",
        "run as root; in a container, with NVIDIA_MIG_CONFIG_DEVICES=all and the capability SYS_ADMIN",
    ),
    NOT_FOUND: ("it does not exist any more", "somebody else changed the card's slices; start again"),
    9: ("the NVIDIA driver is not loaded", "load it (nvidia-smi must work), or use --partition emulated"),
    10: ("the driver did not answer in time", "look into the kernel's log for Xid errors"),
    12: (
        "libnvidia-ml.so.1 was not found",
        "install the NVIDIA driver, or try without a GPU: see docs/mig.md on the stand-in",
    ),
    13: ("the driver is too old for this", "update the NVIDIA driver (MIG needs 450.80 or later)"),
    15: (
        "the GPU is lost (fallen off the bus)",
        "reset it or reboot the machine; its slices are gone then and are made again at the next start",
    ),
    16: (
        "the GPU must be reset first",
        "stop what uses it and run nvidia-smi --gpu-reset -i GPU, or reboot; its slices are gone then",
    ),
    18: ("driver and management library are of different versions", "reboot, or reload the driver"),
    IN_USE: (
        "somebody holds it open",
        "stop processes on the slice and monitoring agents that keep a handle (dcgm-exporter, nv-hostengine)",
    ),
    20: ("the driver is out of memory", "free memory of the host"),
    23: (
        "the card has no room for it beside the slices that exist",
        "remove what is in the way: nvidia-smi mig -lgi lists the GPU instances",
    ),
    27: ("the card is not ready", "wait for it and try again"),
}
"""NVML's return code -> what happened, what the operator must do."""


class NvmlFailure(TransitionError):
    """A call to NVML failed.

    Args:
        code: NVML's return code.
        doing: what was tried, as "make GPU instance 3g@4".
        where: on which GPU.
    """

    def __init__(self, code: int, doing: str, *, where: str | None = None) -> None:
        what, fix = MEANINGS.get(
            code, ("the driver reports an unknown error", "look into the kernel's log for Xid errors")
        )
        self.code = code
        super().__init__(f"could not {doing}: {what} (NVML code {code})", where=where, fix=fix)


@contextmanager
def explained(doing: str, *, where: str | None = None) -> Iterator[None]:
    """Turn NVML's errors within into NvmlFailure.

    Raises:
        NvmlFailure: a call failed.
        MissingExtraError: nvidia-ml-py is not installed.
    """
    try:
        import pynvml
    except ImportError:
        raise MissingExtraError("nvidia-ml-py not installed", fix="pip install 'clover-rl[gpu]'") from None
    try:
        yield
    except pynvml.NVMLError as error:
        raise NvmlFailure(int(error.value), doing, where=where) from error
