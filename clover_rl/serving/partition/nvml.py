"""Nvml: the driver's management library, opened, and the GPUs that it knows."""

from __future__ import annotations

from types import ModuleType, TracebackType
from typing import Any

from clover_rl.errors import InputError
from clover_rl.serving.partition.fake_nvml.folder import DRIVER_VERSION
from clover_rl.serving.partition.nvml_errors import INVALID_ARGUMENT, NOT_FOUND, NvmlFailure, explained

__all__ = ["Nvml"]


class Nvml:
    """An open session; close it, or use it in a `with` statement.

    Raises:
        MissingExtraError: nvidia-ml-py is not installed.
        NvmlFailure: there is no driver, or it cannot be spoken to.
    """

    def __init__(self) -> None:
        with explained("open the NVIDIA management library"):
            import pynvml

            pynvml.nvmlInit()
            self.api: ModuleType = pynvml
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        self._open = True

    @property
    def fake(self) -> bool:
        """Whether this is our stand-in: then nothing is measured."""
        return self.driver == DRIVER_VERSION

    def gpus(self) -> int:
        """How many GPUs there are.

        Raises:
            NvmlFailure: the driver does not say.
        """
        with explained("count the GPUs"):
            return int(self.api.nvmlDeviceGetCount())

    def handle(self, device: str) -> Any:
        """NVML's handle of a GPU.

        Args:
            device: its number, as nvidia-smi counts, or its UUID.

        Raises:
            InputError: there is no such GPU.
            NvmlFailure: it is lost.
        """
        try:
            with explained("open the GPU", where=f"device {device}"):
                if device.isdigit():
                    return self.api.nvmlDeviceGetHandleByIndex(int(device))
                return self.api.nvmlDeviceGetHandleByUUID(device)
        except NvmlFailure as error:
            if error.code in (INVALID_ARGUMENT, NOT_FOUND):
                raise InputError(
                    "there is no such GPU", where=f"device {device}", fix="clover-rl doctor lists them"
                ) from error
            raise

    def close(self) -> None:
        """End the session; handles are worth nothing afterwards."""
        if self._open:
            self._open = False
            with explained("close the NVIDIA management library"):
                self.api.nvmlShutdown()

    def __enter__(self) -> Nvml:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
