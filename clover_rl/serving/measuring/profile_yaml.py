"""A measured profile as the YAML file that `load_profile` reads, every number with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping

from clover_rl.serving.measuring.fitted import Fitted
from clover_rl.serving.measuring.plan import FITTED, KEPT_OUT

__all__ = ["profile_yaml"]


def profile_yaml(
    fitted: Fitted, *, application: str, card: Mapping[str, str], command: str, date: str
) -> str:
    """The file's text.

    Args:
        fitted: the profile and its errors.
        application: name or file of the application, as the file is to name it.
        card: what was measured on, with which versions.
        command: that measured.
        date: of the measurement.
    """
    profile, law, errors = fitted.profile, fitted.profile.interference, fitted.kept_out
    assert law is not None
    power, times = profile.power, profile.times
    on = f"{card['name']} under MPS, {date}, torch {card['torch']}, driver {card['driver']}"
    duty = max((abs(error) for error in fitted.duty), default=0.0)
    kept = (
        f"{errors.tests} tests of mixed configurations on {', '.join(KEPT_OUT)} were kept out; off: "
        f"slowdown {errors.slowdown_error_mean:.1%} on average, {errors.slowdown_error_p95:.1%} at the 95th "
        f"percentile, power {errors.power_error_mean:.1%} and {errors.power_error_p95:.1%}"
    )
    lines = [
        f"# {profile.application.title}, on an {card['name']}, slices made with MPS. Made by",
        f"#   {command}",
        "# One process per slice, random weights, fp16, one CUDA graph per variant between pinned buffers;",
        "# a time is that of the model's answer in its process, copies included; watts: the energy counter.",
        f"name: {profile.name}",
        f"gpu: {profile.gpu.name}",
        f"application: {application}",
        f"partition: {profile.partition}",
        "service_ms:",
        _source("measured", f"{on}: each pair alone on the card"),
        "  values:",
        *(
            f"    {variant}: {_flow(_scaled(row), '.3f')}"
            for variant, row in _ordered(profile.service_s, profile.gpu.slices)
        ),
        "energy_j:",
        _source("measured", "as service_ms: whole-card energy above the layout's idle power, per request"),
        "  values:",
        *(
            f"    {variant}: {_flow(row, '.4f')}"
            for variant, row in _ordered(profile.energy_j, profile.gpu.slices)
        ),
        "memory_mib:",
        _source(
            "measured", "NVML's used memory with one worker on an empty card, CUDA context and MPS included"
        ),
        f"  values: {_flow(profile.memory_mib, '.0f')}",
        "jitter:",
        f"  cv: {profile.jitter_cv:.3f}",
        _source("measured", "median of p95/p50 over the pairs alone on the card; 0 below 1.03"),
        "power:",
        f"  parked_w: {power.parked_w:.1f}",
        f"  idle_w: {power.idle_w:.1f}",
        f"  limit_w: {power.limit_w:.0f}",
        f"  slowdown_exponent: {power.slowdown_exponent:.2f}",
        _source(
            "measured",
            "parked before the first process, idle the median over layouts with contexts live, limit as the "
            f"card says; part load of one instance is off by {duty:.1%} at worst",
        ),
        "interference:",
        f"  sensitivity: {_flow(law.sensitivity, '.3f')}",
        f"  pressure: {_flow(law.pressure, '.3f')}",
        f"  sms: {_flow(law.sms, 'd')}",
        f"  gpu_sms: {law.gpu_sms}",
        f"  own_exponent: {law.own_exponent}",
        _source(
            "measured",
            f"fitted on {' and '.join(FITTED)}, own_exponent as EfficientNet's and ALBERT's; {kept}",
        ),
        "times:",
        f"  create_s: {times.create_s:.3f}",
        f"  destroy_s: {times.destroy_s:.4f}",
        f"  load_s: {_flow(times.load_s, '.1f')}",
        f"  create_provenance: {_text('measured', 'MPS: the daemon is asked, and the books are kept')}",
        f"  load_provenance: {_text('measured', 'one worker, from start to ready, imports included')}",
        "",
    ]
    return "\n".join(lines)


def _text(kind: str, source: str) -> str:
    return f'{{kind: {kind}, source: "{source}"}}'


def _source(kind: str, source: str) -> str:
    return f"  provenance: {_text(kind, source)}"


def _flow(row: Mapping[str, float], form: str) -> str:
    return "{" + ", ".join(f"{key}: {value:{form}}" for key, value in row.items()) + "}"


def _scaled(row: Mapping[str, float]) -> dict[str, float]:
    return {key: 1000.0 * value for key, value in row.items()}


def _ordered(
    table: Mapping[str, Mapping[str, float]], slices: Mapping[str, object]
) -> list[tuple[str, dict[str, float]]]:
    """Rows with the largest slice first."""
    return [(v, {name: row[name] for name in slices if name in row}) for v, row in table.items()]
