"""Carbon: grams from energy, and the Software Carbon Intensity of ISO/IEC 21031."""

from __future__ import annotations

__all__ = ["JOULES_PER_KWH", "carbon_g", "sci_g_per_request"]

JOULES_PER_KWH = 3.6e6


def carbon_g(energy_j: float, intensity_g_per_kwh: float, pue: float = 1.0) -> float:
    """Operational carbon, gCO2, of energy drawn by the hardware at a grid's intensity."""
    return energy_j / JOULES_PER_KWH * pue * intensity_g_per_kwh


def sci_g_per_request(operational_g: float, embodied_g: float, requests: int) -> float:
    """Software Carbon Intensity, (O + M) / R of ISO/IEC 21031:2024, with a request as functional unit.

    Args:
        operational_g: operational carbon over a time, gCO2.
        embodied_g: share of the hardware's embodied carbon over the same time, gCO2.
        requests: requests answered in that time; at zero the result is infinite.
    """
    return (operational_g + embodied_g) / requests if requests else float("inf")
