"""Validation: measured mixes of instances on a real card, replayed against a profile's laws, and the fits."""

from clover_rl.simulation.validation.crossfit import MIXED_LAYOUTS, PROFILES, CrossFit, cross_fits
from clover_rl.simulation.validation.disagreement import ComparedPair, compare_pairs
from clover_rl.simulation.validation.fit import fit_laws
from clover_rl.simulation.validation.measurements import (
    MeasuredInstance,
    Mix,
    match_profiles,
    other_card_measurements,
    packaged_measurements,
    read_mixes,
)
from clover_rl.simulation.validation.mig import mig_twin
from clover_rl.simulation.validation.replay import Errors, Replayed, replay, replay_mixes, summary

__all__ = [
    "MIXED_LAYOUTS",
    "PROFILES",
    "ComparedPair",
    "CrossFit",
    "Errors",
    "MeasuredInstance",
    "Mix",
    "Replayed",
    "compare_pairs",
    "cross_fits",
    "fit_laws",
    "match_profiles",
    "mig_twin",
    "other_card_measurements",
    "packaged_measurements",
    "read_mixes",
    "replay",
    "replay_mixes",
    "summary",
]
