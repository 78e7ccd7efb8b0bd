"""Telemetry against a stand-in NVML."""

from tests.serving.nvml_kit import fake, library, nvml

__all__ = ["fake", "library", "nvml"]
