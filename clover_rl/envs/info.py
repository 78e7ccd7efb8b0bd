"""What each key of an environment's info is, with its unit."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["INFO_KEYS", "REWARD_TERMS"]

INFO_KEYS: Mapping[str, tuple[str, str]] = {
    "w": ("1", "weight of carbon in this interval's reward; `reset` gives it too"),
    "sla_ms": ("ms", "bound on the p95; `reset` gives it too"),
    "reward_terms": ("1", "terms that sum to the reward"),
    "action": ("index", "configuration that was applied, as an index into the catalogue"),
    "action_valid": ("bool", "false where a masked action was chosen, and as little as possible changed"),
    "configuration": ("text", "the same: variant per slice per GPU, as `7g@0:B7 | parked`"),
    "p95_ms": ("ms", "p95 latency over the interval's requests; infinite where over 5 % timed out"),
    "sla_held": ("bool", "p95_ms <= sla_ms"),
    "accuracy": ("share", "weighted by the requests that each variant answered; BASE's without any"),
    "arrived": ("requests", "arrivals in the interval"),
    "answered": ("requests", "answers in the interval"),
    "timed_out": ("requests", "given up after the scenario's `timeout_s`"),
    "queued": ("requests", "still waiting at the interval's end"),
    "energy_j": ("J", "whole cluster, idle and parked GPUs included, without PUE"),
    "intensity": ("gCO2/kWh", "mean carbon intensity over the interval"),
    "carbon_g": ("gCO2", "energy x PUE x intensity"),
    "base_carbon_g": ("gCO2", "BASE's for the requests that arrived"),
}
"""Key -> (unit, meaning)."""

REWARD_TERMS: Mapping[str, str] = {
    "carbon": "w x dCarbon",
    "accuracy": "(1 - w) x dAccuracy",
    "penalty": "where the SLA is broken",
    "invalid": "where a masked action was chosen",
}
"""Keys of `reward_terms`."""
