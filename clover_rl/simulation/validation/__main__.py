"""`python -m clover_rl.simulation.validation`: the fitted and modelled numbers of H100 profiles, as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from clover_rl.cluster.profile_file import load_profile
from clover_rl.simulation.validation.crossfit import PROFILES
from clover_rl.simulation.validation.fit import fit_laws
from clover_rl.simulation.validation.measurements import match_profiles, packaged_measurements, read_mixes
from clover_rl.simulation.validation.mig import mig_twin
from clover_rl.simulation.validation.replay import replay

__all__: list[str] = []


def _print_row(indent: str, name: str, row: Mapping[str, str]) -> None:
    print(f"{indent}{name}: {{{', '.join(f'{key}: {value}' for key, value in row.items())}}}")


if __name__ == "__main__":
    profiles = [load_profile(name) for name in PROFILES]
    pairs = [p for path in packaged_measurements() for p in match_profiles(read_mixes(path), profiles)]
    for profile in profiles:
        mixes = [mix for owner, mix in pairs if owner is profile]
        fitted = fit_laws(mixes, profile)
        law = fitted.interference
        assert law is not None
        print(f"# {profile.name}: {asdict(replay(mixes, fitted))}")
        print(f"slowdown_exponent: {fitted.power.slowdown_exponent:.2f}")
        for name, values in (("sensitivity", law.sensitivity), ("pressure", law.pressure)):
            _print_row("", name, {key: f"{value:.3f}" for key, value in values.items()})
        twin = mig_twin(profile)  # of the shipped laws, not of the ones just fitted
        for name, table, bands, digits in (
            ("service_ms", twin.service_ms, twin.service_band, 2),
            ("energy_j", twin.energy_j, twin.energy_band, 3),
        ):
            print(f"{name}:  # of the MIG twin\n  values:")
            for variant, row in table.items():
                _print_row("    ", variant, {key: f"{value:.{digits}f}" for key, value in row.items()})
            print("  pairs:")
            for variant, ends in bands.items():
                texts = {
                    key: f"{{kind: modelled, band: [{low:.2f}, {high:.2f}]}}"
                    for key, (low, high) in ends.items()
                }
                _print_row("    ", variant, texts)
