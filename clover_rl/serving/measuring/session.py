"""open_campaign: the card, MPS and the driver, opened for a campaign and closed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clover_rl.cluster.application import Application
from clover_rl.cluster.gpu import GpuModel
from clover_rl.serving.measuring.campaign import Campaign
from clover_rl.serving.partition.mps import MpsPartition
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.nvml_errors import explained
from clover_rl.serving.telemetry.source import NvmlSource

__all__ = ["open_campaign"]

LIBRARIES = ("torch", "torchvision", "transformers")


@contextmanager
def open_campaign(
    application: Application,
    model: GpuModel,
    device: str,
    file: Path,
    *,
    report: Callable[[float, str], None],
) -> Iterator[Campaign]:
    """A campaign on one card, slices made with MPS.

    Args:
        application, model: what is measured, on which GPU model.
        device: number or UUID of the card.
        file: where results are kept.
        report: told (share of 1, remark).

    Raises:
        InputError: the card is not of that model, or the file is of another campaign.
        ServingError: MPS cannot be used.
        NvmlFailure: there is no driver, or the card cannot be asked.
    """
    with Nvml() as nvml:
        backend = MpsPartition(nvml, [device], model)
        try:
            source = NvmlSource(nvml, device, 0)
            with explained("read the power limit", where=f"device {device}"):
                limit_w = nvml.api.nvmlDeviceGetPowerManagementLimit(nvml.handle(device)) / 1000.0
            card = {
                "application": application.name,
                "model": model.name,
                "name": source.name.model,
                "uuid": source.name.uuid,
                "driver": nvml.driver,
                **{name: _version(name) for name in LIBRARIES},
            }
            yield Campaign(
                application, model, backend, source, card=card, limit_w=limit_w, file=file, report=report
            )
        finally:
            backend.close()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
